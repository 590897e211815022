"""From the messages of pba.v1 to the frozen types; `requests` is the other way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pba_client import advice, records, types
from pba_client.errors import from_number

if TYPE_CHECKING:
    from enum import Enum

    from pba.v1 import model_service_pb2, prediction_service_pb2, types_pb2

    EnumT = TypeVar("EnumT", bound=Enum)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def epoch_ms(time: datetime) -> int:
    """Milliseconds since the Unix epoch, cut off to whole ones as the service stores them."""
    return (time - _EPOCH) // _MILLISECOND


def timestamp(time: datetime) -> Timestamp:
    """A time as a message."""
    seconds, within = divmod(epoch_ms(time), 1000)
    return Timestamp(seconds=seconds, nanos=within * 1_000_000)


def duration(span: timedelta) -> Duration:
    """A span as a message."""
    message = Duration()
    message.FromTimedelta(span)
    return message


def datetime_of(message: Timestamp) -> datetime:
    """A time in UTC."""
    return message.ToDatetime(tzinfo=UTC)


def known(kind: type[EnumT], number: int) -> EnumT:
    """The member with a number; the one with 0 for numbers that a newer service may send."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def sample(message: types_pb2.Sample, link_id: str = "") -> types.Sample:
    """A row as a sample; `link_id` where the message leaves it out."""
    metrics = _metrics(message)
    return types.Sample(
        link_id=message.link_id or link_id,
        measured_at=datetime_of(message.measured_at),
        bandwidth_mbps=metrics.get("bandwidth_mbps"),
        latency_ms=metrics.get("latency_ms"),
        packet_loss_ratio=metrics.get("packet_loss_ratio"),
        jitter_ms=metrics.get("jitter_ms"),
        node=message.node,
        peer=message.peer,
        region=message.region,
        sources=_sources(message.sources) if message.HasField("sources") else (),
    )


def _sources(
    said: types_pb2.ValueSources,
) -> tuple[types.ValueSource, types.ValueSource, types.ValueSource, types.ValueSource]:
    return (
        known(types.ValueSource, said.bandwidth),
        known(types.ValueSource, said.latency),
        known(types.ValueSource, said.packet_loss),
        known(types.ValueSource, said.jitter),
    )


def _metrics(
    message: types_pb2.Sample | types_pb2.Prediction | prediction_service_pb2.MetricValues,
) -> dict[str, float]:
    return {
        name: value
        for name, value in (
            ("bandwidth_mbps", message.bandwidth_mbps),
            ("latency_ms", message.latency_ms),
            ("packet_loss_ratio", message.packet_loss_ratio),
            ("jitter_ms", message.jitter_ms),
        )
        if message.HasField(name)  # type: ignore[arg-type] # a loop over literals is no literal to mypy
    }


def push_result(message: prediction_service_pb2.PushSamplesResponse) -> types.PushResult:
    """What became of a batch."""
    return types.PushResult(
        stored=message.stored,
        duplicates=message.duplicates,
        replaced=message.replaced,
        refused=message.refused,
        refusals=tuple(
            types.Refusal(r.index, r.field, known(types.RefusalReason, r.reason), r.description)
            for r in message.refusals
        ),
    )


def _quantiles(message: types_pb2.Quantiles) -> types.Quantiles:
    return types.Quantiles(
        p05=message.p05 if message.HasField("p05") else None,
        p10=message.p10 if message.HasField("p10") else None,
        p50=message.p50 if message.HasField("p50") else None,
        p90=message.p90 if message.HasField("p90") else None,
        p95=message.p95 if message.HasField("p95") else None,
    )


