"""Windows of many links at once: what `window.windows_at` gives for each, to the bit, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import (
    CADENCE_INTERVALS,
    FEATURES,
    MAX_FILL_SLOTS,
    MIN_SLOTS,
    Windows,
    clock_features,
    windows_at,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.columns import Columns


def steps_of(columns: Columns, base_ms: int) -> NDArray[np.int64]:
    """The cadence of each stretch as of its newest sample: int64[n], as `window.steps_ms` says."""
    place = columns.last[:, None] - np.arange(CADENCE_INTERVALS + 1)
    known = place[:, :-1] > columns.first[:, None]
    times = columns.times_at(np.maximum(place, columns.first[:, None]))
    intervals = times[:, :-1] - times[:, 1:]
    if known.all():
        middle = (CADENCE_INTERVALS - 1) // 2
        median = np.partition(intervals, middle, axis=1)[:, middle]
    else:
        intervals[~known] = np.iinfo(np.int64).max
        intervals[~known.any(axis=1), 0] = base_ms
        middles = (np.maximum(known.sum(axis=1), 1) - 1) // 2
        median = np.sort(intervals, axis=1)[np.arange(len(columns)), middles]
    steps: NDArray[np.int64] = np.maximum(np.rint(median / base_ms), 1).astype(np.int64) * base_ms
    return steps


def windows_of(columns: Columns, slots: int, base_ms: int) -> Windows:
    """The window that ends at the newest sample of each stretch; arguments as those of `window.windows_at`."""
    made_at, step = columns.newest_ms, steps_of(columns, base_ms)
    every_slot_time = made_at[:, None] - np.arange(slots - 1, -1, -1) * step[:, None]  # int64[n, slots]
    # Links that are new hold nothing in the older slots: none of those is looked for.
    reached = int(((made_at - columns.oldest_ms) // step).max(initial=0)) + 2
    near = min(reached, slots)
    age, slot_time = np.arange(near - 1, -1, -1), every_slot_time[:, slots - near :]
    sources, times, exists = _sources(columns, slot_time + step[:, None] // 2, age)
    fresh = exists & (times > slot_time - (MAX_FILL_SLOTS * step + (step + 1) // 2)[:, None])
    values = columns.values_at(sources)

    out = np.empty((len(columns), slots, len(FEATURES)), np.float32)
    clock_features(every_slot_time, out[..., len(METRICS) :])
    out[:, : slots - near, : len(METRICS)] = np.nan
    # What is older than a gap does not belong to the window.
    if fresh.all():
        run, unbroken = np.full(len(columns), near), fresh
    else:
        unbroken = np.logical_and.accumulate(fresh[:, ::-1], axis=1)
        run = unbroken.sum(axis=1)
        unbroken = unbroken[:, ::-1]
    sparse = run == 0
    if not np.isfinite(values.sum()):
        sparse |= (unbroken[..., None] & ~np.isfinite(values)).any(axis=(1, 2))
    known = unbroken & (run >= MIN_SLOTS)[:, None]
    filled = values if known.all() else np.where(known[..., None], values, np.float32(np.nan))
    for metric in range(len(METRICS)):  # which numpy does in half the time of all of a slot's four at once
        out[:, slots - near :, metric] = filled[..., metric]
    windows = Windows(made_at, step, out, run)
    # A metric that is measured now and then is filled from its own last value: that is looked at link by link.
    for position in np.flatnonzero(sparse).tolist():
        _fill_sparse(windows, columns, position, slots=slots, base_ms=base_ms)
    return windows


def _fill_sparse(windows: Windows, columns: Columns, position: int, *, slots: int, base_ms: int) -> None:
    series = columns.series(position)
    missing = np.isnan(series.values)
    if (missing.all(axis=0) | ~missing.any(axis=0)).all() and not missing.all():
        return  # a metric that is measured always or never is right as it is
    one = windows_at(series, np.array([len(series) - 1]), slots, base_ms)
    windows.values[position], windows.have[position] = one.values[0], one.have[0]


def _sources(
    columns: Columns, until_ms: NDArray[np.int64], age: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
    """For each slot the newest sample up to a time (int64[n, slots]): its place, when it was measured, if there is one.

    Where no sample is missing, the sample of a slot is as many places before the newest as the slot is old: that is
    tried first, and searched for where it does not hold. Where there is none, the stretch's first sample stands.
    """
    first = columns.first[:, None]
    guess = columns.last[:, None] - age
    exists = guess >= first
    places = np.maximum(guess, first)
    times = columns.times_at(places)
    right = (times <= until_ms) == exists
    right[:, :-1] &= ~exists[:, :-1] | (times[:, 1:] > until_ms[:, :-1])
    if not right.all():
        wrong, slots = np.flatnonzero(~right.all(axis=1)), len(age)
        found = columns[np.repeat(wrong, slots)].places_after(until_ms[wrong].ravel()) - 1
        found = np.minimum(found.reshape(-1, slots), columns.last[wrong, None])
        exists[wrong] = found >= first[wrong]
        places[wrong] = np.maximum(found, first[wrong])
        times[wrong] = columns[wrong].times_at(places[wrong])
    return places, times, exists
