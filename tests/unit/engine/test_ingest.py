"""Pushes are written together, answered apart, and share no fate."""

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pba_service.domain.errors import CapacityExceededError, StoreUnavailableError
from pba_service.domain.samples import LinkInfo, SampleBatch, one_link_batch
from pba_service.engine.ingest import MAX_WAITING, Ingest, merge, named_once
from pba_service.engine.ports import Outcome, PutResult
from pba_service.observability.metrics import Metrics


class SlowStore:
    """Takes a batch at a time, when told to."""

    def __init__(self):
        self.batches = []
        self.asked = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fault = None

    async def put(self, batch):
        self.asked += 1
        await self.go_on.wait()
        if self.fault:
            self.fault(batch)
        self.batches.append(batch)
        # tells rows apart, so that a mix-up of answers shows
        return PutResult((batch.values[:, 0].astype(np.int64) % 3).astype(np.uint8), np.full(len(batch.links), -1))


class Listener:
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def storing(self, samples):
        self.under_way = samples

    def stored(self, batch, result):
        self.told.append(("stored", [link.link_id for link in batch.links]))

    def unsure(self, batch):
        self.told.append(("unsure", [link.link_id for link in batch.links]))


def batch(link_id, *bandwidths, **info):
    values = np.full((len(bandwidths), 4), np.nan, np.float32)
    values[:, 0] = bandwidths
    return one_link_batch(LinkInfo(link_id, **info), list(range(len(bandwidths))), values)


@asynccontextmanager
async def running(store, listener=None):
    ingest = Ingest(store, Metrics(CollectorRegistry(), 10), listener or Listener())
    task = asyncio.create_task(ingest.run())
    try:
        yield ingest
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the code under test
            await asyncio.sleep(0)


async def test_what_arrives_meanwhile_is_written_together_and_answered_apart():
    store = SlowStore()
    async with running(store) as ingest:
        store.go_on.clear()
        first = asyncio.create_task(ingest.put(batch("a", 0)))
        await until(lambda: store.asked)
        rest = [asyncio.create_task(ingest.put(batch(f"l{i}", i, i + 1))) for i in range(50)]
        await until(lambda: len(ingest._waiting) == 50)
        store.go_on.set()
        assert (await first).tolist() == [Outcome.STORED]
        for i, answer in enumerate(await asyncio.gather(*rest)):
            assert answer.tolist() == [i % 3, (i + 1) % 3]
        assert [len(written) for written in store.batches] == [1, 100]


async def test_an_empty_push_is_answered_at_once():
    store = SlowStore()
    async with running(store) as ingest:
        assert len(await ingest.put(batch("a"))) == 0
        assert not store.batches


async def test_a_store_that_is_away_fails_those_who_wait_and_no_one_after():
    store = SlowStore()
    async with running(store) as ingest:

        def away(_):
            raise StoreUnavailableError

        store.fault = away
        with pytest.raises(StoreUnavailableError):
            await ingest.put(batch("a", 1))
        store.fault = None
        assert (await ingest.put(batch("a", 1))).tolist() == [1]


async def test_an_unforeseen_failure_reaches_the_caller_and_the_loop_goes_on():
    store = SlowStore()
    async with running(store) as ingest:

        def broken(_):
            raise ZeroDivisionError

        store.fault = broken
        with pytest.raises(ZeroDivisionError):
            await ingest.put(batch("a", 1))
        store.fault = None
        assert (await ingest.put(batch("a", 2))).tolist() == [2]


async def test_one_callers_new_links_do_not_cost_the_others_their_samples():
    store = SlowStore()
    async with running(store) as ingest:

        def full(written):
            if any(link.link_id == "new" for link in written.links):
                raise CapacityExceededError("links", limit=1)

        store.fault = full
        store.go_on.clear()
        first = asyncio.create_task(ingest.put(batch("a", 0)))
        await until(lambda: store.asked)
        refused = asyncio.create_task(ingest.put(batch("new", 1)))
        kept = asyncio.create_task(ingest.put(batch("b", 2)))
        await until(lambda: len(ingest._waiting) == 2)
        store.go_on.set()
        await first
        with pytest.raises(CapacityExceededError):
            await refused
        assert (await kept).tolist() == [2]


async def test_a_caller_who_has_gone_strands_nobody():
    store = SlowStore()
    async with running(store) as ingest:
        store.go_on.clear()
        first = asyncio.create_task(ingest.put(batch("a", 0)))
        await until(lambda: store.asked)
        gone = asyncio.create_task(ingest.put(batch("gone", 1)))
        stays = asyncio.create_task(ingest.put(batch("b", 2)))
        await until(lambda: len(ingest._waiting) == 2)
        gone.cancel()
        await until(gone.done)
        store.go_on.set()
        await first
        assert (await stays).tolist() == [2]
        assert [link.link_id for written in store.batches for link in written.links] == ["a", "b"]
        await ingest.drain()


async def test_waiting_samples_are_bounded():
    store = SlowStore()
    async with running(store) as ingest:
        store.go_on.clear()
        first = asyncio.create_task(ingest.put(batch("a", *range(MAX_WAITING))))
        await until(lambda: ingest._samples_waiting == MAX_WAITING)
        with pytest.raises(CapacityExceededError):
            await ingest.put(batch("b", 1))
        store.go_on.set()
        await first
        assert len(await ingest.put(batch("b", 1))) == 1


def test_merging_keeps_order_and_the_newest_texts():
    merged = merge([batch("a", 1, region="eu"), batch("b", 2), batch("a", 3, node="n")])
    assert isinstance(merged, SampleBatch)
    assert merged.links == (LinkInfo("a", node="n", region="eu"), LinkInfo("b"))
    assert [merged.links[i].link_id for i in merged.link_index] == ["a", "b", "a"]
    assert merged.values[:, 0].tolist() == [1, 2, 3]


def test_a_late_sample_does_not_move_a_link_back():
    newer = one_link_batch(LinkInfo("a", node="n", region="new"), [60_000], np.ones((1, 4)))
    late = one_link_batch(LinkInfo("a", peer="p", region="old"), [0], np.ones((1, 4)))
    for together in ((newer, late), (late, newer)):
        assert merge(together).links == (LinkInfo("a", node="n", peer="p", region="new"),)


def test_a_link_that_its_rows_name_in_several_ways_is_named_once():
    ways = (LinkInfo("a", "new"), LinkInfo("b"), LinkInfo("a", "old", "p", "east"), LinkInfo("a", region="west"))
    sources = np.full((4, 4), 2, np.uint8)
    values = np.ones((4, 4), np.float32)
    rows = SampleBatch(ways, np.arange(4, dtype=np.int32), np.array([3, 1, 1, 2]), values, values > 0, sources)
    once = named_once(rows)
    assert once.links == (LinkInfo("a", "new", "p", "west"), LinkInfo("b"))
    assert (once.link_index.tolist(), once.measured_at_ms.tolist()) == ([0, 1, 0, 0], [3, 1, 1, 2])
    assert once.sources is sources
    assert named_once(once) is once


async def test_what_is_known_of_a_batch_is_told_before_its_callers_are():
    store, listener = SlowStore(), Listener()
    async with running(store, listener) as ingest:
        await ingest.put(batch("a", 1))
        assert listener.told == [("stored", ["a"])]

        def away(_):
            raise StoreUnavailableError

        store.fault = away
        with pytest.raises(StoreUnavailableError):
            await ingest.put(batch("b", 1))
        assert listener.told[1:] == [("unsure", ["b"])]
