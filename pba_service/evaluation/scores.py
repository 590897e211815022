"""Scores of one link: for each metric the errors of every forecaster and the quality of the quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import JUDGED, QUANTILES, hits
from pba_service.domain.online import EXPERTS
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.evaluation.replay import Replayed

SIMPLE = tuple(name for name in EXPERTS if name not in {"seasonal", "cycle", "hourly", "model"})
"""Forecasters that need nothing but a few recent samples."""

RECENT_FORECASTS = 50
"""Settled forecasts by which the best recent forecaster is chosen."""

LEAST_FORECASTS = 30
"""A metric of a link with fewer forecasts to judge is not scored, unless that is all there are."""

SETTLED_AFTER, LEAST_SETTLED = 1000, 200
"""Forecasts after which the combination must have found the best forecaster, and how many it is then judged by."""

STRETCH = 200
"""Consecutive forecasts whose coverage is looked at."""

_LEVELS = np.array(QUANTILES)
_MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True, slots=True)
class MetricScores:
    """One metric of one link.

    Attributes:
        metric: One of `METRICS`.
        forecasts: Forecasts with something to compare.
        mae: Mean absolute error by forecaster; those without a forecast for every one of them are left out.
        mape: Mean absolute percentage error of `served` and `last`, over values above zero.
        settled_ratio: The served error over the least of any single forecaster that takes part in the combination, with
            hindsight, both over those scored forecasts that had `SETTLED_AFTER` of the link before them; NaN where
            fewer than `LEAST_SETTLED` had.
        mase: The served error over that of repeating each sample once, over the whole series.
        pinball: Mean pinball loss of the served quantiles.
        coverage_80: Share of values within the served 10 % and 90 % quantiles.
        coverage_90: Share of values within the served 5 % and 95 % quantiles.
        worst_stretch: Least 90 % coverage of any `STRETCH` consecutive forecasts; NaN when there are fewer.
        width_90: Mean width of the served 90 % interval.
        interval_score: Mean interval score at 90 % (Gneiting and Raftery 2007), the width plus 20 times what lies
            outside, by origin of the quantiles: served, model (uncalibrated), recent (of the newest samples).
    """

    metric: str
    forecasts: int
    mae: Mapping[str, float]
    mape: Mapping[str, float]
    settled_ratio: float
    mase: float
    pinball: float
    coverage_80: float
    coverage_90: float
    worst_stretch: float
    width_90: float
    interval_score: Mapping[str, float]

    @property
    def best_simple(self) -> str:
        """The simple forecaster that did best, with hindsight."""
        return min(SIMPLE, key=self.mae.__getitem__)


@dataclass(frozen=True, slots=True, eq=False)
class LinkScores:
    """One link.

    Attributes:
        link_id: The link.
        collection: What it is counted together with.
        metrics: Its scored metrics.
        confidences: float32[k], of the forecasts of bandwidth or latency that can be judged.
        hits: bool[k], whether they came true within the tolerance.
    """

    link_id: str
    collection: str
    metrics: tuple[MetricScores, ...]
    confidences: NDArray[np.float32]
    hits: NDArray[np.bool_]


def score_all(
    replayed: Sequence[Replayed], collection_of: Callable[[str], str], *, part: float = 1.0
) -> list[LinkScores]:
    """Scores the newest part (0 to 1) of each link's forecasts; links without a judged forecast are left out."""
    scored = [_score(link, collection_of(link.link_id), part) for link in replayed]
    return [link for link in scored if link.metrics]


def _score(link: Replayed, collection: str, part: float) -> LinkScores:
    chosen = np.arange(len(link)) >= len(link) - round(len(link) * part)
    said = forecasts(link)
    metrics = [_score_metric(link, said, column, chosen) for column in range(len(METRICS))]
    judged = chosen & np.isfinite(link.values - link.actual)[:, :JUDGED].any(axis=1)
    return LinkScores(
        link_id=link.link_id,
        collection=collection,
        metrics=tuple(metric for metric in metrics if metric),
        confidences=link.confidence[judged],
        hits=hits(link.values[judged], link.actual[judged]),
    )


def forecasts(link: Replayed) -> dict[str, NDArray[np.float32]]:
    """What each forecaster said, float32[n, 4] by name: served, references, and each of the combined alone."""
    alone = {name: link.experts[:, :, i] for i, name in enumerate(EXPERTS)}
    return {
        "served": link.values,
        "without_model": link.without_model,
        "best_recent": best_recent(link),
        **alone,
        "model": link.model[:, :, _MEDIAN],
    }


