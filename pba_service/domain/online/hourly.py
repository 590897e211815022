"""What a forecaster misses at each hour of the day, learnt per link and metric.

Rush hours, nightly backups and the bends between them repeat. A window of recent samples shows where a link is, not
that it turns every evening at seven; the mean error of earlier days at that hour does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import hours

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_DAYS = 5.0
ERROR_LIMIT = np.float32(3)
"""One error counts at most as this many mean absolute errors."""


def usual_error(table: NDArray[np.float32], target_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean error at the time of day of each target: float32[n, 4] from float32[n, 24, 4], linear between hours."""
    return hours.between(table, target_ms, hours.OF_DAY)


def learn(
    table: NDArray[np.float32],
    error: NDArray[np.float32],
    scale: NDArray[np.float32],
    *,
    target_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    settled: NDArray[np.uint32],
) -> None:
    """Moves the hour of each target towards the error made there.

    Args:
        table: float32[n, 24, 4], changed in place.
        error: float32[n, 4], realised minus forecast; NaN where there is nothing to compare.
        scale: float32[n, 4], the mean absolute error.
        target_ms: int64[n].
        step_ms: int64[n], between one value that is learnt from and the next.
        settled: uint32[n, 4], forecasts compared before.
    """
    pace = hours.pace(step_ms, settled, MEMORY_DAYS, np.float32(1))
    link, hour = np.arange(len(table)), hours.of_day(target_ms // hours.HOUR_MS)
    known = table[link, hour]
    limit = ERROR_LIMIT * scale
    moved = known + pace * (error.clip(-limit, limit) - known)
    table[link, hour] = np.where(np.isnan(error), known, moved)
