"""The daily course of a link's metrics, weekdays and weekends apart: how far each hour lies from its usual level.

What `hourly` corrects is where the other forecasters err, and those follow a link from sample to sample. A link that is
measured once an hour changes more from sample to sample than they can follow. Here the newest values are rid of their
hours' courses, what is left of them is the level now, and the course at the target is laid on it.

The course is the logarithm of the ratio to the mean of 100 slots, whatever hours those are of: on a link with a course
that mean has one as well, and the ratio repeats all the same. Logarithms, since a link that carries more does so at
each hour, and bounded, since a burst of a hundred times the level is none of its hour's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import hours
from pba_service.domain.online.experts import MIDDLE, known_of, quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENTRIES = 2 * hours.HOURS
LEVEL_SLOTS = 5
"""Newest slots whose median is the level now."""

MEMORY_DAYS = 5.0
"""Days of a kind that the course is a mean of."""

FARTHEST = np.float32(1.4)
"""No hour lies farther from the level than by this logarithm, a factor of four."""

LARGEST_STEP = np.float32(0.3)
ERROR_LIMIT = np.float32(3)
"""One value moves its hour by at most so many mean absolute errors, and by no more than `LARGEST_STEP`."""

_TINY = np.float32(1e-9)
_SHARE = np.repeat(np.array([5 / 7, 2 / 7], np.float32), hours.HOURS)  # of the days, those that an entry is of


def forecast(
    table: NDArray[np.float16],
    values: NDArray[np.float32],
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The level now with the course at the target: float32[n, 4], NaN for an absent metric.

    Args:
        table: float16[n, 4, ENTRIES], the courses.
        values: float32[n, 4, L], oldest slot first, unknown slots NaN and older than all known ones.
        made_at_ms: int64[n], of the newest slot.
        step_ms: int64[n], between slots.
        target_ms: int64[n].
    """
    newest = values[:, :, -LEVEL_SLOTS:]
    slots = newest.shape[2]
    times = np.empty((len(values), slots + 1), np.int64)
    times[:, :-1] = made_at_ms[:, None] - np.arange(slots - 1, -1, -1) * step_ms[:, None]
    times[:, -1] = target_ms
    course: NDArray[np.float32] = np.exp(hours.between(table, times, hours.of_week)).transpose(0, 2, 1)
    levels = newest / course[:, :, :-1]
    levels.sort(axis=2)  # NaN last
    level = quantile(levels, known_of(levels), MIDDLE)[..., 0]
    said: NDArray[np.float32] = level * course[:, :, -1]
    return said


def learn(
    table: NDArray[np.float16],
    actual: NDArray[np.float32],
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    *,
    target_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    settled: NDArray[np.uint32],
) -> None:
    """Moves the hour of each target towards the ratio that was found there.

    Args:
        table: float16[n, 4, ENTRIES], changed in place.
        actual: float32[n, 4], what came; NaN where nothing did.
        mean: float32[n, 4], the mean of 100 when the forecast was made.
        scale: float32[n, 4], the mean absolute error.
        target_ms: int64[n].
        step_ms: int64[n], cadence.
        settled: uint32[n, 4], forecasts compared before.
    """
    place = hours.of_week(target_ms // hours.HOUR_MS)
    pace = hours.pace(step_ms, settled, MEMORY_DAYS, _SHARE.take(place)[:, None])
    level = np.maximum(mean, _TINY)
    found = np.log(np.maximum(actual, _TINY) / level).clip(-FARTHEST, FARTHEST)
    limit = np.minimum(ERROR_LIMIT * scale / level, LARGEST_STEP)
    link = np.arange(len(table))
    known = table[link, :, place].astype(np.float32)
    moved = known + pace * (found - known).clip(-limit, limit)
    table[link, :, place] = np.where(np.isnan(found), known, moved)
