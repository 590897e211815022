"""One step of online learning for many links: settle, forecast, remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import LedgerEntry, hits
from pba_service.domain.online import combine, confidence, intervals
from pba_service.domain.online.experts import MODEL, SEASONAL, window_experts, window_spread
from pba_service.domain.online.settle import Meetings, Timeline, free_slot, meet
from pba_service.domain.online.state import PENDING, fresh
from pba_service.domain.samples import MAXIMA, METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.online.state import States
    from pba_service.domain.samples import Series

SCALE_MEMORY = 0.02
SCALE_BURN_IN = 5
SCALE_GROWTH = 10.0
"""One error raises the scale as if it were at most this many times the scale."""

_SMALLEST_SCALE = np.float32(1e-6)
_RELATIVE_FLOOR = np.float32(1e-6)
_DAY_MS = 86_400_000
_HALF_LIMIT = np.float32(60_000)


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Forecasts of n links.

    Attributes:
        values: float32[n, 4], NaN for a metric that cannot be predicted.
        quantiles: float32[n, 4, 5] at `domain.forecast.QUANTILES`, non-decreasing; the median is `values`.
        confidence: float32[n], probability of a hit; 0 where neither bandwidth nor latency is predicted.
        target_ms: int64[n].
    """

    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    confidence: NDArray[np.float32]
    target_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Advance:
    """What came of one step.

    Attributes:
        states: STATE[n], the new states; those given are left as they were.
        forecasts: The new forecasts.
        entries: For each link the pending forecasts that met their sample, oldest target first.
    """

    states: States
    forecasts: Forecasts
    entries: list[list[LedgerEntry]]


def advance(
    states: States,
    *,
    series: Sequence[Series],
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    windows: NDArray[np.float32],
    model_output: NDArray[np.float32],
    levels: tuple[float, ...],
    model_version: str,
) -> Advance:
    """Settles the pending forecasts whose targets have come, forecasts, and remembers the forecast.

    Args:
        states: STATE[n], as `decode` gives them.
        series: Each link's recent samples. Nothing measured after its `made_at_ms` is looked at.
        made_at_ms: int64[n], when each window's newest sample was measured.
        step_ms: int64[n], cadence.
        target_ms: int64[n], what the forecasts speak of, after `made_at_ms`.
        windows: float32[n, L, 6] as `domain.window` builds them.
        model_output: float32[n, 4, Q], the model's quantiles in raw units, NaN where it gives none.
        levels: The Q quantile levels, increasing.
        model_version: The model's version, kept with the forecasts; cut after 32 bytes.
    """
    states = states.copy()
    timeline = Timeline.of(series, made_at_ms)
    entries = _settle(states, meet(states, timeline))
    experts = _experts(windows, timeline, target_ms, step_ms)
    made = _forecast(states, windows, experts, model_output, levels)
    _remember(states, made, made_at_ms=made_at_ms, step_ms=step_ms, target_ms=target_ms, version=model_version)
    states["last_made_at_ms"] = made_at_ms
    return Advance(states, Forecasts(made.values, made.quantiles, made.confidence, target_ms), entries)


def forecast_once(
    *,
    windows: NDArray[np.float32],
    step_ms: NDArray[np.int64],
    made_at_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    model_output: NDArray[np.float32],
    levels: tuple[float, ...],
) -> Forecasts:
    """Forecasts from windows alone, with what is known of links in general; arguments as in `advance`."""
    del step_ms, made_at_ms  # part of every forecast's description, without influence on this one
    made = _forecast(fresh(len(windows)), windows, window_experts(windows), model_output, levels)
    return Forecasts(made.values, made.quantiles, made.confidence, target_ms)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A forecast and what it was made of."""

    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    confidence: NDArray[np.float32]
    experts: NDArray[np.float32]
    scale: NDArray[np.float32]
    evidence: NDArray[np.float32]


def _forecast(
    states: States,
    windows: NDArray[np.float32],
    experts: NDArray[np.float32],
    model_output: NDArray[np.float32],
    levels: tuple[float, ...],
) -> _Made:
    with np.errstate(invalid="ignore"):  # absent metrics are NaN throughout
        experts[:, :, MODEL] = _model_expert(experts, model_output, levels)
        values = np.clip(combine.combine(states["log_weight"], experts), 0, MAXIMA)
        scale = _scale(states, windows, values)
        tails = intervals.model_tails(model_output, levels)
        quantiles = intervals.quantiles(values, tails, states["tail_offset"], scale)
        evidence = np.stack(
            [confidence.logit(confidence.probability_within(quantiles)), confidence.logit(states["hit_rate"])], axis=1
        )
        sure = confidence.confidence(states["confidence"], evidence)
    sure = np.where(np.isfinite(values[:, :2]).any(axis=1), sure, np.float32(0))
    return _Made(values, quantiles, sure, experts, scale, evidence)


def _scale(states: States, windows: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The error to expect, float32[n, 4]: learnt, or how far the window wanders; positive and finite."""
    scale = states["scale"]
    new = states["settled"] == 0
    if new.any():
        scale = np.where(new, window_spread(windows), scale)
    floor = np.maximum(_SMALLEST_SCALE, _RELATIVE_FLOOR * np.where(np.isfinite(values), np.abs(values), 0))
    return np.maximum(np.where(np.isfinite(scale), scale, 0), floor).astype(np.float32)


