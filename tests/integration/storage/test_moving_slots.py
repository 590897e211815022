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


class Move:
    """The slot of a key on its way to the next node."""

    def __init__(self, group, key):
        self._group = group
        self._slot, self._source = servers.slot_and_owner(group, key)
        self._target = group.nodes[(group.nodes.index(self._source) + 1) % len(group.nodes)]
        self._ids = {node: self._ask(node, "MYID").decode() for node in group.nodes}
        self._ask(self._target, "SETSLOT", self._slot, "IMPORTING", self._ids[self._source])
        self._ask(self._source, "SETSLOT", self._slot, "MIGRATING", self._ids[self._target])

    def _ask(self, node, *command):
        return node.client.execute_command("CLUSTER", *command)

    def carry(self, *keys):
        """Moves some of its keys; by default all."""
        keys = keys or self._ask(self._source, "GETKEYSINSLOT", self._slot, 1_000)
        self._source.client.execute_command("MIGRATE", "127.0.0.1", self._target.port, "", 0, 5_000, "KEYS", *keys)

    def end(self):
        """Moves what is left, and gives the slot to the node."""
        self.carry()
        for node in (self._target, self._source, *self._group.nodes):
            self._ask(node, "SETSLOT", self._slot, "NODE", self._ids[self._target])


@pytest.mark.parametrize("carried", [[], ["pba:{a}:m"], ["pba:{a}:s"]])
async def test_a_link_on_its_way_keeps_its_samples(group, carried):
    store = connect(group.url)
    await store.put(samples("a", minutes(10)))
    await store.commit([commit("a", newest=prediction("a"))])
    move = Move(group, "pba:{a}:m")
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
    move = Move(group, "pba:{a}:m")

    with pytest.raises(StoreUnavailableError):
        await store.put(samples("a", [NOW_MS + 1]))
    with pytest.raises(StoreUnavailableError):
        await store.newest(["a"])
    assert not (await store.put(samples("b", [NOW_MS]))).outcomes.any()

    move.end()
    assert len(await read(store, "a")) == 10
    assert (await store.newest(["a"]))[0].same_as(prediction("a"))
    await store.close()
