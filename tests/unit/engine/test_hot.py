"""What a process remembers of links changes nothing but the time it takes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pba_service.domain.samples import LinkInfo, SampleBatch, Series, one_link_batch
from pba_service.engine import hot
from pba_service.engine.advance import Options
from pba_service.engine.batch import Batches
from pba_service.engine.models import ModelSet
from pba_service.engine.ports import LinkState, Outcome, PutResult, Snapshot
from pba_service.engine.refresh import Refresher
from pba_service.observability.metrics import Metrics
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, LastValueModel

MINUTE = 60_000
DAY = 86_400_000
LINKS = ("a", "b", "c")


class CountingStore(MemoryStore):
    """Counts the links it is asked for."""

    read = 0

    async def snapshots(self, link_ids, *args):
        self.read += len(link_ids)
        return await super().snapshots(link_ids, *args)


class Process:
    """The part of a service that writes samples and keeps predictions up, over a store that others use too."""

    def __init__(self, store, worker, *, remembers=True):
        self.store, self.remembers = store, remembers
        self.refresher = Refresher(
            store, Options(base_ms=MINUTE, catch_up=480), worker, Metrics(CollectorRegistry(), 1)
        )
        self.refresher.serve_with(ModelSet.of(LastValueModel()))

    async def push(self, batch):
        result = await self.store.put(batch)
        self.refresher.stored(batch, result)
        if not self.remembers and (result.outcomes != Outcome.DUPLICATE).any():
            self.refresher.look_again([link.link_id for link in batch.links])

    async def catch_up(self):
        """Advances what is marked."""
        task = asyncio.create_task(self.refresher.run())
        await self.refresher.settled(LINKS, 30)
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def store_and_worker():
    with ThreadPoolExecutor(1) as worker:
        yield CountingStore(max_samples=50_000, retention_ms=30 * DAY, clock=Clock()), worker


def samples(link_id, minutes, seed, missing=0.02):
    """Samples some minutes after two days ago, with now and then a metric that was not measured."""
    rng = np.random.default_rng(seed)
    values = rng.random((len(minutes), 4), np.float32) + np.float32(1)
    values[rng.random(values.shape) < missing] = np.nan
    values[:, 0] = np.nan_to_num(values[:, 0], nan=1)
    start = Clock().now_ms - 2 * DAY
    return one_link_batch(LinkInfo(link_id), [start + int(m * MINUTE) for m in minutes], values)


def together(batches):
    """Batches of different links as one."""
    return SampleBatch(
        tuple(batch.links[0] for batch in batches),
        np.concatenate([np.full(len(batch), i, np.int32) for i, batch in enumerate(batches)]),
        np.concatenate([batch.measured_at_ms for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        np.concatenate([batch.present for batch in batches]),
    )


async def learned(store):
    """All that was learned: states and ledgers."""
    found = await store.snapshots(LINKS, [0] * len(LINKS))
    ledgers = [[] for _ in LINKS]
    for i, link_id in enumerate(LINKS):
        if found[i]:
            ledgers[i] = [
                (e.made_at_ms, e.target_ms, e.measured_at_ms, e.predicted.tobytes(), e.actual.tobytes(), e.confidence)
                async for part in store.ledger(link_id, None, None)
                for e in part
            ]
    return [
        snapshot and (snapshot.state.blob, snapshot.newest and snapshot.newest.made_at_ms) for snapshot in found
    ], ledgers


STEP = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 8)),
    st.tuples(st.just("together"), st.integers(1, 5)),
    st.tuples(st.just("skip"), st.sampled_from([1, 2, 5, 30, 200])),
    st.tuples(st.just("late"), st.integers(1, 90)),
    st.tuples(st.just("correct"), st.integers(0, 90)),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("elsewhere"), st.integers(1, 3)),
)


class Script:
    """Turns steps into batches: what is pushed here, and what another process stores unheard."""

    def __init__(self, history):
        self.minute = dict.fromkeys(LINKS, history)

    def batches(self, number, link_id, kind, amount):
        minute = self.minute[link_id]
        match kind:
            case "next":
                for k in range(amount):
                    yield True, samples(link_id, [minute + k], number * 1_000 + k)
            case "together" | "elsewhere":
                yield kind == "together", samples(link_id, range(minute, minute + amount), number)
            case "late":
                yield True, samples(link_id, [minute - amount - 0.5], number)
            case "correct" | "again":
                yield True, samples(link_id, [minute - 1 - amount], number if kind == "correct" else 0)
        if kind in {"next", "together", "skip", "elsewhere"}:
            self.minute[link_id] += amount


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([5, 40, 1_500]),
    st.lists(st.tuples(st.sampled_from(LINKS), STEP), min_size=1, max_size=8),
)
def test_what_is_remembered_changes_nothing(history, steps):
    async def run(remembers):
        async with store_and_worker() as (store, worker):
            process, script = Process(store, worker, remembers=remembers), Script(history)
            await process.push(together([samples(link_id, range(history), 0) for link_id in LINKS]))
            await process.catch_up()
            for number, (link_id, step) in enumerate(steps):
                for here, batch in script.batches(number, link_id, *step):
                    if here:
                        await process.push(batch)
                        await process.catch_up()
                    else:
                        await store.put(batch)  # no process is told of it before the link's next push
            return await learned(store)

    assert asyncio.run(run(remembers=True)) == asyncio.run(run(remembers=False))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LINKS), st.booleans(), st.booleans()), min_size=4, max_size=25))
def test_two_processes_on_one_link_leave_one_consistent_record(turns):
    """Whoever pushes, and whether the other has caught up by then: each target is settled once, by its own sample."""

    async def run():
        async with store_and_worker() as (store, worker):
            both = [Process(store, worker), Process(store, worker)]
            await both[0].push(together([samples(link_id, range(40), 7, missing=0) for link_id in LINKS]))
            await asyncio.gather(*(process.catch_up() for process in both))
            minute = dict.fromkeys(LINKS, 40)
            for number, (link_id, which, waits) in enumerate(turns):
                await both[which].push(samples(link_id, [minute[link_id]], number, missing=0))
                minute[link_id] += 1
                if waits:
                    await asyncio.gather(*(process.catch_up() for process in both))
            await asyncio.gather(*(process.catch_up() for process in both))
            for link_id, count in minute.items():
                entries = [e async for part in store.ledger(link_id, None, None) for e in part]
                [series] = [series async for series in store.history(link_id, None, None)]
                actual = dict(zip(series.times_ms.tolist(), series.values, strict=True))
                targets = [entry.target_ms for entry in entries]
                assert len(targets) == len(set(targets)) == count - 9 - 15
                for entry in entries:
                    np.testing.assert_array_equal(entry.actual, actual[entry.measured_at_ms])
                [newest] = await store.newest([link_id])
                assert newest.made_at_ms == series.times_ms[-1]

    asyncio.run(run())


async def test_a_link_that_goes_on_is_not_read_again():
    async with store_and_worker() as (store, worker):
        process = Process(store, worker)
        await process.push(together([samples(link_id, range(1_500), 0) for link_id in LINKS]))
        await process.catch_up()
        for minute in range(1_500, 1_510):  # until all that is needed has been read once
            await process.push(together([samples(link_id, [minute], minute) for link_id in LINKS]))
            await process.catch_up()
        store.read = 0
        for minute in range(1_510, 1_520):
            await process.push(together([samples(link_id, [minute], minute) for link_id in LINKS]))
            await process.catch_up()
        assert store.read == 0
        for minute in range(1_520, 1_620):
            await process.push(together([samples(link_id, [minute], minute) for link_id in LINKS]))
            await process.catch_up()
        assert 3 <= store.read <= 3 * (100 // hot.ROOM[0] + 1)


async def test_links_that_are_all_forgotten_while_they_are_advanced_are_remembered_again():
    async with store_and_worker() as (store, worker):
        await store.put(samples("a", range(40), 0))
        batches = Batches(store, Options(base_ms=MINUTE, catch_up=480), worker, worker)
        batches.memory = hot.HotLinks(1, hot.places(10))
        routes = {"a": ModelSet.of(LastValueModel()).route(LinkInfo("a"))}
        for _ in range(2):
            parts = await batches.compute(["a"], routes, 10)
            assert len(batches.memory) == 1
            batches.memory.forget(["a"])
            for part in parts:
                batches.end(part, ())


def known_link(table, link_id="a", count=40, changes=7):
    series = samples(link_id, range(count), 0)
    snapshot = Snapshot(
        link_id,
        Series(series.measured_at_ms, series.values),
        LinkState(),
        None,
        changes=changes,
        oldest_ms=int(series.measured_at_ms[0]),
    )
    with table.reading([link_id]) as reading:
        table.learn(reading, [hot.Read(snapshot, *hot.stretches(MINUTE, 10))])
    return series


class TestChecks:
    """A link is remembered for as long as the store counts what this process counts."""

    @pytest.fixture
    def table(self):
        return hot.HotLinks(4, hot.places(10))

    def test_the_next_sample_is_added(self, table):
        known_link(table)
        table.written(samples("a", [40], 1), PutResult(np.array([0], np.uint8), np.array([7])))
        [row] = table.rows(["a"])
        assert row >= 0
        links = table.links(["a"], np.array([row]))
        assert len(links.columns.series(0)) == 41

    @pytest.mark.parametrize(
        ("minute", "outcome", "before"),
        [(40, 0, 8), (40, 0, -1), (39, 2, 7), (38.5, 0, 7)],
        ids=["somebody else wrote", "nobody knows", "a correction", "a late sample"],
    )
    def test_anything_else_forgets_the_link(self, table, minute, outcome, before):
        known_link(table)
        table.written(samples("a", [minute], 1), PutResult(np.array([outcome], np.uint8), np.array([before])))
        assert table.rows(["a"]) == [-1]

    def test_a_duplicate_changes_nothing(self, table):
        known_link(table)
        table.written(samples("a", [39], 0), PutResult(np.array([1], np.uint8), np.array([7])))
        assert table.rows(["a"]) != [-1]

    def test_what_was_read_after_the_write_knows_it(self, table):
        known_link(table, changes=8)
        table.written(samples("a", [39], 0), PutResult(np.array([0], np.uint8), np.array([7])))
        assert table.rows(["a"]) != [-1]

    def test_what_was_written_while_it_was_read_is_not_taken_over(self, table):
        series = samples("a", range(40), 0)
        snapshot = Snapshot("a", Series(series.measured_at_ms, series.values), LinkState(), None, changes=7)
        with table.reading(["a"]) as reading:
            table.written(samples("a", [40], 1), PutResult(np.array([0], np.uint8), np.array([7])))
            table.learn(reading, [hot.Read(snapshot, *hot.stretches(MINUTE, 10))])
        assert table.rows(["a"]) == [-1]

    def test_the_oldest_known_gives_way(self, table):
        for link_id in "abcde":
            known_link(table, link_id)
        assert table.rows("abcde")[0] == -1
        assert len(table) == 4

    def test_a_row_in_use_is_not_given_to_another_link(self, table):
        known_link(table, "a")
        [row] = table.rows(["a"])
        links = table.links(["a"], np.array([row]))
        table.forget(["a"])
        for link_id in "bcde":
            known_link(table, link_id)
        assert row not in table.rows("bcde")
        table.done(links, [None])
        known_link(table, "f")
        assert row in table.rows("bcdef")
