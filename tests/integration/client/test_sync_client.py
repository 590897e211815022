"""The blocking client against a real gRPC server."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from pba.v1 import prediction_service_pb2 as pb

from pba_client import (
    BandwidthKind,
    CapacityExceededError,
    Client,
    ClientClosedError,
    Columns,
    CongestionControl,
    DeadlineExceededError,
    ExperimentKind,
    ExperimentStatus,
    Health,
    HistoryTooShortError,
    InvalidRequestError,
    Link,
    LinkUnknownError,
    ModelPin,
    ModelUnknownError,
    Options,
    ParameterReason,
    ParametersSource,
    PinScope,
    RefusalReason,
    RetrainingOutcome,
    RetrainingTrigger,
    Sample,
    TemporaryError,
    Timeouts,
    TransferOutcome,
    UnavailableError,
    Violation,
)
from tests.integration.client.scripted_service import (
    SHORT_HISTORY,
    STORE_AWAY,
    T0_S,
    UNKNOWN_LINK,
    prediction_message,
    status,
)

T0 = datetime.fromtimestamp(T0_S, UTC)


@pytest.fixture
def client(server, options):
    with Client(server.target, options) as one:
        yield one


def samples(count, link_id="a"):
    return [Sample(link_id, T0 + timedelta(minutes=i), bandwidth_mbps=float(i)) for i in range(count)]


def test_what_is_pushed_is_stored_once_whatever_its_shape(server, client):
    rows = samples(20)
    assert client.push(rows[0]).stored == 1
    assert client.push(rows[:3]).stored == 2
    assert client.push(iter(rows)).stored == 17
    again = client.push_columns(
        Columns(
            [Link("a")],
            [0] * 20,
            [(T0_S + 60 * i) * 1000 for i in range(20)],
            bandwidth_mbps=[float(i) for i in range(20)],
        )
    )
    assert (again.stored, again.duplicates) == (0, 20)
    assert server.service.stored == {("a", (T0_S + 60 * i) * 1000): (float(i),) for i in range(20)}


def test_refusals_are_counted_over_all_requests_of_a_push(client):
    rows = samples(10_001)
    rows[10_000] = Sample("a", T0 - timedelta(days=1), bandwidth_mbps=-1.0)
    result = client.push(rows)
    assert (result.stored, result.refused) == (10_000, 1)
    assert [(r.index, r.field, r.reason) for r in result.refusals] == [
        (10_000, "bandwidth_mbps", RefusalReason.OUT_OF_RANGE)
    ]


def test_predictions_come_typed(client):
    prediction = client.predict("a")
    assert prediction.link_id == "a"
    assert (prediction.made_at, prediction.valid_until) == (T0, T0 + timedelta(minutes=15))
    assert (prediction.horizon, prediction.cadence) == (timedelta(minutes=15), timedelta(minutes=1))
    assert (prediction.bandwidth_mbps, prediction.latency_ms) == (90.0, None)
    assert prediction.bandwidth_quantiles.p95 == 100.0
    assert prediction.bandwidth_quantiles.p90 is None
    assert client.predict_window("w", samples(12)).bandwidth_mbps == 102.0


def test_a_path_has_all_horizons(client):
    path = client.predict_path("a")
    assert path.prediction == client.predict("a")
    assert [(one.horizon, one.bandwidth_quantiles.p50) for one in path.horizons] == [
        (timedelta(minutes=minutes), minutes) for minutes in (5, 15, 30)
    ]


def test_what_was_learned_of_a_link_and_what_its_prediction_rests_on(client):
    record = client.link("a")
    assert (record.summary.sample_count, record.hit_ratio, record.pending) == (3, 0.5, 4)
    assert [(one.metric, one.settled, one.mean_absolute_error, len(one.weights)) for one in record.metrics] == [
        ("bandwidth_mbps", 2, 1.5, 1),
        ("jitter_ms", 0, None, 0),
    ]
    explanation = client.explain("a")
    (metric,) = explanation.metrics
    assert metric.model_forecast - metric.baseline_forecast == sum(one.value for one in metric.attributions)
    assert (metric.attributions[0].lag, metric.contributions[0].forecaster) == (3, "median_10")


def test_a_batch_answers_for_each_link(client):
    good, bad = client.batch_predict(["a", "nowhere"])
    assert good.unwrap().link_id == "a"
    with pytest.raises(LinkUnknownError) as caught:
        bad.unwrap()
    assert caught.value.link_id == "nowhere"


def test_parameters_say_what_they_rest_on(client):
    chosen = client.parameters("a", current_streams=4, congestion_control=CongestionControl.BBR)
    assert (chosen.streams, chosen.pacing_mbps, chosen.prediction) == (6, None, None)
    assert (chosen.source, chosen.reasons) == (ParametersSource.DEFAULTS, (ParameterReason.UNKNOWN_LINK,))


def test_parameters_carry_all_that_a_node_says_of_itself(server, client):
    client.parameters(
        "a", current_buffer_bytes=1, current_pacing_mbps=2.5, receive_buffer_bytes=8192,
        bandwidth_kind=BandwidthKind.GOODPUT, loss_probes=60, base_latency_ms=1.5,
    )  # fmt: skip
    asked = server.service.asked[-1]
    assert (asked.current_buffer_bytes, asked.current_pacing_mbps, asked.receive_buffer_bytes) == (1, 2.5, 8192)
    assert (asked.bandwidth_kind, asked.loss_probes, asked.base_latency_ms) == (pb.BANDWIDTH_KIND_GOODPUT, 60, 1.5)


def test_a_transfer_is_estimated_and_its_outcome_told(client):
    found = client.estimate_transfer(40 * 10**9, "a", "nowhere", "b", deadline=T0 + timedelta(minutes=1))
    assert [one.link_id for one in found.estimates] == ["a", "b"]
    assert found.best is found.estimates[1]
    assert (found.best.completion_p10, found.best.completion_p90) == (timedelta(seconds=40), None)
    assert (found.best.start, found.best.deadline_probability) == (T0, 0.75)
    assert isinstance(found.errors["nowhere"], LinkUnknownError)
    assert client.estimate_transfer(1, "a").best.deadline_probability is None
    assert client.estimate_transfer(1, "nowhere").best is None

    outcome = TransferOutcome("a", T0, T0 + timedelta(minutes=1), 4, 48.0, 96.0, 0.25, 0.125, 65_536, 95.0)
    learned = client.report_outcome(outcome)
    assert (learned.effectiveness_ratio, learned.streams_correction) == (0.5, 1.25)
    unpaced = replace(outcome, pacing_mbps=None)
    client.report_outcome(unpaced)
    assert client.outcomes("a") == [outcome, unpaced]


def test_history_ledger_links_and_models(client):
    history = list(client.history("a", start=T0, end=T0 + timedelta(hours=1)))
    assert [(s.link_id, s.measured_at, s.bandwidth_mbps, s.latency_ms) for s in history] == [
        ("a", T0 + timedelta(minutes=i), float(i), None) for i in range(4)
    ]
    (entry,) = client.ledger("a")
    assert (entry.absolute_error.bandwidth_mbps, entry.absolute_error.jitter_ms, entry.hit) == (10.0, None, True)
    assert [link.link_id for link in client.links()] == ["l0", "l1", "l2", "l3", "l4"]
    model, other = client.models()
    assert (model.version, model.horizons) == ("1.2.3", (timedelta(minutes=15),))
    assert (other.loaded, other.published, other.training) == (False, True, None)


def test_models_are_looked_at_and_changed(client):
    model = client.model("1.2.3")
    assert (model.parent_version, model.training.rows, model.training.last_measured_at) == ("1.2.2", 500, None)
    with pytest.raises(ModelUnknownError, match="no model 'x'"):
        client.model("x")
    assert client.model_state().active_version == "1.2.3"
    assert client.activate_model("1.3.0").previous_versions == ("1.2.3", "1.2.2")
    assert client.rollback_model("1.3.0").active_version == "1.2.3"
    pin = ModelPin(PinScope.REGION, "eu", ("1.3.0", "1.2.3"))
    assert client.pin_model("1.3.0", "1.2.3", scope=PinScope.REGION, value="eu").pins == (pin,)
    assert client.unpin_model(PinScope.REGION, "eu").pins == ()
    assert client.pin_model().held
    assert not client.unpin_model().held
    answering, refusing = client.replicas()
    assert (answering.answering, answering.revision) == (True, 7)
    assert refusing.refused == {"1.3.0": "its golden windows disagree"}


def test_experiments_are_looked_at_and_changed(client):
    [one] = client.experiments()
    assert one == client.experiment("trial-1")
    assert (one.kind, one.status, one.ended_at) == (ExperimentKind.TRIAL, ExperimentStatus.RUNNING, None)
    assert (one.evidence.periods, one.evidence.advantage, one.evidence.metrics[0].targets) == (5, 0.25, 9)
    with pytest.raises(ModelUnknownError):
        client.experiment("x")
    assert client.start_experiment("1.3.0", champion="1.2.3", share=0.5).share == 0.5
    assert client.stop_experiment("trial-1", promote=True).status is ExperimentStatus.PROMOTED
    assert client.stop_experiment("trial-1").ended_at is not None


def test_retraining_is_looked_at_and_asked_for(client):
    known = client.retraining()
    run = known.run
    assert (run.number, run.trigger, run.outcome) == (2, RetrainingTrigger.DRIFT, RetrainingOutcome.FAILED)
    assert (run.reason, run.ended_at - run.started_at) == ("the disk is full", timedelta(seconds=2))
    assert (known.last_success_at, known.due_at.timestamp(), known.absent) == (None, 60, "")
    asked = client.start_retraining(from_scratch=True)
    assert (asked.asked, asked.run.from_scratch, asked.run.ended_at) == (True, True, None)


def test_errors_carry_what_the_service_said(server, client):
    server.service.fault("Predict", UNKNOWN_LINK, SHORT_HISTORY)
    with pytest.raises(LinkUnknownError, match="nowhere"):
        client.predict("nowhere")
    with pytest.raises(HistoryTooShortError) as short:
        client.predict("young")
    assert (short.value.have, short.value.need, short.value.retry_after) == (3, 10, timedelta(minutes=7))
    server.service.fault(
        "PushSamples",
        status(
            grpc.StatusCode.INVALID_ARGUMENT,
            "1 fault",
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field="samples[0].link_id", description="is required")
                ]
            ),
        ),
    )
    with pytest.raises(InvalidRequestError) as invalid:
        client.push(Sample(""))
    assert invalid.value.violations == (Violation("samples[0].link_id", "is required"),)


def test_an_idempotent_call_is_tried_again_while_the_store_is_away(server, client):
    server.service.fault("PushSamples", STORE_AWAY, STORE_AWAY)
    assert client.push(samples(1)).stored == 1
    assert server.service.calls.count("PushSamples") == 3


def test_other_errors_are_not_tried_again(server, client):
    server.service.fault("Predict", SHORT_HISTORY)
    with pytest.raises(HistoryTooShortError):
        client.predict("young")
    assert server.service.calls.count("Predict") == 1


def test_unavailable_is_told_when_it_lasts(server, client):
    server.service.fault(
        "Predict",
        *[
            status(
                grpc.StatusCode.UNAVAILABLE,
                "the store is unavailable",
                error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)),
            )
        ]
        * 5,
    )
    server.service.pushback_ms = 1
    with pytest.raises(UnavailableError, match="the store is unavailable") as caught:
        client.predict("a")
    assert caught.value.retry_after == timedelta(seconds=1)
    assert server.service.calls.count("Predict") == 5


def test_a_service_that_asks_not_to_be_tried_again_is_not(server, client):
    server.service.fault("Predict", STORE_AWAY)
    server.service.pushback_ms = -1
    with pytest.raises(UnavailableError):
        client.predict("a")
    assert server.service.calls.count("Predict") == 1


def test_refused_calls_are_made_again_when_the_service_says(server, client):
    busy = status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "calls under way: at most 16",
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)),
    )
    server.service.pushback_ms = 1
    server.service.fault("Predict", busy, busy)
    assert client.predict("a").link_id == "a"
    assert server.service.calls.count("Predict") == 3
    server.service.fault("Predict", *[busy] * 5)
    with pytest.raises(CapacityExceededError) as caught:
        client.predict("a")
    assert caught.value.retry_after == timedelta(seconds=1)
    assert server.service.calls.count("Predict") == 8


def test_nobody_there(server):
    server.stop()
    with Client(server.target, Options(timeouts=Timeouts(call_s=0.5))) as client, pytest.raises(TemporaryError):
        client.predict("a")


def test_a_deadline_is_kept(server, client):
    stuck = Options(timeouts=Timeouts(call_s=0.1, bulk_s=0.1))
    server.service.fault("ListLinks", *[STORE_AWAY] * 5)
    with Client(server.target, stuck) as hasty, pytest.raises(DeadlineExceededError):
        list(hasty.links())


def test_a_service_that_is_not_serving_is_left_alone_but_asked_for_parameters(server, client):
    assert client.health() is Health.SERVING
    server.set_health(serving=False)
    assert client.health() is Health.NOT_SERVING
    with Client(server.target, Options(timeouts=Timeouts(call_s=0.5))) as fresh:
        with pytest.raises(TemporaryError):
            fresh.predict("a")
        assert fresh.parameters("a").streams == 2
        assert "Predict" not in server.service.calls
        assert fresh.health("no.such.Service") is Health.SERVICE_UNKNOWN


def test_a_health_check_that_grpc_turns_away_under_overload_is_made_again(server, client):
    server.health.turned_away = 2
    assert client.health() is Health.SERVING
    assert server.health.turned_away == 0


def test_metadata_travels_with_every_call(server):
    with Client(server.target, Options(metadata=(("authorization", "Bearer x"),))) as client:
        client.predict("a")
    assert server.service.metadata["Predict"]["authorization"] == "Bearer x"
    assert server.service.metadata["Predict"]["user-agent"].startswith("pba-client/")


def test_a_closed_client_says_so(server):
    client = Client(server.target)
    client.close()
    with pytest.raises(ClientClosedError):
        client.predict("a")


def test_a_stream_acknowledges_each_batch(server, client):
    with client.stream() as stream:
        futures = [stream.push(one) for one in samples(200)]
        stream.flush(timeout_s=5)
        assert stream.unacknowledged == 0
    assert [future.result(0).stored for future in futures] == [1] * 200
    assert stream.totals.stored == 200
    assert len(server.service.stored) == 200
    with pytest.raises(ClientClosedError):
        stream.push(samples(1))


def test_a_stream_sends_again_what_was_not_acknowledged(server, client):
    server.service.fault("StreamSamples/ack", STORE_AWAY, STORE_AWAY)
    with client.stream() as stream:
        futures = [stream.push(one) for one in samples(50)]
    results = [future.result(0) for future in futures]
    assert sum(r.stored + r.duplicates for r in results) == 50
    assert len(server.service.stored) == 50
    assert server.service.calls.count("StreamSamples") == 3


def test_a_stream_survives_a_restart_of_the_service(server, client):
    with client.stream() as stream:
        stream.push(samples(1)).result(5)
        server.stop()
        later = [stream.push(one) for one in samples(20, "b")]
        server.start()
        assert [future.result(10).stored for future in later] == [1] * 20


def test_a_stream_gives_up_when_trying_again_is_no_use(server, client):
    server.service.fault("StreamSamples", *[status(grpc.StatusCode.PERMISSION_DENIED, "not you")] * 50)
    with pytest.raises(Exception, match="not you"), client.stream() as stream:
        future = stream.push(samples(1))
    assert str(future.exception(0)) == "not you"


def test_a_stream_gives_up_when_its_patience_ends(server):
    server.stop()
    with Client(server.target, Options(patience_s=0.1)) as client:
        stream = client.stream()
        future = stream.push(samples(1))
        with pytest.raises(UnavailableError):
            future.result(10)
        with pytest.raises(UnavailableError):
            stream.push(samples(1))
        stream.abort()


def test_leaving_a_stream_by_an_error_does_not_wait(server, client):
    server.stop()
    stream = client.stream()
    future = stream.push(samples(1))
    with pytest.raises(KeyError), stream:
        raise KeyError
    with pytest.raises(ClientClosedError):
        future.result(0)


def test_a_watch_begins_with_a_snapshot_and_goes_on(server, client, within):
    with client.watch("a", "b") as watch:
        first = within(lambda: next(watch))
        assert [p.link_id for p in first.predictions] == ["a", "b"]
        assert (first.snapshot_complete, first.skipped_updates, first.gap) == (True, 0, None)
        server.send_update(
            pb.StreamPredictionsResponse(predictions=[prediction_message("a", T0_S + 60)], skipped_updates=3)
        )
        second = within(lambda: next(watch))
        assert second.predictions[0].made_at == T0 + timedelta(seconds=60)
        assert second.skipped_updates == 3


@pytest.mark.parametrize("end", [STORE_AWAY, None], ids=["broken", "ended in good order"])
def test_a_watch_comes_back_and_tells_the_gap(server, client, within, end):
    interruptions = []
    with client.watch("a", on_interruption=lambda cause, delay_s: interruptions.append((cause, delay_s))) as watch:
        within(lambda: next(watch))
        server.send_update(pb.StreamPredictionsResponse(skipped_updates=2))
        within(lambda: next(watch))
        server.send_update(end)
        back = within(lambda: next(watch))
        assert [p.link_id for p in back.predictions] == ["a"]
        assert back.skipped_updates == 2
        assert back.gap.since <= back.gap.until
        assert back.gap.attempts == 1
        assert isinstance(back.gap.cause, UnavailableError) is (end is not None)
        assert len(interruptions) == 1


def test_a_watch_survives_a_restart_of_the_service(server, client, within):
    with client.watch("a") as watch:
        within(lambda: next(watch))
        server.stop()
        server.start()
        back = within(lambda: next(watch))
        assert back.gap is not None
        assert back.snapshot_complete


def test_a_watch_raises_what_trying_again_would_not_cure(server, client, within):
    server.service.fault("StreamPredictions", status(grpc.StatusCode.INVALID_ARGUMENT, "selector: is required"))
    with pytest.raises(InvalidRequestError), client.watch() as watch:
        within(lambda: next(watch))
    assert server.service.streams_of_predictions == 1


def test_a_watch_can_be_closed_from_another_thread(server, client, within):
    watch = client.watch("a")
    within(lambda: next(watch))
    threading.Timer(0.05, watch.close).start()
    assert within(lambda: list(watch)) == []
