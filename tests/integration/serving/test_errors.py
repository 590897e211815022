"""What a client learns when a call fails: the code, the field, when to come back, and never what went wrong inside."""

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2 as rpc
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types
from structlog.testing import capture_logs

from pba_service.domain import errors
from tests.integration.serving.harness import FAST, NOW_MS, error_of, eventually, everything, row, serve

ALL = pb.LinkSelector(all=True)
METHOD = "/pba.v1.PredictionService/"
SECRET = "secret-7f3a"

OUTCOME = pb.TransferOutcome(
    link_id="a",
    started_at=Timestamp(seconds=1),
    ended_at=Timestamp(seconds=2),
    parameters=types.TransportParameters(streams=1),
)


def calls(stub):
    """One valid call of each method that asks the service."""
    return {
        "PushSamples": lambda: stub.PushSamples(pb.PushSamplesRequest(samples=[row()])),
        "StreamSamples": lambda: everything(stub.StreamSamples(iter([pb.PushSamplesRequest(samples=[row()])]))),
        "Predict": lambda: stub.Predict(pb.PredictRequest(link_id="a")),
        "Predict of a window": lambda: stub.Predict(pb.PredictRequest(link_id="a", window=[row()])),
        "BatchPredict": lambda: stub.BatchPredict(pb.BatchPredictRequest(link_ids=["a"])),
        "GetOptimalParameters": lambda: stub.GetOptimalParameters(pb.GetOptimalParametersRequest(link_id="a")),
        "EstimateTransfer": lambda: stub.EstimateTransfer(pb.EstimateTransferRequest(transfer_bytes=1, link_ids=["a"])),
        "ReportOutcome": lambda: stub.ReportOutcome(pb.ReportOutcomeRequest(outcome=OUTCOME)),
        "GetOutcomes": lambda: stub.GetOutcomes(pb.GetOutcomesRequest(link_id="a")),
        "StreamPredictions": lambda: everything(stub.StreamPredictions(pb.StreamPredictionsRequest(selector=ALL))),
        "GetHistory": lambda: everything(stub.GetHistory(pb.GetHistoryRequest(link_id="a"))),
        "GetLedger": lambda: everything(stub.GetLedger(pb.GetLedgerRequest(link_id="a"))),
        "GetLink": lambda: stub.GetLink(pb.GetLinkRequest(link_id="a")),
        "ExplainPrediction": lambda: stub.ExplainPrediction(pb.ExplainPredictionRequest(link_id="a")),
        "ListLinks": lambda: stub.ListLinks(pb.ListLinksRequest()),
    }


METHODS = list(calls(None))


