"""One step of online learning for many links: settle, forecast, remember."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.columns import Columns
from pba_service.domain.forecast import JUDGED
from pba_service.domain.online import combine, confidence, cycle, early, hourly, intervals, pull
from pba_service.domain.online.column_timeline import ColumnTimeline
from pba_service.domain.online.experts import (
    CYCLE,
    EXPERTS,
    LAST,
    MODEL,
    SEASONAL,
    Heard,
    listen,
    metrics_last,
    window_spread,
)
from pba_service.domain.online.pending import due, meet
from pba_service.domain.online.remember import Made, remember
from pba_service.domain.online.settle import Closed, settle
from pba_service.domain.online.state import fresh
from pba_service.domain.online.timeline import Sought, Timeline, nearest_of
from pba_service.domain.samples import MAXIMA, METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.forecast import LedgerEntry
    from pba_service.domain.online.state import States
    from pba_service.domain.samples import Series

FEW = 1024
"""Links that are advanced at once: what belongs to them stays in the processor's cache."""

_DAY_MS = 86_400_000
_BITS = (1 << np.arange(len(EXPERTS))).astype(np.uint16)


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

    def take(self, rows: NDArray[np.intp]) -> Forecasts:
        """Those of some of the links."""
        return Forecasts(self.values[rows], self.quantiles[rows], self.confidence[rows], self.target_ms[rows])


@dataclass(frozen=True, eq=False)
class Advance:
    """What came of one step.

    Attributes:
        states: STATE[n], the states given, which were changed in place.
        forecasts: The new forecasts.
        experts: float32[n, 4, experts], what each of `EXPERTS` said, NaN where it had nothing to say.
        closed: The pending forecasts that met their sample, a link's oldest target first; `link` counts from the
            number beside them.
    """

    states: States
    forecasts: Forecasts
    experts: NDArray[np.float32]
    closed: list[tuple[int, Closed]]

    @cached_property
    def entries(self) -> list[list[LedgerEntry]]:
        """For each link the ledger entries of the forecasts that met their sample, oldest target first."""
        if len(self.closed) == 1 and len(self.closed[0][1].link) == len(self.states):  # one of each link
            return [[entry] for entry in self.closed[0][1].entries()]
        entries: list[list[LedgerEntry]] = [[] for _ in range(len(self.states))]
        for start, closed in self.closed:
            for link, entry in zip(closed.link.tolist(), closed.entries(), strict=True):
                entries[start + link].append(entry)
        return entries