def prediction(message: types_pb2.Prediction) -> types.Prediction:
    """A prediction."""
    return types.Prediction(
        link_id=message.link_id,
        made_at=datetime_of(message.made_at),
        horizon=message.horizon.ToTimedelta(),
        valid_until=datetime_of(message.valid_until),
        bandwidth_mbps=message.bandwidth_mbps if message.HasField("bandwidth_mbps") else None,
        latency_ms=message.latency_ms if message.HasField("latency_ms") else None,
        packet_loss_ratio=message.packet_loss_ratio if message.HasField("packet_loss_ratio") else None,
        jitter_ms=message.jitter_ms if message.HasField("jitter_ms") else None,
        bandwidth_quantiles=_quantiles(message.bandwidth_quantiles),
        latency_quantiles=_quantiles(message.latency_quantiles),
        packet_loss_quantiles=_quantiles(message.packet_loss_quantiles),
        jitter_quantiles=_quantiles(message.jitter_quantiles),
        confidence=message.confidence,
        model_version=message.model_version,
        source=known(types.PredictionSource, message.source),
        cadence=message.cadence.ToTimedelta(),
        stale_since=datetime_of(message.stale_since) if message.HasField("stale_since") else None,
        condition=_condition(message.condition) if message.HasField("condition") else None,
    )


def _condition(message: types_pb2.LinkCondition) -> types.LinkCondition:
    return types.LinkCondition(
        kind=known(types.LinkConditionKind, message.kind),
        since=datetime_of(message.since),
        strength=message.strength,
        metrics=tuple(message.metrics),
    )


def prediction_result(message: prediction_service_pb2.BatchPredictResult) -> types.PredictionResult:
    """One link of a batch."""
    if message.HasField("prediction"):
        return types.PredictionResult(message.link_id, prediction(message.prediction), None)
    status = message.status
    error = from_number(status.code, status.message, status.details)
    return types.PredictionResult(message.link_id, None, error)


def parameters(message: prediction_service_pb2.GetOptimalParametersResponse) -> advice.Parameters:
    """Transport parameters."""
    chosen = message.parameters
    return advice.Parameters(
        streams=chosen.streams,
        buffer_bytes=chosen.buffer_bytes,
        chunk_bytes=chosen.chunk_bytes,
        pacing_mbps=chosen.pacing_mbps if chosen.HasField("pacing_mbps") else None,
        source=known(advice.ParametersSource, message.source),
        reasons=tuple(known(advice.ParameterReason, reason) for reason in message.reasons),
        explanation=message.explanation,
        should_adjust=message.should_adjust,
        valid_until=datetime_of(message.valid_until),
        prediction=prediction(message.prediction) if message.HasField("prediction") else None,
        not_sent_bytes=chosen.not_sent_bytes,
        window_bytes=chosen.window_bytes,
        apply_at=datetime_of(message.apply_at) if message.HasField("apply_at") else None,
        expected_goodput_mbps=(message.expected_goodput_mbps if message.HasField("expected_goodput_mbps") else None),
        current_expected_goodput_mbps=(
            message.current_expected_goodput_mbps if message.HasField("current_expected_goodput_mbps") else None
        ),
    )


def ledger_entry(message: prediction_service_pb2.LedgerEntry) -> records.LedgerEntry:
    """One prediction beside what came true."""
    return records.LedgerEntry(
        made_at=datetime_of(message.made_at),
        target=datetime_of(message.target),
        measured_at=datetime_of(message.measured_at),
        predicted=records.MetricValues(**_metrics(message.predicted)),
        actual=records.MetricValues(**_metrics(message.actual)),
        absolute_error=records.MetricValues(**_metrics(message.absolute_error)),
        confidence=message.confidence,
        hit=message.hit,
        model_version=message.model_version,
    )


def link_summary(message: prediction_service_pb2.LinkSummary) -> records.LinkSummary:
    """What is known of a link."""
    return records.LinkSummary(
        link_id=message.link_id,
        node=message.node,
        peer=message.peer,
        region=message.region,
        sample_count=message.sample_count,
        newest_sample=sample(message.newest_sample, message.link_id) if message.HasField("newest_sample") else None,
        newest_prediction=prediction(message.newest_prediction) if message.HasField("newest_prediction") else None,
    )


