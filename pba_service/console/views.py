"""What the page shows, as plain values for JSON: times in Unix milliseconds, None for what is absent."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.amst.conditions import conditions, usable
from pba_service.domain.amst.optimizer import optimize
from pba_service.domain.errors import LinkUnknownError, PbaError
from pba_service.domain.parameters import ParametersAsk
from pba_service.domain.samples import METRICS, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.experiments import Evidence, Record, Rule
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.parameters import ParametersAnswer, TransportBounds, TransportParameters
    from pba_service.engine.api import ModelTrials, Service
    from pba_service.engine.ports import LinkSummary, ModelInfo

PAGE_LINKS = 50
SPARK_POINTS = 60
LINK_POINTS = 720
ADVISED_POINTS = 120
"""More points than these on a line tell the eye nothing."""

_HOUR_MS = 3_600_000


async def overview(service: Service, *, prefix: str, after: str) -> dict[str, Any]:
    """A page of links with their newest values, predictions, and the line of their recent past."""
    found = await service.links(prefix=prefix, region="", after=after, limit=PAGE_LINKS)
    lines = await asyncio.gather(*(_sparkline(service, link) for link in found))
    more = found[-1].info.link_id if len(found) == PAGE_LINKS else None
    return {
        "metrics": METRICS,
        "links": [{**_summary(link), "line": line} for link, line in zip(found, lines, strict=True)],
        "next": more,
    }


async def link(service: Service, link_id: str, *, hours: int, bounds: TransportBounds) -> dict[str, Any]:
    """One link: what was measured and predicted, what is predicted now, how to send, what its forecast rests on.

    Raises:
        PbaError: The link is unknown, or the store is away.
    """
    found = next(iter(await service.links(prefix=link_id, region="", after="", limit=1)), None)
    if found is None or found.info.link_id != link_id:  # of the ids that begin so, the id itself comes first
        raise LinkUnknownError(link_id)
    series = await _history(service, link_id, _since_ms(found, hours))
    entries = [entry async for part in service.ledger(link_id, _since_ms(found, hours), None) for entry in part]
    answer: dict[str, Any] = {
        "link": _summary(found),
        "metrics": METRICS,
        "history": _columns(thinned(series, LINK_POINTS)),
        "ledger": _ledger(_every(entries, LINK_POINTS)),
        "advised": advised(link_id, _every(entries, ADVISED_POINTS), bounds),
        "parameters": _answer(await service.parameters(ParametersAsk(link_id))),
        "learned": await _learned(service, link_id),
        "outcomes": await _outcomes(service, link_id),
    }
    try:
        prediction = await service.predict(link_id)
    except PbaError as error:
        return {**answer, "prediction": None, "why": str(error)}
    return {**answer, "prediction": _prediction(prediction), "path": await _path(service, link_id)}


async def models(service: Service, trials: ModelTrials) -> dict[str, Any]:
    """The loaded models, the serving one first, and the experiments on them, the latest first.

    Raises:
        StoreUnavailableError: The store is away.
    """
    known = await trials.known()
    return {
        "models": [_model(info) for info in service.models()],
        "experiments": [_experiment(record, evidence, trials.rule) for record, evidence in known],
    }


def advised(link_id: str, entries: Sequence[LedgerEntry], bounds: TransportBounds) -> dict[str, list[Any]]:
    """What a node would have been told to do, from what had been predicted: by target, for a node without limits."""
    ask = ParametersAsk(link_id)
    told = [
        (entry.target_ms, optimize(conditions(entry.predicted, None, ask), ask, bounds).parameters)
        for entry in entries
        if usable(entry.predicted)
    ]
    return {
        "at_ms": [at_ms for at_ms, _ in told],
        "streams": [parameters.streams for _, parameters in told],
        "buffer_bytes": [parameters.buffer_bytes for _, parameters in told],
        "pacing_mbps": [parameters.pacing_mbps for _, parameters in told],
    }


def thinned(series: Series, points: int) -> Series:
    """A series of at most so many samples, evenly taken, the newest among them."""
    if len(series) <= points:
        return series
    kept = np.unique(np.linspace(0, len(series) - 1, points).round().astype(np.intp))
    return Series(series.times_ms[kept], series.values[kept])


def _every(entries: Sequence[LedgerEntry], points: int) -> Sequence[LedgerEntry]:
    step = max(1, -(-len(entries) // points))
    return entries[(len(entries) - 1) % step :: step] if entries else entries


def _since_ms(found: LinkSummary, hours: int) -> int | None:
    """So long before the newest sample, not before now: a silent link shows its last hours."""
    if not len(found.newest_sample):
        return None
    return int(found.newest_sample.times_ms[-1]) - hours * _HOUR_MS


async def _history(service: Service, link_id: str, start_ms: int | None) -> Series:
    parts = [part async for part in service.history(link_id, start_ms, None)]
    if not parts:
        return Series.empty()
    return Series(np.concatenate([part.times_ms for part in parts]), np.concatenate([part.values for part in parts]))


async def _sparkline(service: Service, summary: LinkSummary) -> dict[str, Any]:
    """Two hours of the first metric that the link measures."""
    try:
        series = thinned(await _history(service, summary.info.link_id, _since_ms(summary, 2)), SPARK_POINTS)
    except LinkUnknownError:
        series = Series.empty()  # its samples expired meanwhile
    measured = np.isfinite(series.values).any(axis=0) if len(series) else np.zeros(len(METRICS), bool)
    column = int(np.argmax(measured))
    return {
        "metric": METRICS[column] if measured.any() else None,
        "times_ms": series.times_ms.tolist(),
        "values": _numbers(series.values[:, column]),
    }


def _summary(found: LinkSummary) -> dict[str, Any]:
    newest, info = found.newest_sample, found.info
    return {
        "link_id": info.link_id,
        "node": info.node,
        "peer": info.peer,
        "region": info.region,
        "samples": found.sample_count,
        "newest_ms": int(newest.times_ms[-1]) if len(newest) else None,
        "values": _numbers(newest.values[-1]) if len(newest) else [None] * len(METRICS),
        "prediction": _prediction(found.newest_prediction) if found.newest_prediction else None,
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "made_at_ms": prediction.made_at_ms,
        "target_ms": prediction.target_ms,
        "values": _numbers(prediction.values),
        "quantiles": [_numbers(row) for row in prediction.quantiles],
        "confidence": _number(prediction.confidence),
        "model": prediction.model_version,
    }


async def _path(service: Service, link_id: str) -> list[dict[str, Any]]:
    """The model's own quantiles at each of its horizons."""
    try:
        points = await service.insight.path(link_id)
    except PbaError:
        return []
    return [{"horizon_ms": p.horizon_ms, "quantiles": [_numbers(row) for row in p.quantiles]} for p in points]


