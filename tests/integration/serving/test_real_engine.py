"""The transport over the real engine: what is pushed comes back as predictions, records and a ledger."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types
from prometheus_client import CollectorRegistry

from pba_service.domain.parameters import TransportBounds
from pba_service.domain.samples import Limits
from pba_service.engine.advance import Options
from pba_service.engine.ingest import Ingest
from pba_service.engine.models import ModelSet
from pba_service.engine.refresh import Refresher
from pba_service.engine.service import PbaService, Policy
from pba_service.engine.subscriptions import Subscriptions
from pba_service.engine.supervisor import Supervisor
from pba_service.engine.upkeep import follow
from pba_service.observability.metrics import Metrics
from pba_service.serving.convert import timestamp
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, LastValueModel
from tests.integration.serving.harness import error_of, everything, serve

MINUTE_MS = 60_000
DAY_MS = 86_400_000


@asynccontextmanager
async def everything_real():
    clock, metrics, supervisor = Clock(), Metrics(CollectorRegistry(), 100), Supervisor()
    store = MemoryStore(max_samples=10_000, retention_ms=30 * DAY_MS, clock=clock)
    options, subscriptions = Options(base_ms=MINUTE_MS, catch_up=480), Subscriptions(store)
    with ThreadPoolExecutor(1) as worker:
        refresher = Refresher(store, options, worker, metrics)
        ingest = Ingest(store, metrics, refresher)
        refresher.serve_with(ModelSet.of(LastValueModel()))
        service = PbaService(
            store=store,
            ingest=ingest,
            refresher=refresher,
            subscriptions=subscriptions,
            worker=worker,
            options=options,
            policy=Policy(Limits(120_000, 30 * DAY_MS), TransportBounds(), 0.6),
            clock=clock,
            metrics=metrics,
        )
        for name, loop in (
            ("ingest", ingest.run),
            ("refresh", refresher.run),
            ("follow", lambda: follow(store, subscriptions, metrics)),
        ):
            supervisor.start(name, loop)
        try:
            async with serve(service) as running:
                running.clock = clock
                yield running
        finally:
            await supervisor.stop()


@pytest.fixture
async def real():
    async with everything_real() as running:
        yield running


def minutes(running, span, link_id="a", bandwidth=lambda minute: 100 + minute):
    """A sample a minute; minute 0 is now."""
    return [
        types.Sample(
            link_id=link_id,
            region="west",
            measured_at=timestamp(running.clock.now_ms + minute * MINUTE_MS),
            bandwidth_mbps=bandwidth(minute),
            latency_ms=20,
        )
        for minute in span
    ]


async def test_samples_in_predictions_out(real):
    watch = real.stub.StreamPredictions(pb.StreamPredictionsRequest(selector=pb.LinkSelector(region="west")))
    assert (await watch.read()).snapshot_complete
    pushed = await real.stub.PushSamples(pb.PushSamplesRequest(samples=minutes(real, range(-40, 1))))
    assert (pushed.stored, pushed.refused) == (41, 0)
    again = await real.stub.PushSamples(pb.PushSamplesRequest(samples=minutes(real, range(-40, 1))))
    assert (again.stored, again.duplicates) == (0, 41)

    predicted = (await real.stub.Predict(pb.PredictRequest(link_id="a", include_path=True))).prediction
    assert predicted.made_at.ToMilliseconds() == real.clock.now_ms
    assert predicted.horizon.seconds == 900
    assert not predicted.HasField("jitter_ms")
    streamed = (await watch.read()).predictions[0]
    assert streamed == predicted

    history = await everything(real.stub.GetHistory(pb.GetHistoryRequest(link_id="a")))
    stored = [sample.bandwidth_mbps for message in history for sample in message.samples]
    assert stored == [100 + minute for minute in range(-40, 1)]

    ledger = await everything(real.stub.GetLedger(pb.GetLedgerRequest(link_id="a")))
    entries = [entry for message in ledger for entry in message.entries]
    assert entries
    by_minute = {sample.measured_at.ToMilliseconds(): sample for m in history for sample in m.samples}
    for entry in entries:
        actual = by_minute[entry.target.ToMilliseconds()].bandwidth_mbps
        assert entry.actual.bandwidth_mbps == actual
        expected = abs(entry.predicted.bandwidth_mbps - actual)
        assert entry.absolute_error.bandwidth_mbps == pytest.approx(expected, rel=1e-5)

    link = await real.stub.GetLink(pb.GetLinkRequest(link_id="a"))
    assert (link.summary.sample_count, link.summary.region) == (41, "west")
    assert link.metrics[0].settled == len(entries)
    explained = await real.stub.ExplainPrediction(pb.ExplainPredictionRequest(link_id="a"))
    for explanation in explained.explanations:
        moved = sum(attribution.value for attribution in explanation.attributions)
        expected = explanation.model_forecast - explanation.baseline_forecast
        assert moved == pytest.approx(expected, rel=1e-3, abs=1e-3)
    advice = await real.stub.GetOptimalParameters(pb.GetOptimalParametersRequest(link_id="a"))
    assert advice.prediction == predicted


async def test_what_a_refused_row_says_of_its_link_is_not_kept(real):
    [good, ahead, late] = minutes(real, (-1, 10**6, 0))
    ahead.node, ahead.region, late.peer = "another", "east", "p"
    answer = await real.stub.PushSamples(pb.PushSamplesRequest(samples=[good, ahead, late]))
    assert [(refusal.index, refusal.field) for refusal in answer.refusals] == [(1, "measured_at")]
    known = (await real.stub.GetLink(pb.GetLinkRequest(link_id="a"))).summary
    assert (known.node, known.peer, known.region, known.sample_count) == ("", "p", "west", 2)


async def test_a_correction_behind_its_value_on_one_stream_wins(real):
    requests = [
        pb.PushSamplesRequest(
            sequence=sequence, samples=minutes(real, range(-5, 1), bandwidth=lambda _, value=sequence: value)
        )
        for sequence in range(1, 41)
    ]
    answers = await everything(real.stub.StreamSamples(iter(requests)))
    assert [answer.sequence for answer in answers] == list(range(1, 41))
    assert answers[0].stored == 6
    assert sum(answer.replaced for answer in answers) == 39 * 6
    history = await everything(real.stub.GetHistory(pb.GetHistoryRequest(link_id="a")))
    assert {sample.bandwidth_mbps for message in history for sample in message.samples} == {40}


async def test_too_little_history_and_unknown_links(real):
    await real.stub.PushSamples(pb.PushSamplesRequest(samples=minutes(real, range(-3, 1))))
    failure = await error_of(real.stub.Predict(pb.PredictRequest(link_id="a")))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (failure.info.metadata["have"], failure.info.metadata["need"]) == ("4", "10")
    assert failure.retry_ms == 6 * MINUTE_MS
    answer = await real.stub.BatchPredict(pb.BatchPredictRequest(link_ids=["a", "b"]))
    assert [result.status.code for result in answer.results] == [9, 5]
    advice = await real.stub.GetOptimalParameters(pb.GetOptimalParametersRequest(link_id="b"))
    assert advice.source == pb.PARAMETERS_SOURCE_DEFAULTS
    assert pb.PARAMETER_REASON_UNKNOWN_LINK in advice.reasons


async def test_a_window_of_the_callers_own(real):
    window = minutes(real, range(-20, 1), link_id="")
    answer = await real.stub.Predict(pb.PredictRequest(link_id="mine", window=window, include_path=True))
    assert answer.prediction.source == types.PREDICTION_SOURCE_CALLER_WINDOW
    assert [point.horizon.seconds for point in answer.path] == [300, 900]
    assert not (await real.stub.ListLinks(pb.ListLinksRequest())).links
    short = await error_of(real.stub.Predict(pb.PredictRequest(link_id="mine", window=window[:3])))
    assert short.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_transfer_is_estimated_and_its_outcome_remembered(real):
    for link_id, bandwidth in (("fast", 100), ("slow", 10)):
        samples = minutes(real, range(-40, 1), link_id, lambda _, value=bandwidth: value)
        await real.stub.PushSamples(pb.PushSamplesRequest(samples=samples))
    now_ms = real.clock.now_ms
    request = pb.EstimateTransferRequest(
        transfer_bytes=10**9,
        link_ids=["slow", "nowhere", "fast"],
        deadline=timestamp(now_ms + 3 * MINUTE_MS),
        latest_start=timestamp(now_ms + 8 * MINUTE_MS),
    )
    answer = await real.stub.EstimateTransfer(request)
    assert [one.link_id for one in answer.estimates] == ["slow"] * 9 + ["fast"] * 9
    assert [one.start.ToMilliseconds() - now_ms for one in answer.estimates[9:]] == [i * MINUTE_MS for i in range(9)]
    assert answer.best == 9
    assert answer.estimates[9].completion_p50.seconds == pytest.approx(80, abs=8)
    assert (answer.estimates[0].deadline_probability, answer.estimates[9].deadline_probability) == (0, 1)
    [refusal] = answer.refusals
    assert (refusal.link_id, refusal.status.code) == ("nowhere", grpc.StatusCode.NOT_FOUND.value[0])

    outcome = pb.TransferOutcome(
        link_id="fast",
        started_at=timestamp(now_ms - MINUTE_MS),
        ended_at=timestamp(now_ms),
        parameters=types.TransportParameters(streams=4, buffer_bytes=65_536, pacing_mbps=95, window_bytes=262_144),
        expected_goodput_mbps=96,
        achieved_goodput_mbps=48,
        retransmitted_ratio=0.01,
    )
    learned = await real.stub.ReportOutcome(pb.ReportOutcomeRequest(outcome=outcome))
    assert learned.effectiveness_ratio == 0.5
    assert learned.streams_correction == pytest.approx(1.25)
    assert list((await real.stub.GetOutcomes(pb.GetOutcomesRequest(link_id="fast"))).outcomes) == [outcome]
    assert not (await real.stub.GetOutcomes(pb.GetOutcomesRequest(link_id="slow"))).outcomes

    timeless = pb.TransferOutcome(link_id="fast", parameters=outcome.parameters)
    refused = await error_of(real.stub.ReportOutcome(pb.ReportOutcomeRequest(outcome=timeless)))
    assert {one.field: one.description for one in refused.details[BadRequest].field_violations} == {
        "outcome.started_at": "is required",
        "outcome.ended_at": "is required",
    }

    # it would be the newest for as long as that lasts, and shut out those of the present
    outcome.ended_at.CopyFrom(timestamp(now_ms + 24 * 60 * MINUTE_MS))
    refused = await error_of(real.stub.ReportOutcome(pb.ReportOutcomeRequest(outcome=outcome)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refused.details[BadRequest].field_violations] == ["outcome.ended_at"]
    assert len((await real.stub.GetOutcomes(pb.GetOutcomesRequest(link_id="fast"))).outcomes) == 1


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("EstimateTransfer", pb.EstimateTransferRequest(link_ids=["a"]), grpc.StatusCode.INVALID_ARGUMENT),
        (
            "EstimateTransfer",
            pb.EstimateTransferRequest(transfer_bytes=1, link_ids=["a"], deadline=Timestamp(nanos=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ("ReportOutcome", pb.ReportOutcomeRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("GetOutcomes", pb.GetOutcomesRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("GetOutcomes", pb.GetOutcomesRequest(link_id="a"), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_hostile_transfers_are_refused(real, method, request_, code):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(real.stub, method)(request_)
    assert caught.value.code() is code


async def test_the_same_question_is_answered_the_same_until_something_new_is_heard(real):
    real.clock.now_ms = time.time_ns() // 1_000_000  # answers are kept by the time of day
    await real.stub.PushSamples(pb.PushSamplesRequest(samples=minutes(real, range(-40, 0), bandwidth=lambda _: 100)))

    async def ask(streams=4):
        request = pb.GetOptimalParametersRequest(link_id="a", current_streams=streams)
        answer = await real.stub.GetOptimalParameters(request)
        answer.ClearField("apply_at")
        return answer

    first = await ask()
    assert await ask() == first
    other = await ask(200)
    assert (first.current.streams, other.current.streams) == (4, 200)
    assert other.should_adjust
    assert await ask() == first

    now_ms = real.clock.now_ms
    outcome = pb.TransferOutcome(
        link_id="a",
        started_at=timestamp(now_ms - MINUTE_MS),
        ended_at=timestamp(now_ms),
        parameters=types.TransportParameters(streams=4, buffer_bytes=65_536),
        expected_goodput_mbps=100,
        achieved_goodput_mbps=40,
    )
    await real.stub.ReportOutcome(pb.ReportOutcomeRequest(outcome=outcome))
    corrected = await ask()
    assert pb.PARAMETER_REASON_OUTCOMES in corrected.reasons

    await real.stub.PushSamples(pb.PushSamplesRequest(samples=minutes(real, range(1), bandwidth=lambda _: 300)))
    newer = await ask()
    assert newer.prediction.made_at.ToMilliseconds() == now_ms
    assert newer != corrected
