"""Sentinels that name another primary, and a Cluster whose slots move."""

import asyncio
import contextlib

import pytest

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage import address
from pba_service.storage.codec import encode_prediction
from pba_service.storage.connect import open_server
from pba_service.storage.events import follow
from pba_service.storage.redis_store import RedisStore
from pba_service.storage.server import StandaloneServer
from tests import servers
from tests.conformance.test_commits import Follower
from tests.conformance.tools import (
    DAY_MS,
    NOW_MS,
    PATIENCE_S,
    Clock,
    commit,
    list_ids,
    minutes,
    prediction,
    read,
    samples,
)


def connect(url, timeout_s=PATIENCE_S):
    clock = Clock(NOW_MS)
    return RedisStore.connect(url, max_samples=50_000, retention_ms=30 * DAY_MS, clock=clock, timeout_s=timeout_s)


class Forgetful(StandaloneServer):
    """A server whose place another one may take."""

    forgets_last_writes = True


@pytest.mark.parametrize("set_by_ms", [DAY_MS // 24, -DAY_MS // 24], ids=["forward", "back"])
async def test_what_was_stored_last_is_stored_again_though_the_clock_is_set(redis_server, set_by_ms):
    clock = Clock(NOW_MS)
    server = Forgetful(address.parse(redis_server.url).options, PATIENCE_S)
    store = RedisStore(server, max_samples=50_000, retention_ms=30 * DAY_MS, clock=clock)
    await store.put(samples("a", [NOW_MS]))
    clock.now_ms += set_by_ms
    await store.put(samples("b", [NOW_MS]))

    redis_server.client.flushall()  # another server takes over, which has none of it
    await server.on_failover()

    assert [len(await read(store, link_id)) for link_id in "ab"] == [1, 1]
    await store.close()


class Pusher:
    """Pushes one sample after the other, each until it is acknowledged, and knows which were."""

    def __init__(self, store):
        self._store = store
        self._task = asyncio.create_task(self._push())
        self.acknowledged = []
        self.refusals = 0

    async def _push(self):
        for i in range(1_000_000):
            try:
                await self._store.put(samples("a", [NOW_MS - i], [i]))
            except StoreUnavailableError:
                self.refusals += 1
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append(NOW_MS - i)

    async def more(self, count):
        """Returns when so many more have been acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(30):
            while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - a helper of tests may poll
                await asyncio.sleep(0.01)

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
def group():
    with servers.sentinels() as one:
        yield one


@pytest.fixture
async def store(group):
    one = connect(group.url, timeout_s=2.0)
    yield one
    await one.close()


async def all_there(store, acknowledged):
    """Waits until each acknowledged sample is there: what a failover forgot is written again."""
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                missing = set(acknowledged) - set((await read(store, "a")).times_ms.tolist())
                if not missing:
                    return
            await asyncio.sleep(0.1)


async def test_a_planned_failover_costs_no_acknowledged_sample(group, store):
    pusher = Pusher(store)
    await pusher.more(200)

    await asyncio.to_thread(group.fail_over)
    await pusher.more(200)
    await pusher.stop()

    now_there = connect(group.primary.url)
    try:
        await all_there(now_there, pusher.acknowledged)
        times = (await read(now_there, "a")).times_ms.tolist()
        assert len(times) == len(set(times))
    finally:
        await now_there.close()


async def test_a_primary_that_is_killed_is_replaced(group, store):
    pusher = Pusher(store)
    async with Follower(store) as follower:
        await pusher.more(100)
        first = group.primary

        first.kill()
        await pusher.more(100)  # which takes the failover, some seconds
        await pusher.stop()

        await all_there(store, pusher.acknowledged)
        assert group.primary is not first
        other = connect(group.url)
        await other.commit([commit("a", newest=prediction("a", bandwidth=7))])
        await follower.hears("a", 7)
        await other.close()


async def test_sentinels_that_do_not_know_the_service_make_it_unavailable(group):
    store = connect(group.url.replace(servers.SERVICE, "nobody"))

    with pytest.raises(StoreUnavailableError):
        await store.check()
    await store.close()


async def test_one_sentinel_is_enough_to_begin_with(group):
    [first, *_] = group.watchers
    first.kill()
    store = connect(group.url)

    await store.check()
    await store.close()


@pytest.fixture
def cluster_of_its_own():
    with servers.cluster() as group:
        yield group


async def test_a_link_that_moves_to_another_node_is_followed(cluster_of_its_own):
    store = connect(cluster_of_its_own.url)
    await store.put(samples("a", minutes(10)))

    # not on the cluster that tests share: its nodes dispute a slot that is given back by hand for a while
    _, target = servers.move(cluster_of_its_own, "pba:{a}:m")

    assert not (await store.put(samples("a", [NOW_MS + 1]))).outcomes.any()
    assert await store.commit([commit("a", newest=prediction("a"))]) == [True]
    assert len(await read(store, "a")) == 11
    assert target.client.exists("pba:{a}:m")
    await store.close()


async def test_what_a_writer_on_a_cluster_died_before_announcing_is_found(redis_cluster):
    store = connect(redis_cluster.url)
    server = open_server(redis_cluster.url, timeout_s=0.4)
    await store.put(samples("a", [NOW_MS]))

    async def everything():
        yield [one for one in await store.newest(["a"]) if one]

    stream = follow(server, everything, reconcile_every_s=0.1)
    assert await anext(stream) == []
    _, node = servers.slot_and_owner(redis_cluster, "pba:{a}:s")
    node.client.hset("pba:{a}:s", "p", encode_prediction(prediction("a", bandwidth=3)))

    async with asyncio.timeout(5):
        while not (heard := await anext(stream)):
            pass
    assert heard[0].same_as(prediction("a", bandwidth=3))
    await stream.aclose()
    await server.close()
    await store.close()


async def test_links_of_living_nodes_are_served_while_a_node_is_dead(cluster_of_its_own):
    group = cluster_of_its_own
    for node in group.nodes:
        node.client.config_set("cluster-require-full-coverage", "no")
    store = connect(group.url, timeout_s=2.0)
    links = [f"link-{i}" for i in range(30)]
    for link_id in links:
        await store.put(samples(link_id, [NOW_MS]))
    keepers = {servers.slot_and_owner(group, key)[1] for key in ("pba:links", "pba:events", "pba:check")}
    dead = next(node for node in group.nodes if node not in keepers)
    served = [link_id for link_id in links if servers.slot_and_owner(group, f"pba:{{{link_id}}}:m")[1] is not dead]
    lost = [link_id for link_id in links if link_id not in served]
    assert served
    assert lost

    dead.kill()

    for link_id in served[:5]:
        assert len(await read(store, link_id)) == 1
        assert not (await store.put(samples(link_id, [NOW_MS + 1]))).outcomes.any()
    with pytest.raises(StoreUnavailableError):
        await store.put(samples(lost[0], [NOW_MS + 1]))

    dead.start()
    await asyncio.to_thread(servers.wait_until, lambda: dead.client.cluster("info")["cluster_state"] == "ok")
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await store.put(samples(lost[0], [NOW_MS + 1]))
                break
    assert lost[0] in await list_ids(store)
    await store.close()


@pytest.mark.parametrize("key", ["pba:{a}:m", "pba:links"])
async def test_a_node_of_a_cluster_that_hangs_is_replaced(key):
    """It does not say that another has taken its place, as one that was killed and comes back would."""
    with servers.cluster(replicated=True) as group:
        store = connect(group.url, timeout_s=1.0)
        await store.put(samples("a", [NOW_MS]))
        place = group.nodes.index(servers.slot_and_owner(group, key)[1])

        group.nodes[place].freeze()
        heir = group.replicas[place].client
        await asyncio.to_thread(servers.wait_until, lambda: heir.info("replication")["role"] == "master")

        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(StoreUnavailableError):
                    await store.put(samples("b", [NOW_MS]))
                    await store.put(samples("a", [NOW_MS + 1]))
                    break
        assert len(await read(store, "a")) == 2
        assert await list_ids(store) == ["a", "b"]
        await store.close()


async def test_primaries_are_asked_where_they_are_though_nothing_else_is():
    with servers.cluster(replicated=True) as group:
        server = open_server(group.url, timeout_s=PATIENCE_S)
        assert len(await server.each_primary([("PING",)])) == 3

        group.nodes[0].kill()
        heir = group.replicas[0]
        await asyncio.to_thread(servers.wait_until, lambda: heir.client.info("replication")["role"] == "master")

        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(StoreUnavailableError):
                    answers = await server.each_primary([("PING",)])
                    break
        assert f"127.0.0.1:{heir.port}" in [name for name, _ in answers]
        await server.close()
