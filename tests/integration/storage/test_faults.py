"""What happens when the server is away, slow, another one, or holds what is not ours."""

import asyncio
import contextlib
import time

import pytest
import structlog

from pba_service.domain.errors import LinkUnknownError, StoreUnavailableError
from pba_service.engine.ports import Outcome
from pba_service.storage.redis_store import RedisStore
from tests import servers
from tests.conformance.test_commits import Follower
from tests.conformance.tools import (
    DAY_MS,
    NOW_MS,
    PATIENCE_S,
    Clock,
    commit,
    entry,
    list_ids,
    minutes,
    prediction,
    read,
    read_ledger,
    samples,
    together,
)

DEADLINE_S = 3.0
"""The store's own deadline is 2 s; the rest is for a busy machine."""


def connect(url, timeout_s=2.0):
    clock = Clock(NOW_MS)
    return RedisStore.connect(url, max_samples=10_000, retention_ms=30 * DAY_MS, clock=clock, timeout_s=timeout_s)


@pytest.fixture
def server():
    """A server of the test's own, which keeps what it acknowledges."""
    with servers.standalone("--appendonly", "yes", "--appendfsync", "always") as one:
        yield one


@pytest.fixture
async def store(server):
    one = connect(server.url)
    yield one
    await one.close()


@pytest.fixture
async def plain_store(redis_server):
    one = connect(redis_server.url, timeout_s=PATIENCE_S)
    yield one
    await one.close()


async def each_method(store):
    """Calls everything the port has; yields the name and the failure of each."""
    calls = {
        "put": lambda: store.put(samples("a", [NOW_MS])),
        "snapshots": lambda: store.snapshots(["a"], [0]),
        "commit": lambda: store.commit([commit("a")]),
        "newest": lambda: store.newest(["a"]),
        "history": lambda: read(store, "a"),
        "ledger": lambda: read_ledger(store, "a"),
        "links": lambda: list_ids(store),
        "link_infos": lambda: store.link_infos(["a"]),
        "check": store.check,
    }
    for name, call in calls.items():
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError) as failure:
            await call()
        yield name, failure.value, time.monotonic() - started


async def test_while_the_server_is_dead_each_method_says_so_at_once(server, store):
    await store.put(samples("a", [NOW_MS]))
    server.kill()

    async for name, failure, took_s in each_method(store):
        assert took_s < DEADLINE_S, name
        assert str(failure) == "the store is unavailable"  # and neither host nor path


async def test_a_write_of_several_round_trips_fails_as_one(server, store):
    """And again as a whole: it may have been stored in part, and what is there is a duplicate then."""
    older, newer = (together(*(samples(f"link-{i}", [at]) for i in range(5_000))) for at in (NOW_MS - 1, NOW_MS))
    await store.put(older)
    server.freeze()
    try:
        with pytest.raises(StoreUnavailableError):
            await store.put(newer)
    finally:
        server.thaw()
    outcomes = (await store.put(newer)).outcomes
    assert set(outcomes.tolist()) <= {Outcome.STORED, Outcome.DUPLICATE}
    assert (await read(store, "link-4999")).times_ms.tolist() == [NOW_MS - 1, NOW_MS]


async def test_a_server_that_comes_back_is_used_again(server, store):
    await store.put(samples("a", minutes(100)))
    await store.commit([commit("a", newest=prediction("a"))])
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await store.put(samples("a", [NOW_MS + 1]))
    server.start()  # it has forgotten the scripts, but no sample

    assert (await store.put(samples("a", [NOW_MS]))).outcomes.tolist() == [2]
    assert len(await read(store, "a")) == 100
    assert (await store.newest(["a"]))[0].same_as(prediction("a"))
    await store.check()


async def test_calls_under_way_when_the_server_dies_end(server, store):
    async def push(i):
        for j in range(1_000):
            await store.put(samples(f"link-{i}", [NOW_MS - j]))

    pushing = [asyncio.create_task(push(i)) for i in range(20)]
    async with asyncio.timeout(5):
        while server.client.dbsize() < 20:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)

    server.kill()

    done, waiting = await asyncio.wait(pushing, timeout=DEADLINE_S + 1)
    assert not waiting
    assert {type(task.exception()) for task in done} == {StoreUnavailableError}


