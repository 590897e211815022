"""The server as others see it: health, reflection, metrics, its port, and how it stops."""

import asyncio
import socket
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pba.v1 import prediction_service_pb2 as pb
from prometheus_client import CollectorRegistry

from pba_service.domain.errors import StoreUnavailableError
from pba_service.serving.server import ListenError, Server
from tests.integration.serving.harness import (
    FAST,
    FakeModels,
    FakeRetraining,
    FakeService,
    FakeTrials,
    error_of,
    eventually,
    everything,
    rest,
    row,
    serve,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PREDICTIONS, MODELS = "pba.v1.PredictionService", "pba.v1.ModelService"


def health_of(running):
    return health_pb2_grpc.HealthStub(running.channel)


async def check(running, service):
    return (await health_of(running).Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_health_of_each_service(running):
    for service in ("", PREDICTIONS, MODELS, "liveness"):
        assert await check(running, service) == SERVING
    statuses = (await health_of(running).List(health_pb2.HealthListRequest())).statuses
    assert {service: response.status for service, response in statuses.items()} == dict.fromkeys(
        ("", PREDICTIONS, MODELS, "liveness"), SERVING
    )


async def test_health_of_an_unknown_service(running):
    failure = await error_of(health_of(running).Check(health_pb2.HealthCheckRequest(service="other")))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    labels = {
        "grpc_type": "unary",
        "grpc_service": "grpc.health.v1.Health",
        "grpc_method": "Check",
        "grpc_code": "NOT_FOUND",
    }
    # counted once it has ended, which the caller hears of before
    await eventually(lambda: running.registry.get_sample_value("grpc_server_handled_total", labels) == 1)


async def test_health_follows_the_store_there_and_back(running):
    watch = health_of(running).Watch(health_pb2.HealthCheckRequest(service=PREDICTIONS))
    assert (await watch.read()).status == SERVING
    running.store["failure"] = StoreUnavailableError()
    assert (await watch.read()).status == NOT_SERVING
    assert await check(running, "") == NOT_SERVING
    assert await check(running, MODELS) == SERVING
    assert await check(running, "liveness") == SERVING
    running.store["failure"] = None
    assert (await watch.read()).status == SERVING


async def test_health_follows_the_model(running):
    watch = health_of(running).Watch(health_pb2.HealthCheckRequest(service=MODELS))
    assert (await watch.read()).status == SERVING
    running.service.loaded = []
    assert (await watch.read()).status == NOT_SERVING
    assert await check(running, PREDICTIONS) == NOT_SERVING


async def test_reflection_lists_and_describes_every_service(running):
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=PREDICTIONS),
    ]
    listed, described = await everything(stub.ServerReflectionInfo(iter(requests)))
    assert {service.name for service in listed.list_services_response.service} == {
        PREDICTIONS,
        MODELS,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


async def test_calls_are_counted_and_timed(running):
    running.service.add("a")
    await running.stub.Predict(pb.PredictRequest(link_id="a"))
    await error_of(running.stub.Predict(pb.PredictRequest(link_id="nobody")))
    await everything(running.stub.StreamSamples(iter([pb.PushSamplesRequest(samples=[row()])])))
    unary = {"grpc_type": "unary", "grpc_service": PREDICTIONS, "grpc_method": "Predict"}
    bidi = {"grpc_type": "bidi_stream", "grpc_service": PREDICTIONS, "grpc_method": "StreamSamples"}
    value = running.registry.get_sample_value
    assert value("grpc_server_started_total", unary) == 2
    assert value("grpc_server_handled_total", {**unary, "grpc_code": "OK"}) == 1
    assert value("grpc_server_handled_total", {**unary, "grpc_code": "NOT_FOUND"}) == 1
    assert value("grpc_server_handling_seconds_count", unary) == 2
    assert value("grpc_server_handled_total", {**bidi, "grpc_code": "OK"}) == 1


async def test_a_port_in_use_is_one_clear_error(running):
    other = Server(
        FakeService(),
        models=FakeModels(FakeService()),
        trials=FakeTrials(FakeService()),
        retraining=FakeRetraining(FakeService()),
        options=replace(FAST, port=running.port),
        checks={},
        registry=CollectorRegistry(),
    )
    with pytest.raises(ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{running.port}: Address already in use$"):
        await other.start()
    await other.stop()  # never started: nothing to do


async def test_an_address_of_another_machine_is_one_clear_error():
    server = Server(
        FakeService(),
        models=FakeModels(FakeService()),
        trials=FakeTrials(FakeService()),
        retraining=FakeRetraining(FakeService()),
        options=replace(FAST, host="192.0.2.1"),
        checks={},
        registry=CollectorRegistry(),
    )
    with pytest.raises(ListenError, match=r"^cannot listen on 192\.0\.2\.1:0: Cannot assign requested address$"):
        await server.start()


async def test_a_host_that_does_not_exist_is_one_clear_error():
    server = Server(
        FakeService(),
        models=FakeModels(FakeService()),
        trials=FakeTrials(FakeService()),
        retraining=FakeRetraining(FakeService()),
        options=replace(FAST, host="no.such.host.invalid"),
        checks={},
        registry=CollectorRegistry(),
    )
    with pytest.raises(ListenError, match=r"^cannot listen on no\.such\.host\.invalid:0: \S"):
        await server.start()


async def test_a_port_may_be_shared_when_asked_for():
    shared = replace(FAST, share_port=True)
    async with serve(options=shared) as one, serve(options=replace(shared, port=one.port)) as other:
        assert one.port == other.port


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6():
    service = FakeService()
    server = Server(
        service,
        models=FakeModels(service),
        trials=FakeTrials(service),
        retraining=FakeRetraining(service),
        options=replace(FAST, host="::1"),
        checks={},
        registry=CollectorRegistry(),
    )
    try:
        port = await server.start()
    except ListenError as error:
        pytest.skip(str(error))
    async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
        assert (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status == SERVING
    await server.stop()


async def test_a_start_without_the_store_answers_not_serving():
    async def away():
        raise StoreUnavailableError

    server = Server(
        FakeService(),
        models=FakeModels(FakeService()),
        trials=FakeTrials(FakeService()),
        retraining=FakeRetraining(FakeService()),
        options=FAST,
        checks={"store": away},
        registry=CollectorRegistry(),
    )
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=MODELS))).status == SERVING
    await server.stop()


