"""From the domain to the wire, and the wire's times. What comes from the wire is read in `batches` and `requests`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.parameters import ParameterReason, ParametersSource
from pba_service.domain.samples import METRICS, Reason
from pba_service.serving import wire
from pba_service.serving.wire import LEVEL_FIELDS, QUANTILE_FIELDS, set_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.online import LinkRecord
    from pba_service.domain.parameters import ParametersAnswer, TransportParameters
    from pba_service.domain.samples import Refusal, Series
    from pba_service.engine.api import PushOutcome
    from pba_service.engine.insight import PathPoint, PredictionExplained
    from pba_service.engine.ports import LinkSummary

# The domain's enums are named as the contract's values, whatever the numbers.
_REFUSAL_REASONS = {reason: pb.RefusalReason.Value(f"REFUSAL_REASON_{reason.name}") for reason in Reason}
_PARAMETERS_SOURCES = {s: pb.ParametersSource.Value(f"PARAMETERS_SOURCE_{s.name}") for s in ParametersSource}
_PARAMETER_REASONS = {r: pb.ParameterReason.Value(f"PARAMETER_REASON_{r.name}") for r in ParameterReason}

_MIN_SECONDS = -62_135_596_800  # 0001-01-01, as google.protobuf.Timestamp documents
_MAX_SECONDS = 253_402_300_799  # 9999-12-31
_NANOS_PER_SECOND = 1_000_000_000


def timestamp(time_ms: int) -> Timestamp:
    """A time in milliseconds since the epoch as a message."""
    seconds, millis = divmod(time_ms, 1000)
    return Timestamp(seconds=seconds, nanos=millis * 1_000_000)


def duration(span_ms: int) -> Duration:
    """A non-negative span as a message."""
    seconds, millis = divmod(span_ms, 1000)
    return Duration(seconds=seconds, nanos=millis * 1_000_000)


def read_timestamp(message: Timestamp) -> int | None:
    """Milliseconds since the epoch, rounded down; None when the message is outside what its type documents."""
    if not (_MIN_SECONDS <= message.seconds <= _MAX_SECONDS and 0 <= message.nanos < _NANOS_PER_SECOND):
        return None
    return message.seconds * 1000 + message.nanos // 1_000_000


def prediction(forecast: Prediction) -> types.Prediction:
    """A prediction."""
    return types.Prediction.FromString(wire.prediction(forecast))


def path(points: Iterable[PathPoint]) -> list[types.HorizonForecast]:
    """The model's forecasts at its horizons."""
    messages = []
    for point in points:
        messages.append(types.HorizonForecast(horizon=duration(point.horizon_ms)))
        _set_quantiles(messages[-1], point.quantiles)
    return messages


def _set_quantiles(message: types.HorizonForecast, quantiles: NDArray[np.float32]) -> None:
    """Sets float32[4, 5]; touching a sub-message without setting anything in it leaves it absent."""
    for field, row in zip(QUANTILE_FIELDS, quantiles.tolist(), strict=True):
        _set(getattr(message, field), LEVEL_FIELDS, row)


def _set(message: Message, fields: tuple[str, ...], values: list[float]) -> None:
    """Sets those that are finite."""
    for field, value in zip(fields, values, strict=True):
        if math.isfinite(value):
            setattr(message, field, value)


def samples(series: Series, link_id: str = "") -> list[types.Sample]:
    """The samples of a series."""
    messages = []
    for time_ms, row in zip(series.times_ms.tolist(), series.values.tolist(), strict=True):
        message = types.Sample(link_id=link_id)
        set_ms(message.measured_at, time_ms)
        _set(message, METRICS, row)
        messages.append(message)
    return messages


def ledger_entry(entry: LedgerEntry) -> pb.LedgerEntry:
    """One entry of the accuracy ledger."""
    message = pb.LedgerEntry(confidence=entry.confidence, hit=entry.hit, model_version=entry.model_version)
    set_ms(message.made_at, entry.made_at_ms)
    set_ms(message.target, entry.target_ms)
    set_ms(message.measured_at, entry.measured_at_ms)
    _set(message.predicted, METRICS, entry.predicted.tolist())
    _set(message.actual, METRICS, entry.actual.tolist())
    _set(message.absolute_error, METRICS, entry.absolute_error.tolist())
    return message


