"""A Cluster's slot that is on its way from one node to another, while its links are written and read."""

import asyncio

import pytest

from pba_service.domain.errors import StoreUnavailableError
from tests import servers
from tests.conformance.tools import NOW_MS, commit, minutes, prediction, read, samples
from tests.integration.storage.test_failover import connect


@pytest.fixture
def group():
    with servers.cluster() as one:
        yield one


@pytest.mark.parametrize("carried", [[], ["pba:{a}:m"], ["pba:{a}:s"]])
async def test_a_link_on_its_way_keeps_its_samples(group, carried):
    store = connect(group.url)
    await store.put(samples("a", minutes(10)))
    await store.commit([commit("a", newest=prediction("a"))])
    move = servers.Move(group, "pba:{a}:m")
    if carried:
        move.carry(*carried)

    pushed = asyncio.create_task(store.put(samples("a", [NOW_MS + 1])))
    await asyncio.sleep(0.3)
    move.end()

    assert not (await pushed).outcomes.any()
    assert len(await read(store, "a")) == 11
    assert await store.commit([commit("a", read_version=1, newest=prediction("a", NOW_MS + 1))]) == [True]
    await store.close()


async def test_a_link_that_stays_on_its_way_is_away_and_others_are_not(group):
    store = connect(group.url, timeout_s=1.0)
    await store.put(samples("a", minutes(10)))
    await store.commit([commit("a", newest=prediction("a"))])
    move = servers.Move(group, "pba:{a}:m")

    with pytest.raises(StoreUnavailableError):
        await store.put(samples("a", [NOW_MS + 1]))
    with pytest.raises(StoreUnavailableError):
        await store.newest(["a"])
    assert not (await store.put(samples("b", [NOW_MS]))).outcomes.any()

    move.end()
    assert len(await read(store, "a")) == 10
    assert (await store.newest(["a"]))[0].same_as(prediction("a"))
    await store.close()


async def test_a_link_on_its_way_to_a_node_without_a_slot_waits(group):
    store = connect(group.url)
    await store.put(samples("a", minutes(10)))
    with servers.joined(group) as node:
        move = servers.Move(group, "pba:{a}:m", node)
        move.carry()

        pushed = asyncio.create_task(store.put(samples("a", [NOW_MS + 1])))
        await asyncio.sleep(0.3)
        move.end()

        assert not (await pushed).outcomes.any()
        assert len(await read(store, "a")) == 11
        await store.close()


@pytest.mark.parametrize("key", ["pba:{a}:m", "pba:links"])
async def test_what_stays_on_its_way_to_a_node_without_a_slot_is_away(group, key):
    store = connect(group.url, timeout_s=1.0)
    await store.put(samples("a", minutes(10)))
    with servers.joined(group) as node:
        move = servers.Move(group, key, node)
        move.carry()

        with pytest.raises(StoreUnavailableError):
            await store.links(prefix="", region="", after="", limit=10)

        move.end()
        assert [one.info.link_id for one in await store.links(prefix="", region="", after="", limit=10)] == ["a"]
        await store.close()
