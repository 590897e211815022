"""The short way of storing, which only appends: what it leaves must be what the long way leaves."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pba_service.engine.ports import UNKNOWN_CHANGES, Outcome
from pba_service.storage import keys
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import (
    DAY_MS,
    MINUTE_MS,
    NOW_MS,
    PATIENCE_S,
    Clock,
    commit,
    list_ids,
    minutes,
    read,
    samples,
)

HOUR_MS = 60 * MINUTE_MS
COUNTERS = struct.Struct("<B4I5dI")


def connect(url, *, max_samples=50_000, retention_ms=30 * DAY_MS):
    return RedisStore.connect(
        url, max_samples=max_samples, retention_ms=retention_ms, clock=Clock(NOW_MS), timeout_s=PATIENCE_S
    )


@pytest.fixture
async def store(redis_server):
    one = connect(redis_server.url)
    yield one
    await one.close()


def everything_of(redis_server, link_id):
    """A link's counters, what it said of itself, and its samples, as they lie there."""
    base = keys.link_key(link_id)
    found = {key[len(base) :]: redis_server.client.get(key) for key in redis_server.client.keys(base + b":h:*")}
    return redis_server.client.hgetall(base + b":m") | found


async def told_of(store, link_id):
    """All that the store says of a link's samples."""
    [snapshot] = await store.snapshots([link_id], [DAY_MS])
    [summary] = [
        one for one in await store.links(prefix="", region="", after="", limit=9) if one.info.link_id == link_id
    ]
    info = summary.info
    return (
        [snapshot.changes, snapshot.oldest_ms, summary.sample_count, info.node, info.peer, info.region],
        summary.newest_sample.times_ms.tolist(),
        snapshot.recent.times_ms.tolist(),
        (await read(store, link_id)).times_ms.tolist(),
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from(["", "n1", "n2"]), st.sampled_from(["", "r1", "r2"])),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([12, 1_000]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_one_newest_sample_leaves_what_the_long_way_leaves(redis_server, said, max_samples):
    """Nearly every push brings one newest sample and takes a short way; with the sample before it as well it cannot."""
    redis_server.client.flushall()
    store = connect(redis_server.url, max_samples=max_samples)
    at_ms = NOW_MS - MINUTE_MS * sum(minutes for minutes, _, _ in said)
    before = None
    for turn, (later, node, region) in enumerate(said):
        at_ms += later * MINUTE_MS
        told = {"node": node, "region": region, "peer": "p" if turn else ""}
        short = await store.put(samples("short", [at_ms], [turn], **told))
        times = [at_ms] if before is None else [before, at_ms]
        long = await store.put(samples("long", times, [turn - 1, turn][-len(times) :], **told))
        assert short.changes.tolist() == long.changes.tolist()
        assert await told_of(store, "short") == await told_of(store, "long")
        before = at_ms
    for link_id in ("short", "long"):  # what comes again takes the long way, and the counters are written
        await store.put(samples(link_id, [at_ms], [turn], **told))
    left = everything_of(redis_server, "short"), everything_of(redis_server, "long")
    await store.close()
    assert left[0] == left[1]


async def test_a_long_row_of_single_samples_is_counted(redis_server, store):
    times = minutes(200)
    for turn, at_ms in enumerate(times):
        await store.put(samples("a", [at_ms], [turn], node="n"))
        if turn % 50 == 49:
            [snapshot] = await store.snapshots(["a"], [DAY_MS])
            assert snapshot.recent.times_ms.tolist() == times[: turn + 1]
    redis_server.client.config_resetstat()

    await store.put(samples("b", times, node="n"))
    for link_id in ("a", "b"):
        await store.put(samples(link_id, [times[-1]], [199], node="n"))

    a, b = everything_of(redis_server, "a"), everything_of(redis_server, "b")
    assert a[b"k"][:-4] == b[b"k"][:-4]  # all but the changes, which begin anywhere
    assert {key: rows for key, rows in a.items() if key[:1] == b":"} == {
        key: rows for key, rows in b.items() if key[:1] == b":"
    }


async def test_a_newest_sample_writes_nothing_but_itself(redis_server, store):
    await store.put(samples("a", [NOW_MS - MINUTE_MS], node="n", region="r"))
    counters = redis_server.client.hgetall("pba:{a}:m")
    redis_server.client.config_resetstat()

    await store.put(samples("a", [NOW_MS], node="n", region="r"))

    calls = {name[8:]: one["calls"] for name, one in redis_server.client.info("commandstats").items()}
    assert calls["append"] == 1
    assert not {"hset", "set", "setrange", "pexpire", "unlink"} & calls.keys()
    assert redis_server.client.hgetall("pba:{a}:m") == counters


async def test_a_late_text_does_not_replace_what_appended_samples_have_said(store):
    for at_ms in minutes(5):
        await store.put(samples("a", [at_ms], node="new"))
    await store.put(samples("a", [NOW_MS - 90_000], node="old"))

    assert [info.node for info in await store.link_infos(["a"])] == ["new"]


async def test_a_link_of_which_all_but_appended_samples_have_expired_is_alive(redis_server):
    store = connect(redis_server.url, retention_ms=HOUR_MS)
    first = NOW_MS // (4 * HOUR_MS) * 4 * HOUR_MS
    for at_ms in range(first, first + 90 * MINUTE_MS, MINUTE_MS):
        store._clock.now_ms = at_ms
        await store.put(samples("a", [at_ms]))
    store._clock.now_ms += 55 * MINUTE_MS

    assert await store.commit([commit("a")]) == [True]
    assert len(await read(store, "a")) == 6
    await store.close()


class TestWrittenByAnEarlierVersion:
    """It writes the counters with every sample, and knows nothing of what tells of appended ones."""

    async def test_counters_without_it_are_taken_as_they_are(self, redis_server, store):
        await store.put(samples("a", minutes(5)))
        redis_server.client.hdel("pba:{a}:m", "b")

        result = await store.put(samples("a", [NOW_MS + 1, NOW_MS + 2]))

        assert result.changes[0] != UNKNOWN_CHANGES
        assert (await read(store, "a")).times_ms.tolist() == [*minutes(5), NOW_MS + 1, NOW_MS + 2]

    async def test_while_both_run_no_sample_is_lost_and_counts_are_right(self, redis_server, store):
        client, key = redis_server.client, f"pba:{{a}}:h:{NOW_MS // (4 * HOUR_MS)}"
        for at_ms in minutes(3, NOW_MS - 2 * MINUTE_MS):
            await store.put(samples("a", [at_ms]))
        layout, n, *rest, changes = COUNTERS.unpack(client.hget("pba:{a}:m", "k"))
        rest[3] = float(NOW_MS - MINUTE_MS)
        client.append(key, struct.pack("<I4f", (NOW_MS - MINUTE_MS) % (4 * HOUR_MS), 7, 20, 0, float("nan")))
        client.hset("pba:{a}:m", "k", COUNTERS.pack(layout, n + 1, *rest, changes + 1))

        [summary] = await store.links(prefix="", region="", after="", limit=1)
        assert summary.sample_count == 4
        result = await store.put(samples("a", [NOW_MS]))
        assert result.changes.tolist() == [UNKNOWN_CHANGES]
        [summary] = await store.links(prefix="", region="", after="", limit=1)
        assert summary.sample_count == 5
        assert (await read(store, "a")).times_ms.tolist() == minutes(5)
        assert (await store.put(samples("a", [NOW_MS + 1]))).changes[0] != UNKNOWN_CHANGES


class TestForeign:
    @pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 9, bytes(9)])
    async def test_what_tells_of_appended_samples(self, redis_server, store, garbage):
        for at_ms in minutes(3):
            await store.put(samples("a", [at_ms]))
        redis_server.client.hset("pba:{a}:m", "b", garbage)

        await store.put(samples("a", [NOW_MS + 1]))

        assert (await read(store, "a")).times_ms.tolist() == [*minutes(3), NOW_MS + 1]
        [summary] = await store.links(prefix="", region="", after="", limit=1)
        assert summary.sample_count == 4

    @pytest.mark.parametrize("garbage", [b"x", b"x" * 20, b"\xff" * 60, bytes(20)])
    async def test_rows_after_those_of_ours(self, redis_server, store, garbage):
        for at_ms in minutes(3):
            await store.put(samples("a", [at_ms]))
        redis_server.client.append(f"pba:{{a}}:h:{NOW_MS // (4 * HOUR_MS)}", garbage)

        assert await store.snapshots(["a"], [0]) == [None]
        result = await store.put(samples("a", [NOW_MS + 1]))
        assert result.outcomes.tolist() == [Outcome.STORED]
        assert (await read(store, "a")).times_ms.tolist() == [NOW_MS + 1]
        assert await list_ids(store) == ["a"]

    async def test_a_bucket_that_is_gone_takes_new_samples(self, redis_server, store):
        for at_ms in minutes(3):
            await store.put(samples("a", [at_ms]))
        redis_server.client.delete(f"pba:{{a}}:h:{NOW_MS // (4 * HOUR_MS)}")

        for later in (1, 2, 3):
            await store.put(samples("a", [NOW_MS + later]))

        assert (await read(store, "a")).times_ms.tolist() == [NOW_MS + 1, NOW_MS + 2, NOW_MS + 3]