def best_recent(link: Replayed) -> NDArray[np.float32]:
    """The forecast of whichever of `SIMPLE` did best over the last settled forecasts: float32[n, 4].

    The rule of the Network Weather Service (Wolski 1998). Before anything is settled it is the first of `SIMPLE`.
    """
    said = link.experts[:, :, [EXPERTS.index(name) for name in SIMPLE]]
    error = np.abs(said.astype(np.float64) - link.actual[:, :, None])
    total = np.concatenate([np.zeros((1, *error.shape[1:])), np.nancumsum(error, axis=0)])
    settled = np.searchsorted(np.maximum.accumulate(link.target_ms), link.made_at_ms, side="right")
    recent = total[settled] - total[np.maximum(settled - RECENT_FORECASTS, 0)]
    best: NDArray[np.float32] = np.take_along_axis(said, recent.argmin(axis=2)[..., None], axis=2)[..., 0]
    return best


def _score_metric(
    link: Replayed, said: Mapping[str, NDArray[np.float32]], column: int, chosen: NDArray[np.bool_]
) -> MetricScores | None:
    known = np.isfinite(link.actual[:, column]) & np.isfinite(link.values[:, column])
    rows = chosen & known
    if rows.sum() < min(LEAST_FORECASTS, max(known.sum(), 1)):
        return None
    actual = link.actual[rows, column].astype(np.float64)
    told = {name: values[rows, column].astype(np.float64) for name, values in said.items()}
    complete = {name: values for name, values in told.items() if np.isfinite(values).all()}
    origins = {"served": link.quantiles, "model": link.model, "recent": link.recent}
    stated = {name: quantiles[rows, column].astype(np.float64) for name, quantiles in origins.items()}
    low, low_80, _, high_80, high = stated["served"].T
    inside = (actual >= low) & (actual <= high)
    mae = {name: float(np.abs(values - actual).mean()) for name, values in complete.items()}
    return MetricScores(
        metric=METRICS[column],
        forecasts=len(actual),
        mae=mae,
        mape={name: _mape(complete[name], actual) for name in ("served", "last")},
        settled_ratio=_settled_ratio(told, actual, np.cumsum(known)[rows] > SETTLED_AFTER),
        mase=mae["served"] / _naive_error(link.series.values[:, column]),
        pinball=_pinball(stated["served"], actual),
        coverage_80=float(((actual >= low_80) & (actual <= high_80)).mean()),
        coverage_90=float(inside.mean()),
        worst_stretch=_worst_stretch(inside),
        width_90=float((high - low).mean()),
        interval_score={
            name: _interval_score(quantiles, actual)
            for name, quantiles in stated.items()
            if np.isfinite(quantiles).all()
        },
    )


def _naive_error(values: NDArray[np.float32]) -> float:
    """Mean absolute difference of consecutive samples; NaN where it is 0 or there is none."""
    known = values[np.isfinite(values)].astype(np.float64)
    error = float(np.abs(np.diff(known)).mean()) if len(known) > 1 else 0.0
    return error or np.nan


def _settled_ratio(
    forecasts: Mapping[str, NDArray[np.float64]], actual: NDArray[np.float64], settled: NDArray[np.bool_]
) -> float:
    if settled.sum() < LEAST_SETTLED:
        return np.nan
    mae = {name: float(np.abs(values - actual)[settled].mean()) for name, values in forecasts.items()}
    best = min(mae[name] for name in EXPERTS if np.isfinite(mae[name]))
    return mae["served"] / best if best else np.nan


def _mape(forecast: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    above = actual > 0
    return float((np.abs(forecast - actual)[above] / actual[above]).mean()) if above.any() else np.nan


def _pinball(quantiles: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    error = actual[:, None] - quantiles
    return float(np.maximum(_LEVELS * error, (_LEVELS - 1) * error).mean())


def _interval_score(quantiles: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    low, high = quantiles[:, 0], quantiles[:, -1]
    outside = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
    return float((high - low + 2 / (1 - _LEVELS[-1] + _LEVELS[0]) * outside).mean())


def _worst_stretch(inside: NDArray[np.bool_]) -> float:
    if len(inside) < STRETCH:
        return np.nan
    total = np.concatenate([[0], np.cumsum(inside)])
    return float((total[STRETCH:] - total[:-STRETCH]).min() / STRETCH)
