"""When batches of links are advanced, and that callers are answered meanwhile."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
from prometheus_client import CollectorRegistry

from pba_service.domain.samples import LinkInfo, SampleBatch
from pba_service.engine.advance import Options
from pba_service.engine.batch import AT_ONCE
from pba_service.engine.marks import MANY_SAMPLES, WORTH_A_BATCH
from pba_service.engine.models import ModelSet
from pba_service.engine.refresh import Refresher
from pba_service.observability.metrics import Metrics
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, LastValueModel

MINUTE = 60_000
DAY = 86_400_000
STEADY = np.array([100, 20, 0.01, 1], np.float32)


class HeldStore(MemoryStore):
    """A store whose commits take until they are let go."""

    def __init__(self, clock):
        super().__init__(max_samples=10_000, retention_ms=30 * DAY, clock=clock)
        self.begun: list[set[str]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.on_commit = lambda: None
        self._another = asyncio.Event()

    async def reached(self, count):
        """Returns once so many commits have begun."""
        while len(self.begun) < count:
            self._another.clear()
            await self._another.wait()

    async def commit(self, commits):
        self.on_commit()
        self.begun.append({commit.link_id for commit in commits})
        self._another.set()
        await self.free.wait()
        return await super().commit(commits)


class Rig:
    """A refresher and what it works with."""

    def __init__(self, worker, patience_s, yield_s):
        self.clock = Clock()
        self.store = HeldStore(self.clock)
        self.refresher = Refresher(
            self.store,
            Options(base_ms=MINUTE, catch_up=480),
            worker,
            Metrics(CollectorRegistry(), 10),
            patience_s=patience_s,
            yield_s=yield_s,
        )

    async def push(self, *link_ids, samples=12):
        """Stores the newest samples of some links."""
        count = len(link_ids) * samples
        times = np.tile(self.clock.now_ms - MINUTE * np.arange(samples)[::-1], len(link_ids))
        batch = SampleBatch(
            tuple(map(LinkInfo, link_ids)),
            np.repeat(np.arange(len(link_ids), dtype=np.int32), samples),
            times,
            np.tile(STEADY, (count, 1)),
            np.ones((count, 4), np.bool_),
        )
        self.refresher.stored(batch, await self.store.put(batch))

    async def begun(self, count):
        """Returns once so many commits have begun."""
        async with asyncio.timeout(20):
            await self.store.reached(count)


@asynccontextmanager
async def working(patience_s=3_600.0, yield_s=3_600.0):
    with ThreadPoolExecutor(1) as worker:
        rig = Rig(worker, patience_s, yield_s)
        rig.refresher.serve_with(ModelSet.of(LastValueModel()))
        running = asyncio.create_task(rig.refresher.run())
        try:
            yield rig
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_link_is_advanced_at_once_when_nothing_is_under_way():
    async with working() as rig:
        await rig.push("a")
        await rig.begun(1)
        assert rig.store.begun == [{"a"}]


async def test_few_links_wait_for_the_batch_under_way_and_then_go_together():
    async with working() as rig:
        rig.store.free.clear()
        await rig.push("first")
        await rig.begun(1)
        await rig.push("a")
        await rig.push("b", "c")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(rig.store.begun) == 1
        rig.store.free.set()
        await rig.begun(2)
        assert rig.store.begun == [{"first"}, {"a", "b", "c"}]


async def test_few_links_wait_for_a_slow_batch_only_so_long():
    async with working(patience_s=0.02) as rig:
        rig.store.free.clear()
        await rig.push("first")
        await rig.begun(1)
        await rig.push("a", "b")
        await rig.begun(2)
        assert rig.store.begun == [{"first"}, {"a", "b"}]
        rig.store.free.set()


async def test_a_link_that_is_being_advanced_is_taken_again_once_that_is_done():
    async with working(patience_s=0.0) as rig:
        rig.store.free.clear()
        await rig.push("a")
        await rig.begun(1)
        rig.refresher.mark(["a"])
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert rig.store.begun == [{"a"}]
        assert rig.refresher.marked == 1
        rig.store.free.set()
        await rig.refresher.settled(["a"], 20)
        assert rig.refresher.marked == 0


async def test_many_links_do_not_wait_for_the_batch_under_way():
    async with working() as rig:
        rig.store.free.clear()
        await rig.push("first")
        await rig.begun(1)
        many = [f"link-{i}" for i in range(WORTH_A_BATCH)]
        await rig.push(*many)
        await rig.begun(2)
        assert rig.store.begun == [{"first"}, set(many)]
        rig.store.free.set()


async def test_callers_are_answered_while_a_backlog_is_advanced():
    turns = {"now": 0, "inferred": 0, "written": 0}

    class Noted(LastValueModel):
        def predict(self, windows, step_ms):
            turns["inferred"] = turns["now"]
            return super().predict(windows, step_ms)

    async with working() as rig:
        rig.refresher.serve_with(ModelSet.of(Noted("test-2")))
        rig.store.on_commit = lambda: turns.update(written=turns["now"])
        links = [f"link-{i}" for i in range(64)]
        await rig.push(*links, samples=40)
        assert AT_ONCE < 64 * 30
        while not rig.store.begun:
            turns["now"] += 1
            await asyncio.sleep(0)
    assert turns["written"] - turns["inferred"] > 10


async def test_predictions_wait_while_many_samples_are_being_stored():
    async with working() as rig:
        rig.refresher.storing(MANY_SAMPLES)
        await rig.push("a")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert rig.store.begun == []
        rig.refresher.storing(0)
        await rig.begun(1)


async def test_predictions_wait_for_the_next_write_of_many_samples():
    async with working() as rig:
        rig.refresher.storing(MANY_SAMPLES)
        await rig.push("a")
        rig.refresher.storing(0)
        await asyncio.sleep(0)
        rig.refresher.storing(MANY_SAMPLES)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert rig.store.begun == []
        rig.refresher.storing(0)
        await rig.begun(1)


async def test_predictions_do_not_wait_for_few_samples():
    async with working() as rig:
        rig.refresher.storing(MANY_SAMPLES - 1)
        await rig.push("a")
        await rig.begun(1)


async def test_predictions_wait_only_so_long_while_samples_keep_coming():
    async with working(yield_s=0.02) as rig:
        rig.refresher.storing(MANY_SAMPLES)
        await rig.push("a")
        await rig.begun(1)
