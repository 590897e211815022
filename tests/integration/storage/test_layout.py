"""What lies in Redis: how much of it, and that nothing stays for ever."""

import numpy as np
import pytest

from pba_service.domain.samples import LinkInfo, one_link_batch
from pba_service.storage import codec, keys, scripts
from pba_service.storage.connect import open_server
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import (
    DAY_MS,
    MINUTE_MS,
    NOW_MS,
    PATIENCE_S,
    Clock,
    commit,
    entry,
    minutes,
    prediction,
    read,
    samples,
)

HOUR_MS = 60 * MINUTE_MS
MARGIN_MS = HOUR_MS
"""What a bucket's key outlives its last sample by."""


@pytest.fixture
async def store(redis_server):
    one = RedisStore.connect(
        redis_server.url, max_samples=50_000, retention_ms=30 * DAY_MS, clock=Clock(NOW_MS), timeout_s=PATIENCE_S
    )
    yield one
    await one.close()


async def fill_month(store, link_id):
    """30 days at 60 s, ten samples at a time, each a little off the minute."""
    times = np.array(minutes(43_200)) - np.random.default_rng(1).integers(0, 2_000, 43_200)
    values = np.random.default_rng(2).random((43_200, 4), np.float32)
    for first in range(0, 43_200, 10):
        part = slice(first, first + 10)
        await store.put(one_link_batch(LinkInfo(link_id), times[part], values[part]))


async def test_a_month_of_a_link_takes_less_than_24_bytes_a_sample(redis_server, store):
    await store.put(samples("warm", minutes(2)))  # scripts and buffers are paid once
    before = redis_server.client.info("memory")["used_memory"]

    await fill_month(store, "a")

    used = redis_server.client.info("memory")["used_memory"] - before
    assert used / 43_200 < 24
    assert redis_server.client.dbsize() < 200
    assert len(await read(store, "a")) == 43_200


async def test_every_key_of_a_link_expires(redis_server, store):
    await store.put(samples("a", minutes(1_000), node="n", region="r"))
    await store.commit([commit("a", newest=prediction("a"), ledger=[entry(time_ms) for time_ms in minutes(3_000)])])
    await store.put(samples("a", [NOW_MS - 20 * DAY_MS]))

    client = redis_server.client
    left_ms = {key.decode(): client.pttl(key) for key in client.scan_iter("pba:{*")}

    def until_ms(bucket):
        return (bucket + 1) * 4 * HOUR_MS + 30 * DAY_MS + MARGIN_MS - NOW_MS

    newest = NOW_MS // (4 * HOUR_MS)
    old = (NOW_MS - 20 * DAY_MS) // (4 * HOUR_MS)
    assert {"pba:{a}:m", "pba:{a}:s", "pba:{a}:v", f"pba:{{a}}:h:{newest}", f"pba:{{a}}:h:{old}"} < left_ms.keys()
    for key, wanted_ms in {
        f"pba:{{a}}:h:{newest}": until_ms(newest),
        f"pba:{{a}}:h:{old}": until_ms(old),
        "pba:{a}:m": until_ms(newest),
        "pba:{a}:s": until_ms(newest),
    }.items():
        assert 0 <= wanted_ms - left_ms[key] < 60_000, key
    days = [key for key in left_ms if ":l:" in key]
    assert len(days) == 3
    for key in days:
        wanted_ms = (int(key.rsplit(":", 1)[1]) + 1) * DAY_MS + 7 * DAY_MS - NOW_MS
        assert 0 <= wanted_ms - left_ms[key] < 60_000
        # the keys are asked one after the other, a moment apart
        assert left_ms["pba:{a}:v"] >= left_ms[key] - 1_000


@pytest.mark.parametrize("foreign", [None, b"", b"x", b"\0\0\0\0v1"])
async def test_ledger_rows_keep_their_model_versions(redis_server, store, foreign):
    """The number of the newest row's version lies beside the state; where it does not, it is looked up."""
    versions = ["v1", "v1", "v2", "v1", "", "v2", "v2"]
    times = minutes(len(versions) * 600)[::600]  # over three days
    await store.put(samples("a", [NOW_MS]))
    for turn, (at_ms, version) in enumerate(zip(times, versions, strict=True)):
        one = commit("a", turn, newest=prediction("a"), ledger=[entry(at_ms, model_version=version)])
        assert await store.commit([one]) == [True]
        if turn == 3:
            assert redis_server.client.hget("pba:{a}:s", "m") == b"\0\0\0\0v1"
            redis_server.client.hdel("pba:{a}:s", "m")
            if foreign is not None:
                redis_server.client.hset("pba:{a}:s", "m", foreign)

    found = [one async for chunk in store.ledger("a", None, None) for one in chunk]
    assert [(one.target_ms, one.model_version) for one in found] == list(zip(times, versions, strict=True))


async def test_a_ledger_row_costs_a_read_and_an_append(redis_server, store):
    await store.put(samples("a", [NOW_MS]))
    await store.commit([commit("a", 0, newest=prediction("a"), ledger=[entry(NOW_MS - MINUTE_MS)])])
    redis_server.client.config_resetstat()

    await store.commit([commit("a", 1, newest=prediction("a"), ledger=[entry(NOW_MS)])])

    calls = {name[8:]: one["calls"] for name, one in redis_server.client.info("commandstats").items()}
    made = {"hmget": 1, "getrange": 1, "append": 1, "hset": 1, "xadd": 1}
    assert {name: calls[name] for name in made} == made
    assert not {"hget", "hlen", "pexpire", "get"} & calls.keys()


async def test_what_outlives_its_link_is_only_the_index_and_the_events(redis_server, store):
    await store.put(samples("a", [NOW_MS], region="r"))
    await store.commit([commit("a", newest=prediction("a"))])
    await store.check()

    client = redis_server.client
    immortal = {key for key in client.scan_iter() if client.pttl(key) < 0}

    assert immortal == {b"pba:links", b"pba:region:r", b"pba:events"}


async def test_the_stream_of_events_is_bounded(redis_server):
    server = open_server(redis_server.url, PATIENCE_S)
    blob = codec.encode_prediction(prediction("a"))

    await server.run(scripts.ANNOUNCE, [([keys.EVENTS], [b"token", *[blob] * 1_000])] * 320)
    assert 100 <= redis_server.client.xlen("pba:events") < 300  # of 1,000 predictions each

    await server.run(scripts.ANNOUNCE, [([keys.EVENTS], [b"token", blob])] * 12_000)
    assert 10_000 <= redis_server.client.xlen("pba:events") < 10_400  # of one each
    await server.close()


async def test_a_long_put_is_cut_so_that_others_get_their_turn(redis_server, store):
    """No single call keeps the server busy for long."""
    redis_server.client.config_resetstat()

    await store.put(samples("a", minutes(43_000)))

    stats = redis_server.client.info("commandstats")
    runs = [stats[name] for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats]
    assert sum(one["calls"] for one in runs) >= 43_000 // 2_000
    assert max(one["usec_per_call"] for one in runs) < 50_000  # about a thousand on a machine at rest
