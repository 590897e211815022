"""Mean absolute errors beside those of simple forecasters, each collection counting once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.anchors import BASELINES, baseline
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.training.dataset import Examples

LEAST_TARGETS = 30
"""Links with fewer targets are left out of a score."""

_SMALLEST_RATIO = 1e-3

Ratios = dict[str, dict[str, float]]


def mae_by_link(forecast: NDArray[np.float32], actual: NDArray[np.float32], link: NDArray[np.int32]) -> Ratios:
    """Mean absolute error per metric and link: {metric: {link: MAE}}, where there are targets enough."""
    errors: Ratios = {metric: {} for metric in METRICS}
    for position in np.unique(link):
        error = np.abs(forecast[link == position] - actual[link == position]).astype(np.float64)
        counts = np.isfinite(error).sum(axis=0)
        for m, metric in enumerate(METRICS):
            if counts[m] >= LEAST_TARGETS:
                errors[metric][str(position)] = float(np.nanmean(error[:, m]))
    return errors


def ratio_per_metric(examples: Examples, forecast: Ratios, reference: Ratios) -> dict[str, float]:
    """MAE ratio: geometric mean over a collection's links, then mean over collections; plus `mean`.

    `mean` is over metrics; a metric without a scored link is left out.
    """
    result: dict[str, float] = {}
    for metric in METRICS:
        of_collection: dict[str, list[float]] = {}
        for link, error in forecast[metric].items():
            base = reference[metric].get(link, 0.0)
            if base > 0:
                collection = examples.links[int(link)][0]
                of_collection.setdefault(collection, []).append(np.log(max(error / base, _SMALLEST_RATIO)))
        if of_collection:
            result[metric] = round(float(np.mean([np.exp(np.mean(r)) for r in of_collection.values()])), 4)
    if result:
        result["mean"] = round(float(np.mean(list(result.values()))), 4)
    return result


def score(examples: Examples, forecasts: dict[str, NDArray[np.float32]], horizon: int = 0) -> Ratios:
    """Scores forecasts and every baseline against the last value.

    Args:
        examples: What is forecast.
        forecasts: Point forecasts float32[n, 4] by name.
        horizon: Position of the scored horizon in `examples.targets`.

    Returns:
        {forecaster: {metric: MAE ratio to the last value, ..., "mean": mean over metrics}}.
    """
    actual = examples.targets[:, horizon]
    values = examples.windows[..., : len(METRICS)]
    everyone = forecasts | {name: baseline(name, values) for name in BASELINES}
    # all on the same targets
    common = np.logical_and.reduce([np.isfinite(f) for f in everyone.values()])
    actual = np.where(common, actual, np.nan)
    errors = {name: mae_by_link(forecast, actual, examples.link) for name, forecast in everyone.items()}
    return {name: ratio_per_metric(examples, error, errors["last"]) for name, error in errors.items()}


def coverage(
    low: NDArray[np.float32], high: NDArray[np.float32], actual: NDArray[np.float32], collection: NDArray[np.int32]
) -> float:
    """Share of targets within [low, high], all float32[n, 4]; mean over collections."""
    shares = []
    for position in np.unique(collection):
        rows = collection == position
        known = np.isfinite(actual[rows]) & np.isfinite(low[rows])
        if known.sum() >= LEAST_TARGETS:
            inside = (actual[rows] >= low[rows]) & (actual[rows] <= high[rows])
            shares.append(inside[known].mean())
    return round(float(np.mean(shares)), 4) if shares else float("nan")


def table(scores: Ratios) -> str:
    """A plain-text table of scores, best mean first."""
    heads = [*METRICS, "mean"]
    width = max(len(name) for name in scores) + 2
    lines = [" " * width + "".join(f"{head:>20}" for head in heads)]
    for name, ratios in sorted(scores.items(), key=lambda item: item[1]["mean"]):
        cells = "".join(f"{ratios[head]:>20.3f}" if head in ratios else f"{'-':>20}" for head in heads)
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)
