"""Batches on one stream: stored side by side, acknowledged in order, and none acknowledged that is not stored."""

import asyncio

import grpc
import pytest
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.errors import CapacityExceededError, StoreUnavailableError
from pba_service.serving.streams import MAX_BATCHES_UNDER_WAY, MAX_SAMPLES_UNDER_WAY
from tests.integration.serving.harness import NOW_MS, error_of, eventually, everything, rest, row, serve

NOW_S = NOW_MS // 1000


def batch(sequence, *samples):
    """A batch whose first sample tells the fake which one it is."""
    return pb.PushSamplesRequest(sequence=sequence, samples=samples or [row(NOW_S - sequence)])


def big_batch(sequence, count):
    columns = types.SampleColumns(
        links=[types.LinkRef(link_id="a")],
        link_index=[0] * count,
        measured_at_ms=[(NOW_S - sequence) * 1000] * count,
        latency_ms=[1] * count,
    )
    return pb.PushSamplesRequest(sequence=sequence, columns=columns)


class Gates:
    """Holds each batch up until it is let through, or fails it."""

    def __init__(self):
        self.waiting = {}
        self.cancelled = []

    async def __call__(self, samples):
        sequence = NOW_S - int(samples.measured_at_ms[0]) // 1000
        self.waiting[sequence] = asyncio.get_running_loop().create_future()
        try:
            await self.waiting[sequence]
        except asyncio.CancelledError:
            self.cancelled.append(sequence)
            raise

    def let(self, *sequences):
        for sequence in sequences:
            self.waiting[sequence].set_result(None)


@pytest.fixture
async def gated():
    async with serve() as running:
        running.service.gate = Gates()
        yield running


async def test_hundreds_of_batches_in_order(running):
    requests = [batch(sequence) for sequence in range(300)]
    answers = await everything(running.stub.StreamSamples(iter(requests)))
    assert [answer.sequence for answer in answers] == list(range(300))
    assert all(answer.stored == 1 for answer in answers)
    pushed = [int(samples.measured_at_ms[0]) for samples in running.service.pushes]
    assert pushed == [(NOW_S - sequence) * 1000 for sequence in range(300)]  # corrections must not overtake


async def test_a_stream_without_batches_ends(running):
    assert await everything(running.stub.StreamSamples(iter([]))) == []


async def test_batches_are_under_way_together_and_acknowledged_in_order(gated):
    call = gated.stub.StreamSamples()
    for sequence in range(3):
        await call.write(batch(sequence))
    await eventually(lambda: len(gated.service.gate.waiting) == 3)
    gated.service.gate.let(2, 1)
    first = asyncio.ensure_future(call.read())
    done, _ = await asyncio.wait([first], timeout=0.05)
    assert not done
    gated.service.gate.let(0)
    assert [(await first).sequence, (await call.read()).sequence, (await call.read()).sequence] == [0, 1, 2]


async def test_no_more_are_under_way_than_allowed(gated):
    gate = gated.service.gate
    call = gated.stub.StreamSamples()
    for sequence in range(MAX_BATCHES_UNDER_WAY + 5):
        await call.write(batch(sequence))
    await eventually(lambda: len(gate.waiting) == MAX_BATCHES_UNDER_WAY)
    gate.let(0)
    await call.read()
    await eventually(lambda: len(gate.waiting) == MAX_BATCHES_UNDER_WAY + 1)
    await asyncio.sleep(0.02)
    assert len(gate.waiting) == MAX_BATCHES_UNDER_WAY + 1


async def test_large_batches_are_bounded_by_their_samples(gated):
    gate = gated.service.gate
    call = gated.stub.StreamSamples()
    for sequence in range(5):
        await call.write(big_batch(sequence, 9_000))
    fit = MAX_SAMPLES_UNDER_WAY // 9_000
    await eventually(lambda: len(gate.waiting) == fit)
    await asyncio.sleep(0.02)
    assert len(gate.waiting) == fit
    gate.let(0)
    assert (await call.read()).stored == 9_000
    await eventually(lambda: len(gate.waiting) == fit + 1)


async def test_refused_samples_do_not_end_a_stream(running):
    requests = [batch(1, row(latency_ms=-1)), batch(2, types.Sample(), row()), batch(3)]
    answers = await everything(running.stub.StreamSamples(iter(requests)))
    assert [(a.sequence, a.stored, a.refused) for a in answers] == [(1, 0, 1), (2, 1, 1), (3, 1, 0)]


async def read_until_the_end(call):
    """The acknowledgements of a stream that fails, and its failure."""
    answers = []

    async def read():
        async for answer in call:
            answers.append(answer.sequence)  # noqa: PERF401 - those before the failure count

    return answers, await error_of(read())


async def test_a_malformed_batch_ends_the_stream_after_those_before_it(running):
    requests = [batch(1), batch(2), pb.PushSamplesRequest(sequence=3), batch(4)]
    answers, failure = await read_until_the_end(running.stub.StreamSamples(iter(requests)))
    assert answers == [1, 2]
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["samples"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailableError(retry_after_s=2), grpc.StatusCode.UNAVAILABLE),
        (CapacityExceededError("samples", limit=1, retry_after_s=2), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ValueError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_batch_that_cannot_be_stored_ends_the_stream_after_those_before_it(gated, error, code):
    gate = gated.service.gate
    call = gated.stub.StreamSamples()
    for sequence in range(5):
        await call.write(batch(sequence))
    await eventually(lambda: len(gate.waiting) == 5)
    gate.let(0, 1, 3)
    gate.waiting[2].set_exception(error)
    answers, failure = await read_until_the_end(call)
    assert answers == [0, 1]
    assert failure.code is code
    if code is not grpc.StatusCode.INTERNAL:
        assert failure.retry_ms == 2000
    await eventually(lambda: gate.cancelled == [4])


async def test_a_client_that_goes_away_leaves_nothing_behind(gated):
    gate = gated.service.gate
    call = gated.stub.StreamSamples()
    for sequence in range(3):
        await call.write(batch(sequence))
    await eventually(lambda: len(gate.waiting) == 3)
    call.cancel()
    await eventually(lambda: sorted(gate.cancelled) == [0, 1, 2])


async def test_a_stop_acknowledges_what_is_under_way_and_ends_the_stream_well(gated):
    gate = gated.service.gate
    call = gated.stub.StreamSamples()
    for sequence in range(3):
        await call.write(batch(sequence))
    await eventually(lambda: len(gate.waiting) == 3)
    stopping = asyncio.create_task(gated.server.stop())
    await asyncio.sleep(0.02)
    gate.let(0, 1, 2)
    assert [answer.sequence for answer in await everything(call)] == [0, 1, 2]
    assert await call.code() is grpc.StatusCode.OK
    async with asyncio.timeout(5):  # and not the whole of the grace
        await stopping


async def test_a_stop_ends_an_idle_stream_at_once(gated):
    call = gated.stub.StreamSamples()
    await call.write(batch(0))
    await eventually(lambda: gated.service.gate.waiting)
    gated.service.gate.let(0)
    await call.read()
    async with asyncio.timeout(5):
        await gated.server.stop()
    assert await rest(call) == []
    assert await call.code() is grpc.StatusCode.OK