def link_summary(link: LinkSummary) -> pb.LinkSummary:
    """What is known of a link."""
    newest = samples(link.newest_sample, link.info.link_id)
    return pb.LinkSummary(
        link_id=link.info.link_id,
        node=link.info.node,
        peer=link.info.peer,
        region=link.info.region,
        sample_count=link.sample_count,
        newest_sample=newest[-1] if newest else None,
        newest_prediction=prediction(link.newest_prediction) if link.newest_prediction else None,
    )


def parameters(answer: ParametersAnswer) -> pb.GetOptimalParametersResponse:
    """Transport parameters and what they rest on."""
    return pb.GetOptimalParametersResponse(
        parameters=transport_parameters(answer.parameters),
        source=_PARAMETERS_SOURCES[answer.source],
        reasons=[_PARAMETER_REASONS[reason] for reason in answer.reasons],
        explanation=answer.explanation,
        should_adjust=answer.should_adjust,
        apply_at=timestamp(answer.apply_at_ms),
        valid_until=timestamp(answer.valid_until_ms),
        prediction=prediction(answer.prediction) if answer.prediction else None,
        current=transport_parameters(answer.current) if answer.current else None,
        expected_goodput_mbps=answer.expected_mbps,
        current_expected_goodput_mbps=answer.current_expected_mbps,
    )


def transport_parameters(advice: TransportParameters) -> types.TransportParameters:
    """How to send over a link."""
    return types.TransportParameters(
        streams=advice.streams,
        buffer_bytes=advice.buffer_bytes,
        chunk_bytes=advice.chunk_bytes,
        pacing_mbps=advice.pacing_mbps,
        not_sent_bytes=advice.not_sent_bytes,
        window_bytes=advice.window_bytes,
    )


def link(summary: LinkSummary, record: LinkRecord) -> pb.GetLinkResponse:
    """What is known and what was learned of a link."""
    learned = zip(
        METRICS, record.settled.tolist(), record.mean_absolute_error.tolist(), record.weights.tolist(), strict=True
    )
    return pb.GetLinkResponse(
        summary=link_summary(summary),
        metrics=[
            pb.MetricRecord(
                metric=metric,
                settled=settled,
                mean_absolute_error=error if math.isfinite(error) else None,
                weights=[
                    pb.ForecasterWeight(forecaster=name, weight=weight)
                    for name, weight in zip(record.experts, weights, strict=True)
                ],
            )
            for metric, settled, error, weights in learned
        ],
        hit_ratio=record.hit_rate,
        pending=record.pending,
    )


def explanation(forecast: Prediction, explained: PredictionExplained) -> pb.ExplainPredictionResponse:
    """What a prediction rests on; metrics and forecasters without a forecast are left out."""
    model, explanations = explained.model, []
    for position, metric in enumerate(METRICS):
        if not math.isfinite(model.forecast[position]):
            continue
        moves = zip(model.players, model.attributions[position].tolist(), strict=True)
        parts = zip(
            explained.experts,
            explained.weights[position].tolist(),
            explained.forecasts[position].tolist(),
            strict=True,
        )
        explanations.append(
            pb.MetricExplanation(
                metric=metric,
                model_forecast=model.forecast[position],
                baseline_forecast=model.baseline[position],
                attributions=[pb.Attribution(input=p.feature, lag=p.lag, value=value) for p, value in moves],
                contributions=[
                    pb.ForecasterContribution(forecaster=name, weight=weight, forecast=value)
                    for name, weight, value in parts
                    if math.isfinite(value)
                ],
            )
        )
    return pb.ExplainPredictionResponse(prediction=prediction(forecast), explanations=explanations)


def push_response(sequence: int, outcome: PushOutcome, refusals: Sequence[Refusal]) -> pb.PushSamplesResponse:
    """What became of a batch; `refusals` are all of them, by their place in the request."""
    return pb.PushSamplesResponse(
        sequence=sequence,
        stored=outcome.stored,
        duplicates=outcome.duplicates,
        replaced=outcome.replaced,
        refused=len(refusals),
        refusals=[
            pb.RefusedSample(index=r.index, field=r.field, reason=_REFUSAL_REASONS[r.reason], description=r.description)
            for r in refusals
        ],
    )


def pieces(series: Series, size: int) -> Iterable[Series]:
    """A series in pieces of at most `size` samples."""
    for start in range(0, len(series), size):
        yield type(series)(series.times_ms[start : start + size], series.values[start : start + size])
