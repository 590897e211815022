"""The daily course of a link's metrics, weekdays and weekends apart: how far each hour lies from its usual level.

What `hourly` corrects is where the other forecasters err, and those follow a link from sample to sample. A link that is
measured once an hour changes more from sample to sample than they can follow. Here the newest values are rid of their
hours' courses, what is left of them is the level now, and the course at the target is laid on it.

Course and usual level are learnt together, each from what the other leaves of a value: a mean over less than a day
would have a course of its own, and a ratio to it would tell of both. Logarithms, since a link that carries more does so
at each hour, and bounded, since a burst of a hundred times the level is none of its hour's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import hours
from pba_service.domain.online.experts import MIDDLE, known_of, quantile
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

COURSE = np.dtype(
    [
        ("hours", "<f2", (2 * hours.HOURS, len(METRICS))),  # logarithm of the ratio to the usual level
        ("level", "<f4", (len(METRICS),)),  # logarithm of the usual level
        ("error", "<f4", (len(METRICS),)),  # mean absolute error of both together, logarithmic
    ]
)

LEVEL_SLOTS = 5
"""Newest slots that tell the level now."""

LEVEL_DECAY = 0.5
"""Weight of a slot relative to that of the next newer one."""

FARTHEST_ERRORS = np.float32(3)
"""A slot farther than so many mean absolute errors from the median of them counts as one there: spikes are short."""

STAYING = np.float32(0.9)
"""Of the way from the usual level to the level now, what is taken to be left at the target."""

MEMORY_DAYS = 10.0
"""Days of a kind that the course is a mean of."""

LEVEL_DAYS = 1.0
"""Memory of the usual level and of the error."""

FARTHEST = np.float32(2.5)
"""No hour lies farther from the level than by this logarithm, a factor of twelve."""

FIRST_ERROR = np.float32(0.5)
ERROR_LIMIT = np.float32(3)
"""One value moves course and level as if it missed them by at most so many mean absolute errors."""

_TINY = np.float32(1e-9)
_SHARE = np.repeat(np.array([5 / 7, 2 / 7], np.float32), hours.HOURS)  # of the days, those that an entry is of
_ERROR_GROWTH = np.float32(10)


def forecast(
    course: NDArray[np.void],
    values: NDArray[np.float32],
    scale: NDArray[np.float32],
    *,
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The level now with the course at the target: float32[n, 4], NaN for an absent metric.

    Args:
        course: COURSE[n].
        values: float32[n, 4, L], oldest slot first, unknown slots NaN and older than all known ones.
        scale: float32[n, 4], the mean absolute error, 0 where nothing has been compared.
        made_at_ms: int64[n], of the newest slot.
        step_ms: int64[n], between slots.
        target_ms: int64[n].
    """
    newest = values[:, :, -LEVEL_SLOTS:]
    slots = newest.shape[2]
    times = np.empty((len(values), slots + 1), np.int64)
    times[:, :-1] = made_at_ms[:, None] - np.arange(slots - 1, -1, -1) * step_ms[:, None]
    times[:, -1] = target_ms
    distance = hours.smoothed(course["hours"], times, hours.OF_WEEK).transpose(0, 2, 1)
    ratio: NDArray[np.float32] = np.exp(distance[:, :, :-1])
    level = np.log(np.maximum(_level(newest / ratio, scale), _TINY))
    back = (1 - STAYING) * (course["level"] - level)
    np.copyto(back, 0, where=course["error"] == 0)  # nothing is usual yet
    said: NDArray[np.float32] = np.exp(level + back + distance[:, :, -1])
    return said


def _level(newest: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where a link is now, from its newest values without their course, float32[n, 4, k]: float32[n, 4]."""
    ordered = newest.copy()
    ordered.sort(axis=2)  # NaN last
    known = known_of(ordered)
    middle = quantile(ordered, known, MIDDLE)
    reach = FARTHEST_ERRORS * scale[..., None]
    near = newest.clip(middle - reach, middle + reach)
    weight = (LEVEL_DECAY ** np.arange(newest.shape[2] - 1, -1, -1)).astype(np.float32)
    # sums of these weights are exact: a link gets the same bits whether others beside it lack a slot or not
    mass = weight.sum()
    if known is not None:
        told = ~np.isnan(near)
        mass = np.einsum("nmk,k->nm", told.astype(np.float32), weight)
        mass[mass == 0] = np.nan
        near = np.where(told, near, np.float32(0))
    level: NDArray[np.float32] = np.einsum("nmk,k->nm", near, weight) / mass
    return level


def learn(
    course: NDArray[np.void],
    actual: NDArray[np.float32],
    mean: NDArray[np.float32],
    *,
    target_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    settled: NDArray[np.uint32],
) -> None:
    """Moves the hours around each target, and the usual level, towards what was found there.

    Args:
        course: COURSE[n], changed in place.
        actual: float32[n, 4], what came; NaN where nothing did.
        mean: float32[n, 4], the mean of 100 when the forecast was made, the first guess of the level; NaN where the
            metric was not forecast, and nothing is learnt.
        target_ms: int64[n].
        step_ms: int64[n], between one value that is learnt from and the next.
        settled: uint32[n, 4], forecasts compared before.
    """
    compared = ~np.isnan(actual - mean)
    new = course["error"] == 0
    level = np.where(new, np.log(np.maximum(mean, _TINY)), course["level"])
    error = np.where(new, FIRST_ERROR, course["error"])
    said = hours.between(course["hours"], target_ms, hours.OF_WEEK)
    above = np.log(np.maximum(actual, _TINY)) - level
    limit = ERROR_LIMIT * error

    missed = (above.clip(-FARTHEST, FARTHEST) - said).clip(-limit, limit)
    share = _SHARE.take(hours.of_week(target_ms // hours.HOUR_MS))[:, None]
    missed *= hours.pace(step_ms, settled, MEMORY_DAYS, share)
    hours.move(course["hours"], np.where(compared, missed, 0), target_ms, hours.OF_WEEK, FARTHEST)

    missed = above - said
    days = (step_ms / hours.DAY_MS).astype(np.float32)[:, None]
    pace = np.maximum(1 - np.exp(-days / np.float32(LEVEL_DAYS)), 1 / (settled + np.float32(2)))
    level += pace * missed.clip(-limit, limit)
    error += pace * (np.minimum(np.abs(missed), _ERROR_GROWTH * error) - error)
    np.copyto(course["level"], level, where=compared)
    np.copyto(course["error"], np.maximum(error, _TINY), where=compared)
