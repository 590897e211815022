"""More calls than are let in: refused at once, with when to come back; the others are answered as ever."""

import asyncio
import time
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pba.v1 import prediction_service_pb2 as pb
from pba.v1.prediction_service_pb2_grpc import PredictionServiceStub

from pba_client.errors import CapacityExceededError, from_rpc
from pba_client.options import Options, channel_options
from pba_service.serving.admission import AdmissionOptions
from pba_service.serving.limiter import LimitOptions
from tests.integration.serving.harness import FAST, FakeService, error_of, eventually, row, serve

TWO = AdmissionOptions(limit=LimitOptions(first=2, least=2, most=2), streams=2, heavy_streams={"GetHistory": 1})


@pytest.fixture
async def crowded():
    service = FakeService()
    async with serve(service, replace(FAST, admission=TWO)) as running:
        yield running


@pytest.fixture
async def full(crowded):
    """As many pushes are under way as may be; they wait at a gate."""
    gate = asyncio.Event()

    async def wait(_batch):
        await gate.wait()

    crowded.service.gate = wait
    calls = [asyncio.ensure_future(crowded.stub.PushSamples(pb.PushSamplesRequest(samples=[row()]))) for _ in range(2)]
    await eventually(lambda: len(crowded.service.pushes) == 2)
    yield crowded, gate, calls
    gate.set()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_one_call_more_is_refused_with_when_to_come_back_and_nothing_of_it_is_done(full):
    running, gate, calls = full

    failure = await error_of(running.stub.PushSamples(pb.PushSamplesRequest(samples=[row()])))

    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.info.reason == "CAPACITY_EXCEEDED"
    assert failure.retry_ms == 1_000
    assert len(running.service.pushes) == 2
    assert running.registry.get_sample_value("dwcp_pba_calls_refused_total", {"method": "PushSamples"}) == 1
    gate.set()
    assert [answer.stored for answer in await asyncio.gather(*calls)] == [1, 1]
    assert (await running.stub.PushSamples(pb.PushSamplesRequest(samples=[row()]))).stored == 1


async def test_other_methods_and_health_go_on(full):
    running, _, _ = full
    running.service.add("a")
    assert (await running.stub.Predict(pb.PredictRequest(link_id="a"))).prediction.link_id == "a"
    health = health_pb2_grpc.HealthStub(running.channel)
    for _ in range(5):
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_caller_who_leaves_makes_room(full):
    running, _, calls = full
    calls[0].cancel()
    await asyncio.gather(calls[0], return_exceptions=True)
    running.service.gate = None

    async def let_in():
        try:
            return await running.stub.PushSamples(pb.PushSamplesRequest(samples=[row()]))
        except grpc.aio.AioRpcError:
            return None

    async with asyncio.timeout(5):
        while not (answer := await let_in()):  # noqa: ASYNC110 - nothing tells of it but asking
            await asyncio.sleep(0.01)
    assert answer.stored == 1


async def test_a_caller_whose_time_is_up_makes_room(crowded):
    async def wait(_batch):
        await asyncio.Event().wait()

    crowded.service.gate = wait
    request = pb.PushSamplesRequest(samples=[row()])
    late = [error_of(crowded.stub.PushSamples(request, timeout=0.1)) for _ in range(2)]
    assert {failure.code for failure in await asyncio.gather(*late)} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    crowded.service.gate = None

    async def let_in():
        try:
            return await crowded.stub.PushSamples(request)
        except grpc.aio.AioRpcError:
            return None

    async with asyncio.timeout(5):
        while not (answer := await let_in()):  # noqa: ASYNC110 - nothing tells of it but asking
            await asyncio.sleep(0.01)
    assert answer.stored == 1