async def test_a_server_that_hangs_is_unavailable_within_the_deadline_and_used_again_after(server, store):
    await store.put(samples("a", [NOW_MS]))
    server.freeze()
    try:
        started = time.monotonic()
        results = await asyncio.gather(
            store.put(samples("a", [NOW_MS - 1])), store.newest(["a"]), store.check(), return_exceptions=True
        )
        assert time.monotonic() - started < DEADLINE_S
        assert [type(result) for result in results] == [StoreUnavailableError] * 3
    finally:
        server.thaw()

    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await store.check()
                break
    assert (await store.put(samples("a", [NOW_MS - 2]))).outcomes.tolist() == [0]


async def test_nobody_at_the_address_is_unavailable_not_a_crash():
    [port] = servers.free_ports(1)
    store = connect(f"redis://127.0.0.1:{port}")

    async for name, _, took_s in each_method(store):
        assert took_s < DEADLINE_S, name
    await store.close()


async def test_a_cluster_of_which_no_node_answers_is_unavailable_not_a_crash():
    with servers.cluster() as group:
        store = connect(group.url)
        await store.put(samples("a", [NOW_MS]))
        for node in group.nodes:
            node.kill()

        for one in (store, connect(group.url)):  # one that knows the nodes, and one that begins now
            async for name, failure, took_s in each_method(one):
                assert took_s < DEADLINE_S, name
                assert str(failure) == "the store is unavailable"
            await one.close()


async def test_a_wrong_password_is_unavailable(redis_server):
    store = connect(redis_server.url.replace("unix://", "unix://:wrong@"))

    with pytest.raises(StoreUnavailableError):
        await store.check()
    await store.close()


async def test_a_full_server_refuses_writes_and_goes_on_reading(redis_server, plain_store):
    await plain_store.put(samples("a", minutes(10)))
    redis_server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailableError):
            await plain_store.put(samples("a", [NOW_MS + 1]))
        with pytest.raises(StoreUnavailableError):
            await plain_store.check()
    finally:
        redis_server.client.config_set("maxmemory", 0)
    assert len(await read(plain_store, "a")) == 10


async def test_many_callers_share_few_connections(redis_server, plain_store):
    results = await asyncio.gather(*(plain_store.put(samples(f"{i}", [NOW_MS])) for i in range(200)))

    assert not any(result.outcomes.any() for result in results)
    assert redis_server.client.info("clients")["connected_clients"] <= 40


async def test_an_emptied_server_begins_anew(redis_server, plain_store):
    await plain_store.put(samples("a", minutes(5), region="r"))
    await plain_store.commit([commit("a", newest=prediction("a"))])
    redis_server.client.flushall()
    redis_server.client.script_flush()

    with pytest.raises(LinkUnknownError):
        await read(plain_store, "a")
    assert not (await plain_store.put(samples("a", minutes(5), region="r"))).outcomes.any()
    assert await list_ids(plain_store) == ["a"]
    assert await list_ids(plain_store, region="r") == ["a"]


