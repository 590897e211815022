"""Whether a variant of a model, such as a quantised one, may stand in for it: its errors and its speed beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import METRICS
from pba_service.domain.targets import realised
from pba_service.domain.window import horizon_ms, windows_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import Series
    from pba_service.engine.ports import Model

MAX_ERROR_RATIO = 1.01
"""A metric's error may grow by one part in a hundred: about what a retraining gains."""

MAX_BATCH_DRIFT = 0.01
"""How far a forecast may depend on the windows beside it, of the original's mean absolute error: hardly."""

MIN_SPEED_RATIO = 1.2
"""What is not clearly faster is not worth a second model."""

BATCHES = (1, 32)
_EVERY = 5
_ROUNDS, _WARM_UP = 30, 3
_MEDIAN = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant beside its original.

    Attributes:
        windows: Forecasts that were compared.
        error_ratio: For each metric the mean absolute error at 15 minutes over the original's, geometric mean over
            links.
        batch_drift: How far a forecast moves with the windows beside it, of the original's mean absolute error on its
            link and metric, at the 99th percentile.
        original_us: Microseconds per window of the original at each of `BATCHES`.
        variant_us: Those of the variant.
    """

    windows: int
    error_ratio: dict[str, float]
    batch_drift: float
    original_us: tuple[float, ...]
    variant_us: tuple[float, ...]

    @property
    def speed_ratio(self) -> float:
        """How much faster the variant is at the largest of `BATCHES`."""
        return self.original_us[-1] / self.variant_us[-1]

    @property
    def faults(self) -> list[str]:
        """Why the variant may not stand in for the original; nothing if it may."""
        faults = [
            f"the error of {metric} is {ratio:.3f} of the original's, and {MAX_ERROR_RATIO:g} is allowed"
            for metric, ratio in self.error_ratio.items()
            if not ratio <= MAX_ERROR_RATIO
        ]
        if not self.batch_drift <= MAX_BATCH_DRIFT:
            told = f"a forecast moves by {self.batch_drift:.2g} of its usual error with the windows beside it"
            faults.append(f"{told}, and {MAX_BATCH_DRIFT:g} is allowed")
        if not self.speed_ratio >= MIN_SPEED_RATIO:
            faults.append(f"it is {self.speed_ratio:.2f} times as fast, and {MIN_SPEED_RATIO:g} is wanted")
        return faults


def compare(original: Model, variant: Model, links: Sequence[Series], base_ms: int) -> Comparison:
    """Compares a variant with its original on some links. Both read windows of the same length.

    Raises:
        ValueError: No link has enough history for a forecast whose target was measured.
    """
    parts = [part for link in links if (part := _examples(link, original.info.window_slots, base_ms))]
    if not parts:
        raise ValueError("no link has enough history for a forecast whose target was measured")
    logs: list[NDArray[np.float64]] = []
    drifts = []
    for windows, step_ms, actual in parts:
        said, other = (_medians(model, windows, step_ms) for model in (original, variant))
        usual = _errors(said, actual)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs.append(np.log(_errors(other, actual) / usual))
        alone = np.concatenate([_medians(variant, windows[i : i + 1], step_ms[i : i + 1]) for i in range(len(windows))])
        drifts.append(np.abs(alone - other) / np.where(usual > 0, usual, np.nan))
    ratios = np.stack(logs)
    ratios[~np.isfinite(ratios)] = np.nan
    windows = np.concatenate([part[0] for part in parts])
    steps = np.concatenate([part[1] for part in parts])
    original_us, variant_us = _speeds((original, variant), windows, steps)
    return Comparison(
        windows=len(windows),
        error_ratio={
            metric: float(np.exp(np.nanmean(ratios[:, i])))
            for i, metric in enumerate(METRICS)
            if np.isfinite(ratios[:, i]).any()
        },
        batch_drift=float(np.nanquantile(np.concatenate(drifts), 0.99)),
        original_us=original_us,
        variant_us=variant_us,
    )


def _examples(
    link: Series, slots: int, base_ms: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]] | None:
    """Windows of a link, their cadences, and what was measured 15 minutes after each; None where there is none."""
    windows = windows_at(link, np.arange(slots, len(link), _EVERY), slots, base_ms)
    target = windows.made_at_ms + horizon_ms(windows.step_ms, PRODUCT_HORIZON_MS)
    values, measured = realised(link, target, windows.step_ms // 2)
    actual = np.where(measured > windows.made_at_ms[:, None], values, np.float32(np.nan))
    use = windows.usable & np.isfinite(actual).any(axis=1)
    return (windows.values[use], windows.step_ms[use], actual[use]) if use.any() else None


def _medians(model: Model, windows: NDArray[np.float32], step_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    horizon = model.info.horizons_ms.index(PRODUCT_HORIZON_MS)
    return model.predict(windows, step_ms)[:, horizon, :, model.info.quantile_levels.index(_MEDIAN)]


def _errors(said: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64[4], the mean absolute error of each metric; NaN where it was never measured."""
    error = np.abs(said - actual).astype(np.float64)
    known = np.isfinite(error)
    means: NDArray[np.float64] = np.where(known, error, 0.0).sum(axis=0) / np.where(
        known.any(axis=0), known.sum(axis=0), np.nan
    )
    return means


def _speeds(
    models: tuple[Model, Model], windows: NDArray[np.float32], step_ms: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Microseconds per window of both at each of `BATCHES`: taken in turns, so that noise meets both; medians."""
    medians = []
    for batch in BATCHES:
        rows = np.resize(np.arange(len(windows)), batch)
        some, steps = windows[rows], step_ms[rows]
        took: tuple[list[float], list[float]] = ([], [])
        for turn in range(_ROUNDS + _WARM_UP):
            for model, times in zip(models, took, strict=True):
                started = time.perf_counter()
                model.predict(some, steps)
                if turn >= _WARM_UP:
                    times.append(1e6 * (time.perf_counter() - started) / batch)
        medians.append((float(np.median(took[0])), float(np.median(took[1]))))
    return tuple(one for one, _ in medians), tuple(other for _, other in medians)
