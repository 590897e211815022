"""Every store that there is, so that one suite holds them to the same."""

import contextlib

import pytest

from pba_service.storage.memory import MemoryStore
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import DAY_MS, NOW_MS, PATIENCE_S, Clock


@pytest.fixture(params=["memory", "standalone", "cluster"])
def new_store(request):
    """Makes stores that share their data where they can: `new_store(max_samples=..., clock=..., ...)`."""
    url = {"standalone": "redis_server", "cluster": "redis_cluster"}.get(request.param)
    url = url and request.getfixturevalue(url).url

    @contextlib.asynccontextmanager
    async def make(*, max_samples=10_000, retention_ms=30 * DAY_MS, clock=None, **options):
        options |= {"max_samples": max_samples, "retention_ms": retention_ms, "clock": clock or Clock(NOW_MS)}
        store = RedisStore.connect(url, timeout_s=PATIENCE_S, **options) if url else MemoryStore(**options)
        try:
            yield store
        finally:
            await store.close()

    return make


@pytest.fixture
async def store(new_store):
    async with new_store() as one:
        yield one