class TestForeignData:
    @pytest.mark.parametrize("key", ["m", "s", "h"])
    async def test_a_key_of_another_type_hides_one_link_and_is_replaced(self, redis_server, plain_store, key):
        await plain_store.put(together(samples("a", minutes(5)), samples("b", minutes(5))))
        await plain_store.commit([commit("a", newest=prediction("a")), commit("b", newest=prediction("b"))])
        name = {"h": f"h:{NOW_MS // 14_400_000}"}.get(key, key)
        redis_server.client.delete(f"pba:{{a}}:{name}")
        redis_server.client.lpush(f"pba:{{a}}:{name}", "not ours")

        a, b = await plain_store.snapshots(["a", "b"], [DAY_MS, DAY_MS])
        assert a is None
        assert len(b.recent) == 5
        assert await plain_store.commit([commit("b", 1)]) == [True]
        assert "b" in await list_ids(plain_store)

        await plain_store.put(together(samples("a", minutes(3)), samples("b", minutes(3))))
        if key != "s":
            assert len(await read(plain_store, "a")) >= 3
        assert len(await read(plain_store, "b")) == 5

    @pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 57, b"\x02" + b"\0" * 56])
    async def test_counters_that_are_not_ours(self, redis_server, plain_store, garbage):
        await plain_store.put(samples("a", minutes(5)))
        redis_server.client.hset("pba:{a}:m", "k", garbage)

        assert await plain_store.snapshots(["a"], [0]) == [None]
        assert await list_ids(plain_store) == []

        await plain_store.put(samples("a", minutes(3)))
        assert len(await read(plain_store, "a")) == 3
        assert await list_ids(plain_store) == ["a"]

    @pytest.mark.parametrize("garbage", [b"", b"x" * 7, b"\xff" * 47])
    async def test_rows_that_are_not_ours(self, redis_server, plain_store, garbage):
        await plain_store.put(samples("a", minutes(5)))
        redis_server.client.set(f"pba:{{a}}:h:{NOW_MS // 14_400_000}", garbage)

        [a] = await plain_store.snapshots(["a"], [DAY_MS])
        assert a is None or not len(a.recent)
        await plain_store.put(samples("a", [NOW_MS + 1, NOW_MS + 2]))
        [a] = await plain_store.snapshots(["a"], [1])
        assert a.recent.times_ms.tolist() == [NOW_MS + 1, NOW_MS + 2]

    async def test_a_prediction_a_state_and_a_ledger_that_are_not_ours(self, redis_server, plain_store):
        await plain_store.put(samples("a", minutes(5)))
        await plain_store.commit([commit("a", newest=prediction("a"), ledger=[entry(NOW_MS)])])
        redis_server.client.hset("pba:{a}:s", "p", "not ours")
        redis_server.client.set(f"pba:{{a}}:l:{NOW_MS // DAY_MS}", "not ours")

        assert await plain_store.newest(["a"]) == [None]
        [snapshot] = await plain_store.snapshots(["a"], [0])
        assert snapshot.newest is None
        assert snapshot.state.version == 1
        assert await read_ledger(plain_store, "a") == []

        redis_server.client.hset("pba:{a}:s", "v", "not ours")
        assert await plain_store.snapshots(["a"], [0]) == [None]

    async def test_an_announcement_that_is_not_ours_is_passed_over(self, redis_server, plain_store):
        await plain_store.put(samples("a", [NOW_MS]))
        async with Follower(plain_store) as follower:
            redis_server.client.xadd("pba:events", {"p": "not ours"})
            redis_server.client.xadd("pba:events", {"x": "y", "z": ""})
            await plain_store.commit([commit("a", newest=prediction("a"))])

            assert await follower.wait_for(1) == [("a", 100.0)]


class TestAnnouncements:
    async def test_what_is_committed_while_a_reader_is_cut_off_reaches_it(self, redis_server, plain_store):
        other = connect(redis_server.url)
        await other.put(together(samples("a", [NOW_MS]), samples("b", [NOW_MS])))
        async with Follower(plain_store) as follower:
            for i in range(5):
                redis_server.client.client_kill_filter(_type="normal", skipme=True)
                await other.commit([commit("a", i, newest=prediction("a", bandwidth=i))])
                await follower.hears("a", i)
        await other.close()

    async def test_a_reader_survives_a_server_that_is_killed(self, server, store):
        await store.put(samples("a", [NOW_MS]))
        async with Follower(store) as follower:
            await store.commit([commit("a", newest=prediction("a", bandwidth=1))])
            await follower.wait_for(1)
            server.kill()
            server.start()
            other = connect(server.url)
            await other.commit([commit("a", 1, newest=prediction("a", bandwidth=2))])
            await other.close()

            await follower.hears("a", 2)

    async def test_a_reader_survives_a_server_that_hangs(self, server, store):
        other = connect(server.url)
        await other.put(samples("a", [NOW_MS]))
        async with Follower(store) as follower:
            server.freeze()
            with structlog.testing.capture_logs() as logs:
                async with asyncio.timeout(5):  # until the reader has given up waiting for an answer
                    while not logs:  # noqa: ASYNC110 - the log is all there is to see
                        await asyncio.sleep(0.05)
            server.thaw()
            await other.commit([commit("a", newest=prediction("a", bandwidth=2))])

            await follower.hears("a", 2)
        await other.close()

    async def test_a_reader_may_come_before_the_server(self, server, store):
        server.kill()
        stream = store.announcements()
        first = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.1)
        assert not first.done()

        server.start()

        assert await asyncio.wait_for(first, 5) == []
        await stream.aclose()


@pytest.mark.parametrize("foreign", [b"x" * 20, b"\xff" * 60])
async def test_foreign_rows_are_not_appended_to(redis_server, plain_store, foreign):
    """Also where they are as long as rows of ours."""
    await plain_store.put(samples("a", [NOW_MS - 1]))
    [key] = redis_server.client.keys("pba:{a}:h:*")
    redis_server.client.set(key, foreign)
    await plain_store.put(samples("a", [NOW_MS]))
    assert foreign not in (redis_server.client.get(key) or b"")
