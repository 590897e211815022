"""A push whose answer is lost with its connection: it is sent again, and the store says that it has it already."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from pba_service.engine.advance import Options
from pba_service.engine.ingest import Ingest
from pba_service.engine.models import ModelSet
from pba_service.engine.refresh import Refresher
from pba_service.observability.metrics import Metrics
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import DAY_MS, MINUTE_MS, NOW_MS, Clock, minutes, samples
from tests.fakes import LastValueModel
from tests.integration.storage.lossy import lossy


@pytest.fixture
async def losing():
    """What loses an answer, and a store behind it."""
    async with lossy(b"EVAL", b"pba:{a}") as proxy:
        store = RedisStore.connect(
            proxy.url,
            max_samples=50_000,
            retention_ms=30 * DAY_MS,
            clock=Clock(NOW_MS + MINUTE_MS),
            timeout_s=5.0,
        )
        try:
            yield proxy, store
        finally:
            await store.close()


async def test_a_push_whose_answer_was_lost_is_predicted_from(losing):
    proxy, store = losing
    with ThreadPoolExecutor(1) as worker:
        metrics = Metrics(CollectorRegistry(), 1)
        refresher = Refresher(store, Options(base_ms=MINUTE_MS, catch_up=480), worker, metrics)
        refresher.serve_with(ModelSet.of(LastValueModel()))
        ingest = Ingest(store, metrics, refresher)
        tasks = [asyncio.create_task(ingest.run()), asyncio.create_task(refresher.run())]
        await ingest.put(samples("a", minutes(30)))
        await refresher.settled(["a"], 10)
        assert (await store.newest(["a"]))[0].made_at_ms == NOW_MS

        proxy.armed = True
        await ingest.put(samples("a", [NOW_MS + MINUTE_MS], [5.0]))
        assert proxy.lost == 1
        await refresher.settled(["a"], 10)

        assert (await store.newest(["a"]))[0].made_at_ms == NOW_MS + MINUTE_MS
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
