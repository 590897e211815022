"""Transport parameters of a link: from its prediction where that can be relied on, else from its measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.amst.conditions import conditions, usable
from pba_service.domain.amst.feedback import correction
from pba_service.domain.amst.optimizer import defaults
from pba_service.domain.amst.plan import Outlook, Plan, Point, current_set, pace_matters, plan
from pba_service.domain.errors import LinkUnknownError, PbaError, StoreUnavailableError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, QUANTILES
from pba_service.domain.parameters import ParameterReason, ParametersAnswer, ParametersSource, answer
from pba_service.domain.window import MIN_SLOTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.amst.conditions import Conditions
    from pba_service.domain.forecast import Prediction
    from pba_service.domain.parameters import ParametersAsk, TransportBounds
    from pba_service.domain.samples import Series
    from pba_service.engine.insight import Insight, PathPoint
    from pba_service.engine.ports import Clock, Store

_MEDIAN = QUANTILES.index(0.50)


@dataclass(frozen=True, slots=True)
class AdviceOptions:
    """What the operator decides.

    Attributes:
        bounds: Bounds of transport parameters.
        confidence_threshold: Below it parameters follow measurements instead of the prediction.
        base_ms: The cadence taken for a link of which no prediction tells it.
    """

    bounds: TransportBounds
    confidence_threshold: float
    base_ms: int


@dataclass(slots=True)
class _Asked:
    """Whether all that an answer rests on could be read: if not, it is not the answer of a moment later."""

    in_full: bool = True


class Adviser:
    """Answers what parameters a link should have; stores nothing."""

    def __init__(self, store: Store, insight: Insight, options: AdviceOptions, clock: Clock) -> None:
        self._store = store
        self._insight = insight
        self._options = options
        self._clock = clock

    async def advise(
        self, ask: ParametersAsk, prediction: Prediction | None, reasons: tuple[ParameterReason, ...]
    ) -> ParametersAnswer:
        """Parameters for a link; always answers.

        Args:
            ask: What the caller says of itself.
            prediction: The link's prediction; None where there is none.
            reasons: Why there is none.
        """
        now_ms, asked = self._clock(), _Asked()
        recent = await self._recent(ask.link_id, prediction, now_ms, asked)
        until_ms = prediction.target_ms if prediction else now_ms + PRODUCT_HORIZON_MS
        if prediction and not usable(prediction.values):
            reasons = (ParameterReason.METRIC_ABSENT,)
        elif prediction and prediction.confidence < self._options.confidence_threshold:
            reasons = (ParameterReason.LOW_CONFIDENCE,)
        step_ms = prediction.step_ms if prediction else self._options.base_ms
        outlook, source, said = None, ParametersSource.DEFAULTS, reasons
        if recent is not None and prediction and not reasons:
            source = ParametersSource.PREDICTION
            path = await self._path(ask, prediction, asked)
            outlook = Outlook(now_ms, prediction.made_at_ms, step_ms, until_ms, present(recent, ask), path)
        elif recent is not None:
            source = ParametersSource.MEASUREMENT
            outlook = Outlook(now_ms, int(recent.times_ms[-1]), step_ms, until_ms, robust(recent, ask))
        elif prediction and not (asked.in_full and prediction.stale_since_ms is None) and not reasons:
            # The store is away, whether that is known already or not: the last known prediction is nearer to the truth
            # than any default.
            source, said = ParametersSource.PREDICTION, (ParameterReason.STORE_UNAVAILABLE,)
            link = conditions(prediction.values, prediction.quantiles, ask)
            expected = [Point(prediction.target_ms, link)]
            outlook = Outlook(now_ms, prediction.made_at_ms, step_ms, until_ms, link, expected)
        if outlook is None:
            return self._defaults(ask, reasons or (ParameterReason.METRIC_ABSENT,), until_ms, prediction)
        corrected = await self._correction(ask.link_id, now_ms, asked)
        chosen = plan(outlook, ask, self._options.bounds, correction=corrected)
        holds_until_ms = _holds_until_ms(outlook, chosen) if asked.in_full else 0
        return _answer(chosen, source=source, reasons=said, prediction=prediction, holds_until_ms=holds_until_ms)

    def _defaults(
        self,
        ask: ParametersAsk,
        reasons: tuple[ParameterReason, ...],
        valid_until_ms: int,
        prediction: Prediction | None,
    ) -> ParametersAnswer:
        parameters = defaults(ask, self._options.bounds)
        unfit = ask.current_streams != parameters.streams or ask.over_budget
        return answer(
            parameters,
            reasons,
            source=ParametersSource.DEFAULTS,
            should_adjust=unfit or pace_matters(ask.current_pacing_mbps, None),
            apply_at_ms=self._clock(),
            valid_until_ms=valid_until_ms,
            prediction=prediction,
            current=current_set(ask, parameters),
        )

    async def _recent(self, link_id: str, prediction: Prediction | None, now_ms: int, asked: _Asked) -> Series | None:
        """The newest samples of a link that has been heard of within the horizon and measures what is needed."""
        step_ms = prediction.step_ms if prediction else self._options.base_ms
        horizon_ms = prediction.horizon_ms if prediction else PRODUCT_HORIZON_MS
        try:
            [snapshot] = await self._store.snapshots([link_id], [(MIN_SLOTS - 1) * step_ms])
        except StoreUnavailableError:
            asked.in_full = False
            return None
        if snapshot is None or snapshot.recent.times_ms[-1] + max(horizon_ms, 2 * step_ms) < now_ms:
            return None
        return snapshot.recent if usable(_medians(snapshot.recent)) else None

    async def _path(self, ask: ParametersAsk, prediction: Prediction, asked: _Asked) -> list[Point]:
        """What the link is expected to be, at the model's horizons and, combined and calibrated, at the product's."""
        try:
            found = await self._insight.path(ask.link_id)
        except PbaError:  # it was predicted a moment ago; without its path the prediction itself will do
            found, asked.in_full = [], False
        points = [_point(point, prediction, ask) for point in found if point.horizon_ms < prediction.horizon_ms]
        link = conditions(prediction.values, prediction.quantiles, ask)
        return [*(point for point in points if point), Point(prediction.target_ms, link)]

    async def _correction(self, link_id: str, now_ms: int, asked: _Asked) -> float:
        try:
            return correction(await self._store.outcomes(link_id), now_ms)
        except (StoreUnavailableError, LinkUnknownError):
            asked.in_full = False
            return 1.0


def _holds_until_ms(outlook: Outlook, chosen: Plan) -> int:
    """When time alone makes another plan: a point of the path is over, or the plan itself."""
    ahead = (point.at_ms for point in outlook.path if point.at_ms > outlook.now_ms)
    return min(chosen.valid_until_ms, outlook.until_ms, *ahead)


def _answer(
    chosen: Plan,
    *,
    source: ParametersSource,
    reasons: Sequence[ParameterReason],
    prediction: Prediction | None,
    holds_until_ms: int,
) -> ParametersAnswer:
    return answer(
        chosen.parameters,
        (*reasons, *chosen.reasons),
        source=source,
        should_adjust=chosen.should_adjust,
        apply_at_ms=chosen.apply_at_ms,
        valid_until_ms=chosen.valid_until_ms,
        prediction=prediction,
        current=chosen.current,
        expected_mbps=chosen.expected_mbps,
        current_expected_mbps=chosen.current_expected_mbps,
        holds_until_ms=holds_until_ms,
    )


def _point(point: PathPoint, prediction: Prediction, ask: ParametersAsk) -> Point | None:
    values = point.quantiles[:, _MEDIAN]
    if not usable(values):
        return None
    return Point(prediction.made_at_ms + point.horizon_ms, conditions(values, point.quantiles, ask))


def present(recent: Series, ask: ParametersAsk) -> Conditions:
    """The link as it is: its newest values, and the loss of all recent probes together."""
    newest = _medians(recent)
    for column in range(2):
        known = np.flatnonzero(np.isfinite(recent.values[:, column]))
        newest[column] = recent.values[known[-1], column]
    losses = recent.values[:, 2]
    newest[2] = losses[np.isfinite(losses)].mean() if np.isfinite(losses).any() else np.nan
    return conditions(newest, None, ask)


def robust(recent: Series, ask: ParametersAsk) -> Conditions:
    """The link as it has been: medians, and the spread of the recent values as quantiles."""
    columns = [column[np.isfinite(column)] for column in recent.values.T]
    spread = np.stack([np.quantile(c, QUANTILES) if len(c) else np.full(len(QUANTILES), np.nan) for c in columns])
    return conditions(_medians(recent), spread.astype(np.float32), ask)


def _medians(recent: Series) -> NDArray[np.float32]:
    """float32[4], NaN where nothing was measured."""
    columns = [column[np.isfinite(column)] for column in recent.values.T]
    return np.array([_median(column) if len(column) else np.nan for column in columns], np.float32)


def _median(values: NDArray[np.float32]) -> float:
    """As `np.median`, which is made for more than a dozen values."""
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2)
