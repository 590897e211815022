"""What came true at a time: for each metric the nearest sample that carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.samples import Series


def realised(
    series: Series, wanted_ms: NDArray[np.int64], tolerance_ms: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The value of each metric nearest to some times, at most a tolerance away; of two equally near the earlier.

    A link may measure its metrics by turns, so each metric has a sample of its own.

    Args:
        series: A link's samples.
        wanted_ms: int64[n].
        tolerance_ms: int64[n].

    Returns:
        float32[n, 4], NaN where there is none, and int64[n, 4], when each was measured, 0 where there is none.
    """
    values = np.full((len(wanted_ms), len(METRICS)), np.nan, np.float32)
    measured = np.zeros((len(wanted_ms), len(METRICS)), np.int64)
    for column in range(len(METRICS)):
        carry = np.flatnonzero(np.isfinite(series.values[:, column]))
        if not len(carry):
            continue
        times = series.times_ms[carry]
        after = np.clip(np.searchsorted(times, wanted_ms), 0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.abs(times[before] - wanted_ms) <= np.abs(times[after] - wanted_ms)
        chosen = np.where(nearer, before, after)
        near = np.abs(times[chosen] - wanted_ms) <= tolerance_ms
        values[near, column] = series.values[carry[chosen[near]], column]
        measured[near, column] = times[chosen[near]]
    return values, measured