def model(message: model_service_pb2.Model) -> records.Model:
    """A loaded model."""
    return records.Model(
        name=message.name,
        version=message.version,
        serving=message.serving,
        checksum_sha256=message.checksum_sha256,
        created_at=datetime_of(message.created_at),
        features=tuple(message.features),
        window_slots=message.window_slots,
        horizons=tuple(horizon.ToTimedelta() for horizon in message.horizons),
        quantile_levels=tuple(message.quantile_levels),
        parameter_count=message.parameter_count,
        scores=tuple(records.ModelScore(s.metric, s.forecaster, s.mae_ratio) for s in message.scores),
        loaded=message.loaded,
        published=message.published,
        location=message.location,
        parent_version=message.parent_version,
        training=_training(message.training) if message.HasField("training") else None,
        refusal=message.refusal,
    )


def _training(message: model_service_pb2.TrainingData) -> records.TrainingData:
    return records.TrainingData(
        rows=message.rows,
        links=message.links,
        fingerprint_sha256=message.fingerprint_sha256,
        first_measured_at=datetime_of(message.first_measured_at) if message.HasField("first_measured_at") else None,
        last_measured_at=datetime_of(message.last_measured_at) if message.HasField("last_measured_at") else None,
    )


def model_state(message: model_service_pb2.ModelState) -> records.ModelState:
    """What is desired of the models; pins of a scope that this client does not know are left out."""
    scopes = {scope.value: scope for scope in records.PinScope}
    return records.ModelState(
        revision=message.revision,
        active_version=message.active_version,
        previous_versions=tuple(message.previous_versions),
        held=message.held,
        pins=tuple(
            records.ModelPin(scopes[pin.scope], pin.value, tuple(pin.versions))
            for pin in message.pins
            if pin.scope in scopes
        ),
    )


def replica(message: model_service_pb2.Replica) -> records.Replica:
    """What a replica says of itself."""
    return records.Replica(
        name=message.name,
        serving_version=message.serving_version,
        loaded_versions=tuple(message.loaded_versions),
        refused={one.version: one.reason for one in message.refused},
        revision=message.revision,
        started_at=datetime_of(message.started_at),
        answering=message.answering,
    )


def link_record(message: prediction_service_pb2.GetLinkResponse) -> records.LinkRecord:
    """All about a link."""
    return records.LinkRecord(
        summary=link_summary(message.summary),
        metrics=tuple(
            records.MetricRecord(
                metric=one.metric,
                settled=one.settled,
                mean_absolute_error=one.mean_absolute_error if one.HasField("mean_absolute_error") else None,
                weights=tuple(records.ForecasterWeight(w.forecaster, w.weight) for w in one.weights),
            )
            for one in message.metrics
        ),
        hit_ratio=message.hit_ratio,
        pending=message.pending,
    )


def explanation(message: prediction_service_pb2.ExplainPredictionResponse) -> records.Explanation:
    """What a prediction rests on."""
    return records.Explanation(
        prediction=prediction(message.prediction),
        metrics=tuple(
            records.MetricExplanation(
                metric=one.metric,
                model_forecast=one.model_forecast,
                baseline_forecast=one.baseline_forecast,
                attributions=tuple(records.Attribution(a.input, a.lag, a.value) for a in one.attributions),
                contributions=tuple(
                    records.ForecasterContribution(c.forecaster, c.weight, c.forecast) for c in one.contributions
                ),
            )
            for one in message.explanations
        ),
    )


def prediction_path(message: prediction_service_pb2.PredictResponse) -> records.PredictionPath:
    """A prediction with all horizons."""
    return records.PredictionPath(
        prediction=prediction(message.prediction),
        horizons=tuple(
            records.HorizonForecast(
                horizon=one.horizon.ToTimedelta(),
                bandwidth_quantiles=_quantiles(one.bandwidth_quantiles),
                latency_quantiles=_quantiles(one.latency_quantiles),
                packet_loss_quantiles=_quantiles(one.packet_loss_quantiles),
                jitter_quantiles=_quantiles(one.jitter_quantiles),
            )
            for one in message.path
        ),
    )
