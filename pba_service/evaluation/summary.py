"""What the scores of many links come to.

Ratios are mean absolute errors relative to a reference on the same targets: geometric mean over the links of a
collection, then mean over collections, so that a collection with many links counts no more than another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.evaluation.scores import SIMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pba_service.evaluation.scores import LinkScores, MetricScores

FORECASTERS = ("served", "without_model", "model", "best_recent", *SIMPLE, "seasonal", "cycle", "hourly")
"""The rows of the table of errors."""

MEAN, ALL = "mean", "all"
"""Beside the metrics: their mean, in which each metric counts once however few collections measure it; and the mean
over collections, in which each collection counts once whatever it measures."""

LONG, MEDIUM = 1000, 200
"""Forecasts from which on a metric of a link counts as long, and as long enough to judge coverage."""

BINS = 10
SURE = 0.8
NEAR = 1.05

_LONG_COVERAGE, _MEDIUM_COVERAGE = (0.88, 0.92), (0.85, 0.95)
_WORST_COVERAGE = 0.8
_LEAST_RATIO = 1e-3


@dataclass(frozen=True, slots=True)
class Summary:
    """What an evaluation came to. Shares are 0 to 1; NaN where there is nothing to judge.

    Attributes:
        links: Links that were scored.
        collections: Their collections.
        ratios: By forecaster and metric (and `MEAN` and `ALL` over them), the error relative to the last value's.
        to_better: By metric, the served error relative to the better of last value and median of 10, link by link.
        to_best: Likewise relative to the simple forecaster that did best on the link, with hindsight.
        to_without_model: Likewise relative to the combination without the model.
        near_best: Share of link-metrics with an error within `NEAR` of the best single forecaster's, over those that
            had `SETTLED_AFTER` before them.
        mean_coverage: Mean share of values within the 80 % and the 90 % interval, over medium link-metrics.
        coverage_long: Share of long link-metrics whose 90 % intervals cover 88 to 92 %.
        coverage_medium: Share of medium link-metrics whose 90 % intervals cover 85 to 95 %.
        worst_stretch: Share of medium link-metrics whose 90 % intervals cover 80 % or more of every stretch.
        interval_ratios: Served interval score relative to that of the model's quantiles and of recent ones.
        calibration_error: Expected calibration error of the confidence, over all forecasts.
        sure_share: Share of the forecasts with a confidence of `SURE` or more.
        sure_hits: Share of those that came true.
        reliability: For each of ten bins of confidence: mean confidence, share that came true, forecasts.
        mape: By collection: "metric/served" and "metric/last", mean absolute percentage error of the median link.
    """

    links: int
    collections: tuple[str, ...]
    ratios: Mapping[str, Mapping[str, float]]
    to_better: Mapping[str, float]
    to_best: Mapping[str, float]
    to_without_model: Mapping[str, float]
    near_best: float
    mean_coverage: tuple[float, float]
    coverage_long: float
    coverage_medium: float
    worst_stretch: float
    interval_ratios: Mapping[str, float]
    calibration_error: float
    sure_share: float
    sure_hits: float
    reliability: tuple[tuple[float, float, int], ...]
    mape: Mapping[str, Mapping[str, float]]


def summarise(scored: Sequence[LinkScores]) -> Summary:
    """Sums scores up."""
    every = [metric for link in scored for metric in link.metrics]
    long = [metric for metric in every if metric.forecasts >= LONG]
    medium = [metric for metric in every if metric.forecasts >= MEDIUM]
    calibration_error, bins = _reliability(scored)
    stated = np.concatenate([link.confidences for link in scored] or [np.empty(0, np.float32)])
    came_true = np.concatenate([link.hits for link in scored] or [np.empty(0, np.bool_)])
    return Summary(
        links=len(scored),
        collections=tuple(sorted({link.collection for link in scored})),
        ratios={name: _ratios(scored, name, lambda metric: metric.mae["last"]) for name in FORECASTERS},
        to_better=_ratios(scored, "served", lambda metric: min(metric.mae["last"], metric.mae["median10"])),
        to_best=_ratios(scored, "served", lambda metric: metric.mae[metric.best_simple]),
        to_without_model=_ratios(scored, "served", lambda metric: metric.mae["without_model"]),
        near_best=_share(metric.settled_ratio <= NEAR for metric in every if np.isfinite(metric.settled_ratio)),
        mean_coverage=(
            _share(metric.coverage_80 for metric in medium),
            _share(metric.coverage_90 for metric in medium),
        ),
        coverage_long=_share(_within(metric.coverage_90, _LONG_COVERAGE) for metric in long),
        coverage_medium=_share(_within(metric.coverage_90, _MEDIUM_COVERAGE) for metric in medium),
        worst_stretch=_share(metric.worst_stretch >= _WORST_COVERAGE for metric in medium),
        interval_ratios={name: _interval_ratio(scored, name) for name in ("model", "recent")},
        calibration_error=calibration_error,
        sure_share=_share(stated >= SURE),
        sure_hits=_share(came_true[stated >= SURE]),
        reliability=bins,
        mape=_mape(scored),
    )


def _share(values: Iterable[float]) -> float:
    some = list(values)
    return float(np.mean(some)) if some else np.nan


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _over_collections(ratios: Iterable[tuple[str, float, float]]) -> float:
    """Over (collection, value, reference), those without a reference above zero left out."""
    logs: dict[str, list[float]] = {}
    for collection, value, reference in ratios:
        if reference > 0:
            logs.setdefault(collection, []).append(np.log(max(value / reference, _LEAST_RATIO)))
    return _share(float(np.exp(np.mean(some))) for some in logs.values())


def _ratios(
    scored: Sequence[LinkScores], forecaster: str, reference: Callable[[MetricScores], float]
) -> dict[str, float]:
    known = [
        (metric.metric, (link.collection, metric.mae[forecaster], reference(metric)))
        for link in scored
        for metric in link.metrics
        if forecaster in metric.mae
    ]
    ratios = {name: _over_collections(errors for metric, errors in known if metric == name) for name in METRICS}
    return {
        **ratios,
        MEAN: _share(ratio for ratio in ratios.values() if np.isfinite(ratio)),
        ALL: _over_collections(errors for _, errors in known),
    }


def _interval_ratio(scored: Sequence[LinkScores], origin: str) -> float:
    return _over_collections(
        (link.collection, metric.interval_score["served"], metric.interval_score[origin])
        for link in scored
        for metric in link.metrics
        if origin in metric.interval_score
    )


def _reliability(scored: Sequence[LinkScores]) -> tuple[float, tuple[tuple[float, float, int], ...]]:
    """The expected calibration error, and for each bin the mean confidence, the share of hits and the count."""
    stated = np.concatenate([link.confidences for link in scored] or [np.empty(0, np.float32)]).astype(np.float64)
    came_true = np.concatenate([link.hits for link in scored] or [np.empty(0, np.bool_)])
    place = np.minimum((stated * BINS).astype(int), BINS - 1)
    bins = tuple(
        (_share(stated[place == k]), _share(came_true[place == k]), int((place == k).sum())) for k in range(BINS)
    )
    gaps = [count * abs(said - true) for said, true, count in bins if count]
    return (sum(gaps) / len(stated) if len(stated) else np.nan), bins


def _mape(scored: Sequence[LinkScores]) -> dict[str, dict[str, float]]:
    errors: dict[str, dict[str, list[float]]] = {}
    for link in scored:
        for metric in link.metrics:
            for name, error in metric.mape.items():
                if np.isfinite(error):
                    known = errors.setdefault(link.collection, {})
                    known.setdefault(f"{metric.metric}/{name}", []).append(error)
    return {
        collection: {name: float(np.median(some)) for name, some in known.items()}
        for collection, known in sorted(errors.items())
    }
