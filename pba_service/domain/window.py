"""From irregular samples to the windows that a model reads. Training and serving share this module.

Samples do not come on the minute and links go silent. A window is a regular grid anchored at one sample, the newest
it may know (`made_at`): slot k is the time `made_at - k * step`, and its value is the newest measurement at most half a
step after that time, as long as it is at most `MAX_FILL_SLOTS` slots old. Nothing measured after `made_at` can enter.

The step is the link's own cadence: the median interval of its recent samples, as a whole multiple of the configured
collection interval. So a link measured every 4 minutes is read on a 4-minute grid, and 15 minutes ahead becomes the
nearest multiple of its step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.samples import Series

FEATURES = (*METRICS, "hour_of_day", "day_of_week")
"""The feature axis of a window: the metrics, hour of day 0 to 24 (UTC), day of week 0 (Monday) to 6."""

MIN_SLOTS = 10
"""Consecutive filled slots that a prediction needs."""

MAX_FILL_SLOTS = 3
"""A gap of up to this many slots is filled with the value before it; a larger one ends the window."""

CADENCE_INTERVALS = 20
"""Recent intervals whose median is the cadence."""

_DAY_MS = 86_400_000
_EPOCH_DAY_OF_WEEK = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows that end at n samples of one series.

    Attributes:
        made_at_ms: int64[n], when the newest sample of each was measured.
        step_ms: int64[n], the grid's step.
        values: float32[n, slots, 6], oldest slot first, in the order of `FEATURES`; NaN where nothing is known. A
            metric is either known in each of the newest `MIN_SLOTS` slots or NaN in all slots.
        have: int64[n], consecutive filled slots up to the newest, of the best-known metric, at most `slots`.
    """

    made_at_ms: NDArray[np.int64]
    step_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    have: NDArray[np.int64]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool[n], whether there is enough history to predict from."""
        return self.have >= MIN_SLOTS


def steps_ms(times_ms: NDArray[np.int64], ends: NDArray[np.intp], base_ms: int) -> NDArray[np.int64]:
    """The cadence of a series as of each of some of its samples.

    Args:
        times_ms: int64[m], increasing.
        ends: int[n], positions in `times_ms`; only samples up to there are looked at.
        base_ms: The configured collection interval.

    Returns:
        int64[n], a positive multiple of `base_ms`.
    """
    position = ends[:, None] - np.arange(CADENCE_INTERVALS)
    known = position >= 1
    position = np.where(known, position, 1)
    if len(times_ms) < 2:  # noqa: PLR2004 - one interval takes two samples
        return np.full(len(ends), base_ms, np.int64)
    intervals = np.where(known, (times_ms[position] - times_ms[position - 1]).astype(np.float64), np.nan)
    intervals[~known.any(axis=1), 0] = base_ms
    # the lower median: an interval that was really observed, and steady under a single outlier
    ordered = np.sort(intervals, axis=1)  # NaN last
    middle = (np.maximum(known.sum(axis=1), 1) - 1) // 2
    median = ordered[np.arange(len(ends)), middle]
    steps: NDArray[np.int64] = np.maximum(np.rint(median / base_ms), 1).astype(np.int64) * base_ms
    return steps


def horizon_ms(step_ms: NDArray[np.int64], nominal_ms: int) -> NDArray[np.int64]:
    """The multiple of each step nearest to a nominal horizon, at least one step."""
    horizon: NDArray[np.int64] = np.maximum(np.rint(nominal_ms / step_ms), 1).astype(np.int64) * step_ms
    return horizon


def windows_at(series: Series, ends: NDArray[np.intp], slots: int, base_ms: int) -> Windows:
    """Builds the windows that end at some samples of a series.

    Args:
        series: A link's samples. Of each window only those up to its end are looked at.
        ends: int[n], positions of the windows' newest samples.
        slots: Length of the grid, at least `MIN_SLOTS`.
        base_ms: The configured collection interval.

    Returns:
        The windows, in the order of `ends`.
    """
    n = len(ends)
    times, values = series.times_ms, series.values
    made_at = times[ends]
    step = steps_ms(times, ends, base_ms)
    age = np.arange(slots - 1, -1, -1)
    slot_time = made_at[:, None] - age * step[:, None]  # int64[n, slots]

    newest = np.searchsorted(times, slot_time + step[:, None] // 2, side="right") - 1
    newest = np.minimum(newest, ends[:, None])
    # For each metric the newest finite value up to each sample, so that a metric measured less often is filled too.
    row = np.arange(len(times))[:, None]
    last_finite = np.maximum.accumulate(np.where(np.isfinite(values), row, -1), axis=0)
    source = np.where((newest >= 0)[..., None], last_finite[newest], -1)  # int[n, slots, 4]
    oldest_time = slot_time - (MAX_FILL_SLOTS * step + (step + 1) // 2)[:, None]
    fresh = (source >= 0) & (times[source] > oldest_time[..., None])
    metrics = np.take_along_axis(values, source.reshape(-1, len(METRICS)), axis=0).reshape(n, slots, len(METRICS))

    # What is older than a gap does not belong to the window.
    unbroken = np.logical_and.accumulate(fresh[:, ::-1], axis=1)
    run = unbroken.sum(axis=1)  # int[n, 4]
    unbroken = unbroken[:, ::-1] & (run >= MIN_SLOTS)[:, None]

    out = np.empty((n, slots, len(FEATURES)), np.float32)
    out[..., : len(METRICS)] = np.where(unbroken, metrics, np.float32(np.nan))
    clock_features(slot_time, out[..., len(METRICS) :])
    return Windows(made_at, step, out, run.max(axis=1, initial=0))


def clock_features(times_ms: NDArray[np.int64], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Hour of day (0 to 24, fractional, UTC) and day of week (0, Monday, to 6): float32[..., 2], written into `out`."""
    features = np.empty((*times_ms.shape, 2), np.float32) if out is None else out
    # floats are exact far beyond any time in ms, and divided several times as fast as integers
    time = times_ms.astype(np.float64)
    day = np.floor(time / _DAY_MS)
    features[..., 0] = (time - day * _DAY_MS) / 3_600_000
    day += _EPOCH_DAY_OF_WEEK
    features[..., 1] = day - 7 * np.floor(day / 7)
    return features
