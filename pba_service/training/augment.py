"""Copies of training traces that differ as other links would: cadence, scale, missing samples, level shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import MAXIMA, Series
from pba_service.training.dataset import BASE_MS, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THINNINGS = (2, 3, 5)
LONGEST_STEP_MS = 1_800_000
LEAST_SAMPLES = 200
SCALE_SIGMA = 1.0
SHIFT_SIGMA = 0.35
SAMPLES_PER_SHIFT = 800
GAP_RATIO = 0.01
LONGEST_GAP = 6


def augmented(traces: Sequence[Trace], seed: int, train_share: float) -> list[Trace]:
    """One changed copy of the training part of each trace that is long enough; all of a copy is training part."""
    copies = []
    for number, trace in enumerate(traces):
        random = np.random.default_rng([seed, number])
        length = int(len(trace.series) * train_share)
        part = Series(trace.series.times_ms[:length], trace.series.values[:length])
        changed = gaps(shifts(scale(thinned(part, random), random), random), random)
        if len(changed) >= LEAST_SAMPLES:
            copies.append(Trace(trace.collection, f"{trace.link_id}#augmented", changed))
    return copies


def thinned(series: Series, random: np.random.Generator) -> Series:
    """Keeps every second, third or fifth sample, where that leaves enough and is not too slow."""
    cadence_ms = max(float(np.median(np.diff(series.times_ms))), BASE_MS) if len(series) > 1 else LONGEST_STEP_MS
    possible = [k for k in THINNINGS if cadence_ms * k <= LONGEST_STEP_MS and len(series) // k >= LEAST_SAMPLES]
    if not possible:
        return series
    step = int(random.choice(possible))
    return Series(series.times_ms[::step], series.values[::step])


def scale(series: Series, random: np.random.Generator) -> Series:
    """Multiplies each metric by one factor, as a faster, farther or lossier link would."""
    return _multiplied(series, np.exp(random.normal(0, SCALE_SIGMA, (1, 4))))


def shifts(series: Series, random: np.random.Generator) -> Series:
    """Adds level shifts: each metric is multiplied by a factor that changes at a few moments."""
    count = random.poisson(len(series) / SAMPLES_PER_SHIFT)
    starts = np.sort(random.integers(0, max(len(series), 1), count))
    levels = np.exp(random.normal(0, SHIFT_SIGMA, (count + 1, 4)))
    return _multiplied(series, levels[np.searchsorted(starts, np.arange(len(series)), side="right")])


def gaps(series: Series, random: np.random.Generator) -> Series:
    """Removes runs of 1 to 6 samples."""
    starts = np.flatnonzero(random.random(len(series)) < GAP_RATIO)
    keep = np.ones(len(series), np.bool_)
    for start, length in zip(starts, random.integers(1, LONGEST_GAP + 1, len(starts)), strict=True):
        keep[start : start + length] = False
    return Series(series.times_ms[keep], series.values[keep])


def _multiplied(series: Series, factors: NDArray[np.float64]) -> Series:
    values = np.clip(series.values * factors, 0, MAXIMA).astype(np.float32)
    return Series(series.times_ms, values)
