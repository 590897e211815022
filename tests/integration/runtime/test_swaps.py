"""Swapping models while predictions are asked for: nobody waits, nothing fails, and memory does not grow."""

import asyncio
import gc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from pba_service.domain.samples import LinkInfo, one_link_batch
from pba_service.engine.advance import Options
from pba_service.engine.refresh import Refresher
from pba_service.engine.registry import Registry
from pba_service.engine.stock import RegistryOptions
from pba_service.observability.metrics import Metrics
from pba_service.runtime.folder import LocalFolder
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, SharedModels

MODELS = Path(__file__).parents[3] / "models"
MINUTE_MS = 60_000
SWAPS = 50
GROWTH_MB = 20.0
"""A model takes some 2 MB of memory with its session: 40 swaps that kept theirs would show as 80."""


def resident_mb():
    """What the process holds in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


async def test_fifty_swaps_with_calls_running():
    clock = Clock()
    store = MemoryStore(max_samples=1_000, retention_ms=10**10, clock=clock)
    times = [clock.now_ms - i * MINUTE_MS for i in range(120)]
    for link in range(8):
        rows = np.tile(np.array([[100, 20, 0, 1]], np.float32), (120, 1))
        await store.put(one_link_batch(LinkInfo(str(link)), times, rows))
    metrics = Metrics(CollectorRegistry(), 10)
    with ThreadPoolExecutor(1) as worker, ThreadPoolExecutor(1) as loader:
        refresher = Refresher(store, Options(base_ms=MINUTE_MS, catch_up=5), worker, metrics)
        registry = Registry(
            shared=SharedModels(),
            folder=LocalFolder(MODELS),
            refresher=refresher,
            loader=loader,
            metrics=metrics,
            options=RegistryOptions("r", 1.0),
            clock=clock,
        )
        await registry.start()
        versions = [known.info.version for known in await registry.known()]
        assert len(versions) == 2
        answers = Counter()
        asked, held = asyncio.create_task(asking(refresher, answers)), []
        for swap in range(SWAPS):
            await registry.activate(versions[swap % 2])
            assert list(registry.models.loaded) == [versions[swap % 2]]
            if swap % 10 == 9:
                gc.collect()
                held.append(resident_mb())
        asked.cancel()
        [ended] = await asyncio.gather(asked, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), "no call failed"
    assert set(answers) == set(versions)
    assert answers.total() > SWAPS
    assert held[-1] - held[0] < GROWTH_MB, held


async def asking(refresher, answers):
    """Predicts all links again and again; any failure ends the test."""
    while True:
        for prediction in await refresher.refresh([str(link) for link in range(8)]):
            answers[prediction.model_version] += 1
        await asyncio.sleep(0)