async def test_health_is_found_out_before_the_first_call():
    checked = []

    async def check_store():
        checked.append(True)

    server = Server(
        FakeService(),
        models=FakeModels(FakeService()),
        trials=FakeTrials(FakeService()),
        retraining=FakeRetraining(FakeService()),
        options=FAST,
        checks={"store": check_store},
        registry=CollectorRegistry(),
    )
    await server.start()
    assert checked
    await server.stop()


async def test_a_stop_says_not_serving_while_it_still_answers_and_then_ends_watchers_well():
    async with serve(options=replace(FAST, drain_wait_s=0.2)) as running:
        running.service.add("a")
        watch = health_of(running).Watch(health_pb2.HealthCheckRequest(service=PREDICTIONS))
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(running.server.stop())
        assert (await watch.read()).status == NOT_SERVING
        assert await check(running, "liveness") == SERVING
        assert (await running.stub.Predict(pb.PredictRequest(link_id="a"))).prediction.link_id == "a"
        assert await rest(watch) == []
        assert await watch.code() is grpc.StatusCode.OK
        await stopping
        assert (
            await error_of(running.stub.Predict(pb.PredictRequest(link_id="a")))
        ).code is grpc.StatusCode.UNAVAILABLE


async def test_a_stop_lets_calls_end():
    gate = asyncio.Event()
    async with serve() as running:
        running.service.gate = lambda _: gate.wait()
        call = running.stub.PushSamples(pb.PushSamplesRequest(samples=[row()]))
        pending = asyncio.ensure_future(call.code())
        await running.service.pushed.wait()
        stopping = asyncio.create_task(running.server.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        gate.set()
        assert await pending is grpc.StatusCode.OK
        await stopping


async def test_a_second_stop_does_nothing(running):
    await running.server.stop()
    await running.server.stop()


async def test_five_hundred_streams_opened_at_once_are_all_served():
    service = FakeService()
    service.subscriptions._max_subscribers = 500
    async with serve(service) as running:
        calls = [
            running.stub.StreamPredictions(pb.StreamPredictionsRequest(selector=pb.LinkSelector(all=True)))
            for _ in range(500)
        ]
        assert all([(await call.read()).snapshot_complete for call in calls])
        assert len(service.subscriptions) == 500
        async with asyncio.timeout(5):
            await running.server.stop()
        assert [await call.code() for call in calls] == [grpc.StatusCode.OK] * 500
        await eventually(lambda: len(service.subscriptions) == 0)