async def test_streams_are_bounded_by_method(crowded):
    streams = [crowded.stub.StreamSamples() for _ in range(2)]
    for stream in streams:
        await stream.write(pb.PushSamplesRequest(samples=[row()]))
        assert (await stream.read()).stored == 1
    third = crowded.stub.StreamSamples()
    failure = await error_of(third.read())
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await streams[0].done_writing()
    assert await streams[0].read() is grpc.aio.EOF

    async def opened():
        stream = crowded.stub.StreamSamples()
        await stream.write(pb.PushSamplesRequest(samples=[row()]))
        return await stream.read()

    assert (await opened()).stored == 1
    streams[1].cancel()


class HoldsHistories(FakeService):
    """Reads histories no further until told to."""

    def __init__(self):
        super().__init__()
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.histories["a"] = [self.history_of(0, 3)]

    async def history(self, *asked):
        self.begun.set()
        await self.may_go_on.wait()
        async for part in super().history(*asked):
            yield part


async def test_methods_that_read_much_for_a_caller_have_a_bound_of_their_own():
    service = HoldsHistories()
    request = pb.GetHistoryRequest(link_id="a")
    async with serve(service, replace(FAST, admission=TWO)) as running:
        first = asyncio.ensure_future(running.stub.GetHistory(request).read())
        await service.begun.wait()
        failure = await error_of(running.stub.GetHistory(request, timeout=5).read())
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert running.registry.get_sample_value("dwcp_pba_calls_limit", {"method": "GetHistory"}) == 1
        service.may_go_on.set()
        assert len((await first).samples) == 3


async def test_a_refused_call_is_made_again_by_the_shipped_service_config(full):
    running, gate, calls = full
    request = pb.PushSamplesRequest(samples=[row()])
    target = f"127.0.0.1:{running.port}"
    async with grpc.aio.insecure_channel(target, options=channel_options(Options())) as channel:
        again = asyncio.ensure_future(PredictionServiceStub(channel).PushSamples(request, timeout=30))
        refused = {"method": "PushSamples"}
        await eventually(lambda: running.registry.get_sample_value("dwcp_pba_calls_refused_total", refused) == 1)
        gate.set()
        assert (await again).stored == 1
    await asyncio.gather(*calls)


async def test_a_caller_without_the_time_to_come_back_is_told_at_once(full):
    running, _, _ = full
    request = pb.PushSamplesRequest(samples=[row()])
    target = f"127.0.0.1:{running.port}"
    async with grpc.aio.insecure_channel(target, options=channel_options(Options())) as channel:
        failure = await error_of(PredictionServiceStub(channel).PushSamples(request, timeout=0.9))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.registry.get_sample_value("dwcp_pba_calls_refused_total", {"method": "PushSamples"}) == 1


def _code(call):
    error = call.exception(30)
    return grpc.StatusCode.OK if error is None else error.code()


async def test_grpc_turns_calls_away_while_the_service_takes_none():
    async with serve(FakeService(), replace(FAST, max_pending_calls=4)) as running:
        running.service.add("a")
        channel = grpc.insecure_channel(f"127.0.0.1:{running.port}")
        await asyncio.to_thread(grpc.channel_ready_future(channel).result, 30)
        ask = PredictionServiceStub(channel).Predict
        calls = [ask.future(pb.PredictRequest(link_id="a")) for _ in range(40)]
        # The event loop stands still here, as it does when something keeps it busy: only gRPC's core can answer.
        until_s = time.monotonic() + 30
        while sum(call.done() for call in calls) < 30 and time.monotonic() < until_s:
            time.sleep(0.01)  # noqa: ASYNC251 - see above
        codes = [await asyncio.to_thread(_code, call) for call in calls]
        away = [call for call, code in zip(calls, codes, strict=True) if code is not grpc.StatusCode.OK]
        assert 30 <= len(away) < 40
        for call in away:
            error = from_rpc(call.code(), call.details(), call.trailing_metadata())
            assert isinstance(error, CapacityExceededError)
            assert error.code == "CANCELLED"
        channel.close()