async def _learned(service: Service, link_id: str) -> dict[str, Any]:
    record = await service.insight.record(link_id)
    return {
        "experts": record.experts,
        "weights": [_numbers(row) for row in record.weights],
        "settled": record.settled.tolist(),
        "mean_absolute_error": _numbers(record.mean_absolute_error),
        "hit_rate": _number(record.hit_rate),
    }


async def _outcomes(service: Service, link_id: str) -> list[dict[str, Any]]:
    """What nodes did with the link, and what came of it."""
    return [
        {
            "ended_at_ms": outcome.ended_at_ms,
            "streams": outcome.streams,
            "expected_mbps": _number(outcome.expected_mbps),
            "achieved_mbps": _number(outcome.achieved_mbps),
        }
        for outcome in await service.transfers.outcomes(link_id)
    ]


def _answer(answer: ParametersAnswer) -> dict[str, Any]:
    return {
        **_parameters(answer.parameters),
        "source": answer.source.name.lower(),
        "explanation": answer.explanation,
        "expected_mbps": _number(answer.expected_mbps),
        "apply_at_ms": answer.apply_at_ms,
        "valid_until_ms": answer.valid_until_ms,
    }


def _parameters(parameters: TransportParameters) -> dict[str, Any]:
    return {
        "streams": parameters.streams,
        "buffer_bytes": parameters.buffer_bytes,
        "chunk_bytes": parameters.chunk_bytes,
        "pacing_mbps": _number(parameters.pacing_mbps),
    }


def _model(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "created_at_ms": info.created_at_ms,
        "parameters": info.parameter_count,
        "window_slots": info.window_slots,
        "horizons_ms": info.horizons_ms,
        "scores": [{"metric": m, "forecaster": f, "ratio": _number(value)} for m, f, value in info.scores],
    }


def _experiment(record: Record, evidence: Evidence, rule: Rule) -> dict[str, Any]:
    return {
        "name": record.name,
        "kind": record.kind.name.lower(),
        "champion": record.champion,
        "challenger": record.challenger,
        "share": _number(record.share),
        "status": record.status.name.lower(),
        "automatic": record.automatic,
        "started_at_ms": record.started_at_ms,
        "ended_at_ms": record.ended_at_ms or None,
        "periods": evidence.periods,
        "targets": sum(targets for _, _, targets in record.observations),
        "advantage": _number(evidence.advantage),
        "low": _number(evidence.low),
        "high": _number(evidence.high),
        # evidence multiplies: on a scale of logarithms it adds up, from nothing (0) to a verdict (1)
        "towards_promotion": _towards(evidence.promote_wealth, rule.false_promotion),
        "towards_rejection": _towards(evidence.reject_wealth, rule.false_rejection),
        "metrics": [
            {"metric": metric, "ratio": _number(challenger / champion)}
            for metric, (targets, champion, challenger) in zip(METRICS, record.by_metric, strict=True)
            if targets and champion
        ],
    }


def _towards(wealth: float, error_rate: float) -> float:
    """How far the evidence has come on its way to a verdict, 0 to 1."""
    return float(np.clip(math.log(max(wealth, 1.0)) / -math.log(error_rate), 0, 1)) if error_rate < 1 else 1.0


def _columns(series: Series) -> dict[str, Any]:
    return {"times_ms": series.times_ms.tolist(), "values": [_numbers(column) for column in series.values.T]}


def _ledger(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    return {
        "target_ms": [entry.target_ms for entry in entries],
        "predicted": [_numbers(np.array([entry.predicted[m] for entry in entries])) for m in range(len(METRICS))],
        "actual": [_numbers(np.array([entry.actual[m] for entry in entries])) for m in range(len(METRICS))],
    }


def _numbers(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Six significant digits are more than a screen shows."""
    return [_number(value) for value in values.tolist()]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