def advance(
    states: States,
    *,
    series: Sequence[Series] | Columns,
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
        states: STATE[n], as `decode` gives them; changed in place, since a copy would cost a tenth of the whole.
        series: Each link's recent samples. Nothing measured after its `made_at_ms` is looked at; stretches of columns
            end there. Where it holds the sample of one day before the target, the seasonal forecaster takes part.
        made_at_ms: int64[n], when each window's newest sample was measured.
        step_ms: int64[n], cadence.
        target_ms: int64[n], what the forecasts speak of, after `made_at_ms`.
        windows: float32[n, L, 6] as `domain.window` builds them.
        model_output: float32[n, 4, Q], the model's quantiles in raw units, NaN where it gives none.
        levels: The Q quantile levels, increasing.
        model_version: The model's version, kept with the forecasts; cut after 32 bytes.
    """
    parts = [
        _advance_few(
            states[rows],
            series=series[rows],
            made_at_ms=made_at_ms[rows],
            step_ms=step_ms[rows],
            target_ms=target_ms[rows],
            windows=windows[rows],
            model_output=model_output[rows],
            levels=levels,
            model_version=model_version,
        )
        for rows in (slice(start, start + FEW) for start in range(0, max(len(states), 1), FEW))
    ]
    if len(parts) == 1:
        return parts[0]
    made = [part.forecasts for part in parts]
    closed = [(i * FEW, closed) for i, part in enumerate(parts) for _, closed in part.closed]
    return Advance(
        states,
        Forecasts(
            np.concatenate([forecasts.values for forecasts in made]),
            np.concatenate([forecasts.quantiles for forecasts in made]),
            np.concatenate([forecasts.confidence for forecasts in made]),
            target_ms,
        ),
        np.concatenate([part.experts for part in parts]),
        closed,
    )


def _advance_few(
    states: States,
    *,
    series: Sequence[Series] | Columns,
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    windows: NDArray[np.float32],
    model_output: NDArray[np.float32],
    levels: tuple[float, ...],
    model_version: str,
) -> Advance:
    timeline = _timeline(series, made_at_ms, step_ms)
    waiting = due(states, made_at_ms)
    found, yesterday = nearest_of(timeline, waiting.sought, _day_before(target_ms, step_ms))
    closed = [(0, some) for some in settle(states, meet(states, timeline, made_at_ms, waiting, found))]
    values, model_output = metrics_last(windows), _sane(model_output)
    early.judge(states, timeline.newest(), made_at_ms)
    said = intervals.model_median(model_output, levels)
    course = _course(states["learnt"], values, made_at_ms, step_ms, target_ms)
    heard = _heard(values, yesterday.values, course, said)
    made = _forecast(states, values, heard, intervals.model_tails(model_output, levels, said), target_ms)
    remember(states, made, made_at_ms=made_at_ms, step_ms=step_ms, target_ms=target_ms, version=model_version)
    states["last_made_at_ms"] = made_at_ms
    return Advance(states, Forecasts(made.values, made.quantiles, made.confidence, target_ms), heard.experts, closed)


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
    values, model_output = metrics_last(windows), _sane(model_output)
    states = fresh(len(windows))
    no_yesterday = np.full((len(windows), len(METRICS)), np.nan, np.float32)
    said = intervals.model_median(model_output, levels)
    course = _course(states["learnt"], values, made_at_ms, step_ms, target_ms)
    heard = _heard(values, no_yesterday, course, said)
    made = _forecast(states, values, heard, intervals.model_tails(model_output, levels, said), target_ms)
    return Forecasts(made.values, made.quantiles, made.confidence, target_ms)


def contributions(
    states: States,
    *,
    series: Sequence[Series] | Columns,
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
    yesterday = _timeline(series, made_at_ms, step_ms).nearest(_day_before(target_ms, step_ms)).values
    said = intervals.model_median(_sane(model_output), levels)
    values, learnt = metrics_last(windows), states["learnt"]
    course = _course(learnt, values, made_at_ms, step_ms, target_ms)
    experts = _heard(values, yesterday, course, said).experts
    log_weight = early.log_weight(learnt)
    mixed, _ = combine.combine(log_weight, experts, hourly.usual_error(learnt["hourly"], target_ms))
    shares = combine.weights(log_weight, ~np.isnan(experts))
    drawn = pull.share(mixed, experts[:, :, pull.TOWARDS], learnt["pull"], _scale(learnt, values, mixed))
    shares *= 1 - drawn.sum(axis=2)[..., None]
    shares[:, :, pull.TOWARDS] += drawn
    return shares, experts


def _timeline(
    series: Sequence[Series] | Columns, made_at_ms: NDArray[np.int64], step_ms: NDArray[np.int64]
) -> Timeline | ColumnTimeline:
    if isinstance(series, Columns):
        return ColumnTimeline(series)
    return Timeline(series, made_at_ms, step_ms)


def _course(
    learnt: NDArray[np.void],
    values: NDArray[np.float32],
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
) -> NDArray[np.float32]:
    """What the daily course says."""
    when = {"made_at_ms": made_at_ms, "step_ms": step_ms, "target_ms": target_ms}
    return cycle.forecast(learnt["course"], values, learnt["scale"], **when)


def _day_before(target_ms: NDArray[np.int64], step_ms: NDArray[np.int64]) -> Sought:
    """The sample one day before each target."""
    return Sought(np.arange(len(target_ms)), target_ms - _DAY_MS, step_ms // 2)


def _sane(model_output: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model says as far as it is a number, within what the contract admits; NaN otherwise."""
    bounded: NDArray[np.float32] = model_output.clip(0, MAXIMA[:, None])
    np.copyto(bounded, np.nan, where=np.isinf(model_output))
    return bounded


def _heard(
    values: NDArray[np.float32],
    yesterday: NDArray[np.float32],
    course: NDArray[np.float32],
    said: NDArray[np.float32],
) -> Heard:
    """What the window says by itself, and in its experts what yesterday, the daily course and the model add."""
    heard = listen(values)
    experts = heard.experts
    absent = np.isnan(experts[:, :, LAST])
    experts[:, :, SEASONAL], experts[:, :, MODEL] = yesterday, said
    course.clip(0, MAXIMA, out=experts[:, :, CYCLE])
    if np.count_nonzero(absent):
        experts[absent] = np.nan
    return heard


def _forecast(
    states: States,
    window_values: NDArray[np.float32],
    heard: Heard,
    tails: NDArray[np.float32],
    target_ms: NDArray[np.int64],
) -> Made:
    """The forecasts; fills in what the hourly forecaster says."""
    learnt = states["learnt"]
    usual_error = hourly.usual_error(learnt["hourly"], target_ms)
    mixed, others = combine.combine(early.log_weight(learnt), heard.experts, usual_error)
    scale = _scale(learnt, window_values, mixed)
    values = pull.drawn(mixed, heard.experts[:, :, pull.TOWARDS], learnt["pull"], scale)
    values.clip(0, MAXIMA, out=values)
    judged = values[:, :JUDGED]
    np.copyto(judged, 0, where=judged < intervals.NOTHING)
    awake = ~np.isnan(heard.experts)
    states["heard"] = awake.astype(np.uint16) @ _BITS
    remembered = intervals.tails(
        values,
        heard.tails,
        tails,
        heard.experts[:, :, LAST],
        offset=learnt["tail_offset"],
        excess=learnt["tail_excess"],
        burst=learnt["tail_burst"],
        scale=scale,
    )
    stated = intervals.stated(remembered, values, scale)
    lower, upper = stated[..., : intervals.LOWER], stated[..., intervals.LOWER :]
    quantiles = np.concatenate([lower, values[..., None], upper], axis=2)
    evidence = np.empty((len(states), 2), np.float32)
    evidence[:, 0] = confidence.logit(confidence.probability_within(quantiles))
    evidence[:, 1] = confidence.logit(learnt["hit_rate"])
    sure = confidence.confidence(learnt["confidence"], evidence)
    sure *= awake[:, 0, LAST] | awake[:, 1, LAST]
    return Made(values, quantiles, remembered, sure, heard.experts, others, scale, evidence)


def _scale(
    learnt: NDArray[np.void], window_values: NDArray[np.float32], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The error to expect, float32[n, 4]: learnt, or how far the window wanders; positive and finite."""
    scale: NDArray[np.float32] = learnt["scale"]
    new = learnt["settled"] == 0
    if np.count_nonzero(new):
        rows = np.flatnonzero(new.any(axis=1))
        scale = scale.copy()
        scale[rows] = np.where(new[rows], window_spread(window_values[rows]), scale[rows])
    bounded: NDArray[np.float32] = np.fmax(scale, intervals.smallest_scale(values))
    return bounded
