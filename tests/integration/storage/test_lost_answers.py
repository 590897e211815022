"""What is desired of models is changed once, though the answer may be lost and redis-py asks again."""

import pytest

from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.engine.registry import Registry
from pba_service.storage.connect import open_server
from pba_service.storage.registry import RedisRegistry
from tests.integration.storage.lossy import lossy


class Changes(Registry):
    """The part that changes what is desired; nothing is loaded."""

    def __init__(self, shared):
        self._shared, self.desired = shared, Desired()

    async def _converge(self):
        pass


@pytest.fixture
async def losing():
    """What loses an answer, what is stored behind it, and who changes that: v3 is active, v2 and v1 were before."""
    async with lossy(b"EVAL", b"pba:{models}:desired") as proxy:
        redis = open_server(proxy.url, 5.0)
        shared = RedisRegistry(redis)
        registry = Changes(shared)
        try:
            for version in ("v1", "v2", "v3"):
                await registry.change(lambda desired, version=version: desired.activated(version))
            yield proxy, shared, registry
            assert proxy.lost == 1
        finally:
            await redis.close()


async def test_one_rollback_goes_back_one_version(losing):
    proxy, shared, registry = losing
    proxy.armed = True
    assert (await registry.change(Desired.rolled_back)).active == "v2"
    assert (await shared.desired()).active == "v2"


async def test_an_unpin_that_was_made_is_no_error(losing):
    proxy, shared, registry = losing
    await registry.change(lambda desired: desired.pinned(Pin(Scope.LINK, "a", ("v1",))))
    proxy.armed = True
    await registry.change(lambda desired: desired.unpinned(Scope.LINK, "a"))
    assert not (await shared.desired()).pins


async def test_an_experiment_that_was_started_is_no_conflict(losing):
    proxy, shared, registry = losing
    proxy.armed = True
    await registry.change(lambda desired: desired.started(Experiment("e", "v3", "v2")))
    assert [one.name for one in (await shared.desired()).experiments] == ["e"]