def contributions(
    states: States,
    *,
    series: Sequence[Series],
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    windows: NDArray[np.float32],
    model_output: NDArray[np.float32],
    levels: tuple[float, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What each of `EXPERTS` adds to a forecast; arguments as in `advance`, of which this changes nothing.

    Returns:
        Weights float32[n, 4, experts] that add up to one over those with a forecast, and their forecasts
        float32[n, 4, experts], NaN for those without. The forecast is the sum of the products.
    """
    experts = _experts(windows, Timeline.of(series, made_at_ms), target_ms, step_ms)
    experts[:, :, MODEL] = _model_expert(experts, model_output, levels)
    return combine.weights(states["log_weight"], np.isfinite(experts)), experts


def _experts(
    windows: NDArray[np.float32], timeline: Timeline, target_ms: NDArray[np.int64], step_ms: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The forecasts of all but the model: float32[n, 4, experts]."""
    experts = window_experts(windows)
    experts[:, :, SEASONAL] = _yesterday(timeline, target_ms, step_ms)
    return experts


def _model_expert(
    experts: NDArray[np.float32], model_output: NDArray[np.float32], levels: tuple[float, ...]
) -> NDArray[np.float32]:
    """The model's median where the metric is present: float32[n, 4]."""
    with np.errstate(invalid="ignore"):  # absent metrics are NaN throughout
        median = intervals.point(model_output, levels)
    return np.where(np.isfinite(experts[:, :, 0]), median, np.float32(np.nan))


def _yesterday(timeline: Timeline, target_ms: NDArray[np.int64], step_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """The sample one day before each target, float32[n, 4]; NaN where the series holds none."""
    found = timeline.nearest(np.arange(len(target_ms)), target_ms - _DAY_MS, step_ms // 2)
    if len(timeline.values) == 0:
        return np.full((len(target_ms), len(METRICS)), np.nan, np.float32)
    return np.where((found >= 0)[:, None], timeline.values[found], np.float32(np.nan))


def _settle(states: States, meetings: Meetings) -> list[list[LedgerEntry]]:
    """Learns from each meeting, oldest target first, and frees its slot."""
    entries: list[list[LedgerEntry]] = [[] for _ in range(len(states))]
    link, slot = meetings.link, meetings.slot
    if len(link) == 0:
        return entries
    first = np.append(True, link[1:] != link[:-1])
    turn = np.arange(len(link)) - np.maximum.accumulate(np.where(first, np.arange(len(link)), 0))
    for k in range(int(turn.max()) + 1):
        now = turn == k
        rows = link[now]
        waiting = states["pending"][rows, slot[now]]
        _learn(states, rows, waiting, meetings.actual[now])
        closed = _entries(states, rows, waiting, meetings.measured_at_ms[now], meetings.actual[now])
        for row, entry in zip(rows.tolist(), closed, strict=True):
            entries[row].append(entry)
        states["pending"][rows, slot[now]] = np.zeros((), PENDING)
    return entries


def _learn(states: States, rows: NDArray[np.intp], waiting: NDArray[np.void], actual: NDArray[np.float32]) -> None:
    predicted, scale = waiting["predicted"], waiting["scale"]
    error = np.abs(actual - predicted)
    compared = np.isfinite(error)
    unit = scale[..., None]
    experts = predicted[..., None] + waiting["experts"].astype(np.float32) * unit
    errors = np.abs(actual[..., None] - experts)
    states["log_weight"][rows] = combine.learn(states["log_weight"][rows], errors, error, scale)
    tails = predicted[..., None] + waiting["tails"].astype(np.float32) * unit
    states["tail_offset"][rows] = intervals.learn(
        states["tail_offset"][rows], tails, np.where(compared, actual, np.float32(np.nan))
    )
    settled = states["settled"][rows]
    known = np.where(settled > 0, states["scale"][rows], scale)
    pace = np.maximum(np.float32(SCALE_MEMORY), 1 / (settled + np.float32(SCALE_BURN_IN)))
    bounded = np.minimum(error, SCALE_GROWTH * scale)
    states["scale"][rows] = np.where(compared, known + pace * (bounded - known), states["scale"][rows])
    states["settled"][rows] = settled + compared

    judged = compared[:, :2].any(axis=1)
    rows, hit = rows[judged], hits(predicted[judged], actual[judged])
    evidence = waiting["evidence"][judged].astype(np.float32)
    states["confidence"][rows] = confidence.learn(states["confidence"][rows], evidence, hit)
    memory = np.float32(confidence.HIT_MEMORY)
    states["hit_rate"][rows] = memory * states["hit_rate"][rows] + (1 - memory) * hit


def _entries(
    states: States,
    rows: NDArray[np.intp],
    waiting: NDArray[np.void],
    measured_at_ms: NDArray[np.int64],
    actual: NDArray[np.float32],
) -> list[LedgerEntry]:
    versions = states["versions"][rows, waiting["version"]].tolist()
    texts = {version: version.decode(errors="ignore") for version in set(versions)}
    made_at = waiting["made_at_ms"]
    columns = (
        made_at.tolist(),
        (made_at + waiting["horizon_ms"]).tolist(),
        measured_at_ms.tolist(),
        np.ascontiguousarray(waiting["predicted"]),
        actual,
        waiting["confidence"].tolist(),
        [texts[version] for version in versions],
    )
    return list(map(LedgerEntry, *columns))


def _remember(
    states: States,
    made: _Made,
    *,
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    version: str,
) -> None:
    horizon = target_ms - made_at_ms
    slot, kept = free_slot(states, made_at_ms, horizon, step_ms)
    rows = np.flatnonzero(kept)
    new = np.zeros(len(rows), PENDING)
    values, scale = made.values[rows], made.scale[rows]
    unit = scale[..., None]
    tails = np.delete(made.quantiles[rows], intervals.MEDIAN, axis=2)
    new["made_at_ms"] = made_at_ms[rows]
    new["horizon_ms"] = horizon[rows]
    new["tolerance_ms"] = step_ms[rows] // 2
    new["predicted"] = values
    new["scale"] = scale
    new["experts"] = _half((made.experts[rows] - values[..., None]) / unit)
    new["tails"] = _half((tails - values[..., None]) / unit)
    new["confidence"] = made.confidence[rows]
    new["evidence"] = made.evidence[rows]
    new["version"] = _version_index(states, rows, version)
    states["pending"][rows, slot[rows]] = new


def _half(distance: NDArray[np.float32]) -> NDArray[np.float16]:
    return np.clip(distance, -_HALF_LIMIT, _HALF_LIMIT).astype(np.float16)


def _version_index(states: States, rows: NDArray[np.intp], version: str) -> NDArray[np.intp]:
    """Where each state keeps this version; a new one takes the place that no pending forecast refers to."""
    name = np.array(version.encode()[:32], "S32")
    same = states["versions"][rows] == name
    index: NDArray[np.intp] = np.argmax(same, axis=1)
    for i in np.flatnonzero(~same.any(axis=1)).tolist():
        pending = states["pending"][rows[i]]
        used = set(pending["version"][pending["horizon_ms"] > 0].tolist())
        free = [k for k in range(len(states["versions"][rows[i]])) if k not in used]
        index[i] = free[0] if free else 0
        states["versions"][rows[i], index[i]] = name
    return index
