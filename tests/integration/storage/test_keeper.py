"""The durability that is wanted, against real servers that have it, lose it, or do not say."""

import asyncio

import pytest

from pba_service.domain.errors import DurabilityUnmetError, StoreUnavailableError
from pba_service.storage.connect import open_server
from pba_service.storage.durability import Durability
from pba_service.storage.keeper import Keeper
from pba_service.storage.redis_store import RedisStore
from tests import servers
from tests.conformance.tools import DAY_MS, NOW_MS, Clock, samples


@pytest.fixture
async def keeper_of():
    opened = []

    def keeper_of(url, wanted, replicas=1, timeout_s=1.0):
        opened.append(open_server(url, timeout_s))
        return Keeper(opened[-1], wanted, replicas)

    yield keeper_of
    for server in opened:
        await server.close()


async def test_a_server_that_keeps_less_than_is_wanted_is_refused_until_it_keeps_it(keeper_of):
    with servers.standalone("--appendonly", "yes", "--appendfsync", "everysec") as server:
        keeper = keeper_of(server.url, Durability.ALWAYS)
        assert (await keeper.verify()).given is Durability.EVERYSEC
        with pytest.raises(DurabilityUnmetError) as refused:
            await keeper.keep(samples("a", [NOW_MS]))
        assert "appendfsync" in refused.value.reasons[0]

        server.client.config_set("appendfsync", "always")
        assert (await keeper.verify()).given is Durability.ALWAYS
        await keeper.keep(samples("a", [NOW_MS]))


async def test_nothing_is_refused_when_nothing_is_wanted(keeper_of, redis_server):
    keeper = keeper_of(redis_server.url, Durability.AUTO)
    assert (await keeper.verify()).given is Durability.MEMORY
    await keeper.keep(samples("a", [NOW_MS]))


async def test_a_server_that_forbids_config_is_believed_and_that_is_said(keeper_of):
    with servers.standalone("--appendonly", "yes", "--rename-command", "CONFIG", "") as server:
        verdict = await keeper_of(server.url, Durability.ALWAYS).verify()
        assert not verdict.unmet
        assert any("CONFIG" in text for text in verdict.unknown)


@pytest.mark.parametrize("wanted", Durability)
async def test_a_server_that_forbids_info_too_is_believed_and_that_is_said(keeper_of, wanted):
    with servers.standalone() as server:
        server.client.execute_command("ACL", "SETUSER", "default", "-info", "-config")
        verdict = await keeper_of(server.url, wanted).verify()
        assert not verdict.unmet
        assert any("does not say" in text for text in verdict.unknown)


async def test_a_server_that_forbids_info_alone_is_not_believed_against_its_settings(keeper_of):
    with servers.standalone() as server:
        server.client.execute_command("ACL", "SETUSER", "default", "-info")
        keeper = keeper_of(server.url, Durability.ALWAYS)
        await keeper.verify()
        with pytest.raises(DurabilityUnmetError) as refused:
            await keeper.keep(samples("a", [NOW_MS]))
        assert "append-only" in refused.value.reasons[0]


@pytest.fixture
def group():
    with servers.sentinels() as one:
        yield one


async def test_a_sample_is_acknowledged_once_a_replica_has_it_and_not_without(keeper_of, group):
    keeper = keeper_of(group.url, Durability.REPLICATED, timeout_s=0.4)
    assert not (await keeper.verify()).unmet
    await keeper.keep(samples("a", [NOW_MS]))

    replica = next(server for server in group.servers if server is not group.primary)
    replica.freeze()
    with pytest.raises(StoreUnavailableError):
        await keeper.keep(samples("a", [NOW_MS]))
    replica.thaw()
    async with asyncio.timeout(5):
        while True:
            try:
                await keeper.keep(samples("a", [NOW_MS]))
            except StoreUnavailableError:
                continue
            break

    too_many = keeper_of(group.url, Durability.REPLICATED, replicas=2)
    assert "1 of the 2" in (await too_many.verify()).unmet[0]


async def test_with_disks_a_sample_is_acknowledged_once_they_have_it(keeper_of, group):
    keeper = keeper_of(group.url, Durability.REPLICATED_ALWAYS)
    assert (await keeper.verify()).unmet
    for server in group.servers:
        server.client.config_set("appendonly", "yes")
    async with asyncio.timeout(10):
        while True:
            verdict = await keeper.verify()
            try:
                await keeper.keep(samples("a", [NOW_MS]))
            except StoreUnavailableError:  # the files are being begun
                continue
            break
    assert not verdict.unmet


async def test_every_node_of_a_cluster_is_asked(keeper_of, redis_cluster):
    keeper = keeper_of(redis_cluster.url, Durability.EVERYSEC)
    assert len((await keeper.verify()).unmet) == 3
    waiting = keeper_of(redis_cluster.url, Durability.REPLICATED, timeout_s=0.2)
    for link_id in "abc":
        with pytest.raises(StoreUnavailableError):  # there are no replicas, whichever node it is
            await waiting.keep(samples(link_id, [NOW_MS]))


async def test_a_mark_that_the_server_refuses_is_no_sign_that_replicas_have_the_samples(keeper_of, group):
    keeper = keeper_of(group.url, Durability.REPLICATED, timeout_s=0.4)
    store = RedisStore.connect(group.url, max_samples=100, retention_ms=DAY_MS, clock=Clock(NOW_MS), timeout_s=5)
    batch = samples("a", [NOW_MS])
    replica = next(server for server in group.servers if server is not group.primary)
    replica.freeze()
    try:
        await store.put(batch)
        group.primary.client.config_set("maxmemory", "1mb")  # full, from this moment on
        with pytest.raises(StoreUnavailableError):
            await keeper.keep(batch)
    finally:
        await store.close()
        replica.thaw()