def test_no_method_is_left_out():
    service = pb.DESCRIPTOR.services_by_name["PredictionService"]
    assert {method.name for method in service.methods} == {name.split()[0] for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_says_that_the_store_is_away_and_when_to_come_back(running, method):
    running.service.failure = errors.StoreUnavailableError(retry_after_s=1.5)
    failure = await error_of(calls(running.stub)[method]())
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert (failure.info.domain, failure.info.reason, failure.retry_ms) == ("pba", "STORE_UNAVAILABLE", 1500)


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_hides_what_it_did_not_foresee(running, method):
    running.service.failure = ValueError(SECRET)
    with capture_logs() as logs:
        failure = await error_of(calls(running.stub)[method]())
    assert failure.code is grpc.StatusCode.INTERNAL
    assert SECRET not in failure.text
    assert "ValueError" not in failure.text
    [logged] = [entry for entry in logs if entry["event"] == "rpc_failed"]
    assert failure.text == f"internal error {logged['error_id']}"
    assert failure.info.metadata == {"error_id": logged["error_id"]}
    assert logged["exc_info"]


@pytest.mark.parametrize("method", ["GetHistory", "GetLedger", "Predict", "GetLink", "ExplainPrediction"])
async def test_an_unknown_link(running, method):
    failure = await error_of(calls(running.stub)[method]())
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert (failure.info.reason, dict(failure.info.metadata)) == ("LINK_UNKNOWN", {"link_id": "a"})


async def test_an_id_that_only_begins_another_is_unknown(running):
    running.service.add("abc")
    failure = await error_of(running.stub.GetLink(pb.GetLinkRequest(link_id="ab")))
    assert failure.code is grpc.StatusCode.NOT_FOUND


async def test_too_little_history_says_how_much_there_is(running):
    running.service.failure = errors.HistoryTooShortError("a", have=3, need=10, retry_after_s=420)
    failure = await error_of(running.stub.Predict(pb.PredictRequest(link_id="a")))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert dict(failure.info.metadata) == {"link_id": "a", "have": "3", "need": "10"}
    assert failure.retry_ms == 420_000


async def test_no_model(running):
    running.service.failure = errors.ModelUnavailableError()
    failure = await error_of(running.stub.Predict(pb.PredictRequest(link_id="a")))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert (failure.info.reason, failure.retry_ms) == ("MODEL_UNAVAILABLE", 5000)


async def test_a_failure_in_the_middle_of_a_stream(running):
    running.service.histories["a"] = [running.service.history_of(NOW_MS, 5)]
    call = running.stub.GetHistory(pb.GetHistoryRequest(link_id="a"))
    running.service.fail_after_chunks = errors.StoreUnavailableError()
    assert len((await call.read()).samples) == 5
    failure = await error_of(call.read())
    assert failure.code is grpc.StatusCode.UNAVAILABLE


NO_TIME = types.Sample(link_id="a", latency_ms=1)
HOSTILE_TIME = types.Sample(link_id="a", latency_ms=1, measured_at=Timestamp(seconds=2**63 - 1, nanos=-(2**31)))


@pytest.mark.parametrize(
    ("samples", "fields"),
    [
        ([], ["samples"]),
        ([NO_TIME], ["samples[0].measured_at"]),
        ([HOSTILE_TIME, NO_TIME], ["samples[0].measured_at", "samples[1].measured_at"]),
        ([row(latency_ms=np.nan)], ["samples[0].latency_ms"]),
        ([row(bandwidth_mbps=np.inf)], ["samples[0].bandwidth_mbps"]),
        ([row(packet_loss_ratio=1.01)], ["samples[0].packet_loss_ratio"]),
        ([row(jitter_ms=-0.1), row(jitter_ms=-0.1)], ["samples[0].jitter_ms", "samples[1].jitter_ms"]),
        ([row(link_id="")], ["samples[0].link_id"]),
        ([row(link_id="ü" * 65)], ["samples[0].link_id"]),
        ([row(seconds=NOW_MS // 1000 + 121)], ["samples[0].measured_at"]),
        ([row(seconds=NOW_MS // 1000 - 30 * 86_400 - 1)], ["samples[0].measured_at"]),
        ([row(link_id="a", region="\x07")], ["samples[0].region"]),
        ([types.Sample(link_id="a", measured_at=Timestamp(seconds=NOW_MS // 1000))], ["samples[0].bandwidth_mbps"]),
    ],
)
async def test_a_batch_with_nothing_good_in_it_is_an_error_that_names_the_fields(running, samples, fields):
    failure = await error_of(running.stub.PushSamples(pb.PushSamplesRequest(samples=samples)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields == fields
    assert failure.text.startswith(fields[0])


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ({"latency_ms": [np.nan]}, ["columns.latency_ms[0]"]),
        ({"measured_at_ms": [2**63 - 1], "latency_ms": [1]}, ["columns.measured_at_ms[0]"]),
        ({"links": [types.LinkRef(link_id="")], "latency_ms": [1]}, ["columns.links[0].link_id"]),
        ({"link_index": [7], "latency_ms": [1]}, ["columns.link_index[0]"]),
        ({"latency_ms": [1, 2]}, ["columns.latency_ms"]),
        ({}, ["columns.bandwidth_mbps[0]"]),
    ],
)
async def test_columns_with_nothing_good_in_them(running, columns, fields):
    whole = {"links": [types.LinkRef(link_id="a")], "link_index": [0], "measured_at_ms": [NOW_MS], **columns}
    request = pb.PushSamplesRequest(columns=types.SampleColumns(**whole))
    failure = await error_of(running.stub.PushSamples(request))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, fields)


async def test_an_error_about_ten_thousand_samples_still_arrives_as_what_it_is(running):
    """Trailers hold 8 KiB; one byte more and the client would see RESOURCE_EXHAUSTED."""
    samples = [row(link_id=f"{'ü' * 65}{index}") for index in range(10_000)]
    failure = await error_of(running.stub.PushSamples(pb.PushSamplesRequest(samples=samples)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.text == "samples[0].link_id: is longer than 128 bytes; and 9999 more"
    assert failure.fields[:2] == ["samples[0].link_id", "samples[1].link_id"]


async def test_the_longest_unknown_link_still_arrives_as_what_it_is(running):
    link_id = "\U0001f4a5" * 32
    failure = await error_of(running.stub.Predict(pb.PredictRequest(link_id=link_id)))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.info.metadata["link_id"] == link_id


def largest_rows(count):
    text = "x" * 128
    metrics = {"bandwidth_mbps": 1.5, "latency_ms": 1.5, "packet_loss_ratio": 0.5, "jitter_ms": 1.5}
    time = Timestamp(seconds=NOW_MS // 1000, nanos=999_999_999)
    sample = types.Sample(link_id=text, node=text, peer=text, region=text, measured_at=time, **metrics)
    return pb.PushSamplesRequest(sequence=2**64 - 1, samples=[sample] * count)


async def test_the_largest_batch_that_is_allowed_fits_into_a_message(running):
    request = largest_rows(10_000)
    assert 5_000_000 < request.ByteSize() < FAST.max_message_bytes
    assert (await running.stub.PushSamples(request)).stored == 10_000


async def test_one_sample_more_is_refused_by_the_service(running):
    failure = await error_of(running.stub.PushSamples(largest_rows(10_001)))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["samples"])


async def test_a_larger_message_is_refused_before_it_is_read(running):
    failure = await error_of(running.stub.PushSamples(largest_rows(16_000)))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.service.pushes == []


@pytest.mark.parametrize("known", [True, False])
async def test_the_largest_answers_fit_into_a_clients_default_limit(running, known):
    """4 MiB, as long as ids are no longer than 64 bytes."""
    link_ids = [f"{index:064}" for index in range(10_000)]
    for link_id in link_ids if known else ():
        running.service.add(link_id)
    answer = await running.stub.BatchPredict(pb.BatchPredictRequest(link_ids=link_ids))
    assert {result.WhichOneof("result") for result in answer.results} == {"prediction" if known else "status"}
    assert answer.ByteSize() > 2_000_000
    page = await running.stub.ListLinks(pb.ListLinksRequest(page_size=1000))
    assert len(page.links) == (1000 if known else 0)


@pytest.mark.parametrize(
    ("method", "streams"), [("PushSamples", ""), ("StreamPredictions", "s"), ("StreamSamples", "ss")]
)
async def test_bytes_that_are_no_message(running, method, streams):
    make = {
        "": running.channel.unary_unary,
        "s": running.channel.unary_stream,
        "ss": running.channel.stream_stream,
    }[streams]
    call = make(METHOD + method, request_serializer=bytes, response_deserializer=bytes)
    garbage = b"\xff\xff\xff\xff"
    started = call(iter([garbage])) if streams == "ss" else call(garbage)
    failure = await error_of(everything(started) if streams else started)
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])


async def test_millions_of_empty_samples_are_refused_unread(running):
    call = running.channel.unary_unary(METHOD + "PushSamples", request_serializer=bytes, response_deserializer=bytes)
    failure = await error_of(call(b"\x12\x00" * 4_000_000))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["samples"])
    assert "more than" in failure.text


async def test_a_method_that_does_not_exist(running):
    call = running.channel.unary_unary(METHOD + "Guess", request_serializer=bytes, response_deserializer=bytes)
    assert (await error_of(call(b""))).code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
async def test_a_caller_that_goes_away_ends_its_call(how):
    cancelled = asyncio.Event()

    async def gate(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serve() as running:
        running.service.gate = gate
        request = pb.PushSamplesRequest(samples=[row()])
        call = running.stub.PushSamples(request, timeout=0.15 if how == "deadline" else None)
        pending = asyncio.ensure_future(call.code())
        await running.service.pushed.wait()
        if how == "cancel":
            call.cancel()
        if how == "connection":
            await running.channel.close()
        async with asyncio.timeout(5):
            await cancelled.wait()
        code = await pending
        assert code is (grpc.StatusCode.DEADLINE_EXCEEDED if how == "deadline" else grpc.StatusCode.CANCELLED)
        labels = {"grpc_type": "unary", "grpc_service": "pba.v1.PredictionService", "grpc_method": "PushSamples"}

        def counted():
            return [
                running.registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": name})
                for name in ("CANCELLED", "DEADLINE_EXCEEDED")
            ]

        await eventually(lambda: 1.0 in counted())


async def test_retry_details_are_left_out_where_a_retry_is_useless(running):
    failure = await error_of(running.stub.Predict(pb.PredictRequest(link_id="")))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc.RetryInfo not in failure.details
