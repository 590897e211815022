"""Honest quantiles: each tail of each link and metric is tracked online.

A tail starts from a mean of three: the quantile of the newest slots; the model's distance of that quantile from its
median; and the distance that a usual error distribution has at the link's mean absolute error. To it a learnt distance
is added, in units of that error, by the rule of conformal PID control (Angelopoulos, Candes and Tibshirani 2023), a
descendant of adaptive conformal inference (Gibbs and Candes 2021):

- quantile tracking: each realised value beyond the tail moves it out by `STEP * (1 - share)`, each other one in by
  `STEP * share`. In the long run the stated share lies beyond, whatever the link does.
- integration: the recent excess of values outside an interval moves both its tails out at once, and back as soon as it
  is over. What makes a link restless seldom asks on which side: a jump that is missed above is missed below when it
  ends.
- the outermost tail moves out further while many values in a row lie beyond it.

What has been measured since but is nobody's target yet counts too: the outermost tails reach most of the way to the
newest value, for on a fine cadence a level that has shifted is missed at every step of the horizon before the first
miss is known.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.online import experts, priors
from pba_service.domain.samples import MAXIMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEP = np.float32(0.03)
EXCESS_MEMORY = np.float32(0.97)
EXCESS_GAIN = np.float32(6)
BURST_MEMORY = np.float32(0.9)
BURST_GAIN = np.float32(10)
BURST_FROM = np.float32(0.1)
"""The recent share of values beyond an outermost tail, less the stated one, from which that tail moves out further."""

NEWEST_REACH = np.float32(0.9)
"""The outermost tails reach at least this part of the way to the newest value."""

RECENT_SHARE = np.float32(0.4)
MODEL_SHARE = np.float32(0.3)
"""The parts of the newest slots and of the model in where a tail starts; the rest is the usual distribution's."""

MEDIAN = QUANTILES.index(0.5)
LOWER = MEDIAN
"""Number of tails below the median; they come first."""

TAIL_LEVELS = np.array(experts.TAIL_LEVELS, np.float32)

_HALF_LIMIT = np.float32(60_000)  # within float16
_OUTWARD = np.float32(1 + 2**-10)  # more than half precision takes away, except from numbers near its least one
_LEAST_OUTWARD = np.where(QUANTILES[MEDIAN] > TAIL_LEVELS, -(2.0**-14), 2.0**-14).astype(np.float32)

_SAME_LEVEL = 1e-6  # levels may have been through float32

# A tail that lies on the median, or at the end of what the contract admits, is never left by a value on its inner side;
# so the tracker must stop, or it would have to come back all the way.
_INWARD_LIMIT, _OUTWARD_LIMIT = 10, 50
_LOWEST = np.where(QUANTILES[MEDIAN] > TAIL_LEVELS, -_OUTWARD_LIMIT, -_INWARD_LIMIT).astype(np.float32)
_HIGHEST = np.where(QUANTILES[MEDIAN] > TAIL_LEVELS, _INWARD_LIMIT, _OUTWARD_LIMIT).astype(np.float32)
_TOP = MAXIMA[:, None]


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read one quantile off a model's: between two stated ones by interpolation."""

    below: int
    above: int
    part: float

    @staticmethod
    def of(levels: Sequence[float], level: float) -> Reading | None:
        """None where the level lies outside the stated ones."""
        above = bisect_left(levels, level - _SAME_LEVEL)
        if above == len(levels) or (above == 0 and levels[0] > level + _SAME_LEVEL):
            return None
        if levels[above] <= level + _SAME_LEVEL:
            return Reading(above, above, 0.0)
        below = above - 1
        return Reading(below, above, (level - levels[below]) / (levels[above] - levels[below]))

    def of_output(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[n, 4] from float32[n, 4, Q]."""
        below = output[..., self.below]
        if self.part == 0:
            return below
        result: NDArray[np.float32] = below + np.float32(self.part) * (output[..., self.above] - below)
        return result


@lru_cache(maxsize=64)
def _readings(levels: tuple[float, ...]) -> tuple[Reading | None, ...]:
    return tuple(Reading.of(levels, level) for level in QUANTILES)


def model_median(output: NDArray[np.float32], levels: tuple[float, ...]) -> NDArray[np.float32]:
    """The model's median, float32[n, 4], from its quantiles float32[n, 4, Q]; NaN where it states none."""
    reading = _readings(levels)[MEDIAN]
    return np.full(output.shape[:2], np.nan, np.float32) if reading is None else reading.of_output(output)


def model_quantiles(output: NDArray[np.float32], levels: tuple[float, ...]) -> NDArray[np.float32]:
    """What the model itself says at `QUANTILES`, float32[n, 4, 5]; NaN where it states none."""
    columns = [
        np.full(output.shape[:2], np.nan, np.float32) if reading is None else reading.of_output(output)
        for reading in _readings(levels)
    ]
    return np.stack(columns, axis=-1)


def model_tails(output: NDArray[np.float32], levels: tuple[float, ...]) -> NDArray[np.float32]:
    """Distances of the model's tails from its median, float32[n, 4, 4]; NaN where it does not state them."""
    tails = np.full((*output.shape[:2], len(TAIL_LEVELS)), np.nan, np.float32)
    readings = _readings(levels)
    middle = readings[MEDIAN]
    others = [reading for i, reading in enumerate(readings) if i != MEDIAN]
    for column, reading in enumerate(others):
        if reading is not None and middle is not None:
            tails[..., column] = reading.of_output(output) - middle.of_output(output)
    return tails


def quantiles(
    values: NDArray[np.float32],
    recent: NDArray[np.float32],
    tails: NDArray[np.float32],
    newest: NDArray[np.float32],
    *,
    offset: NDArray[np.float32],
    excess: NDArray[np.float32],
    burst: NDArray[np.float16],
    scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The stated quantiles.

    Args:
        values: float32[n, 4], the medians.
        recent: float32[n, 4, 4], the quantiles of the newest slots.
        tails: float32[n, 4, 4], the model's distances from its median, NaN where it states none.
        newest: float32[n, 4], the newest values.
        offset: float32[n, 4, 4], learnt by tracking, in units of `scale`.
        excess: float32[n, 4, 2], recent excess of values outside the 90 % and the 80 % interval.
        burst: float16[n, 4, 2], recent excess of values beyond the outermost tails.
        scale: float32[n, 4], the mean absolute error.

    Returns:
        float32[n, 4, 5], non-decreasing, within what the contract admits, NaN where `values` is.
    """
    unit, middle = scale[..., None], values[..., None]
    usual = priors.TAIL_WIDTH * unit
    known = ~np.isnan(tails)
    distance = usual + RECENT_SHARE * (recent - middle - usual)
    distance += np.where(known, MODEL_SHARE * (tails - usual), np.float32(0))
    distance += offset * unit
    wider = EXCESS_GAIN * excess * unit
    distance[..., :LOWER] -= wider
    distance[..., LOWER:] += wider[..., ::-1]
    far = BURST_GAIN * np.maximum(burst.astype(np.float32) - BURST_FROM, 0) * unit
    towards = NEWEST_REACH * (newest - values)
    lowest, highest = distance[..., 0], distance[..., -1]
    np.minimum(lowest - far[..., 0], towards, out=lowest)
    np.maximum(highest + far[..., 1], towards, out=highest)
    low = np.minimum(distance[..., :LOWER], 0)
    high = np.maximum(distance[..., LOWER:], 0)
    for column in range(LOWER - 2, -1, -1):
        low[..., column] = np.minimum(low[..., column], low[..., column + 1])
    for column in range(1, high.shape[-1]):
        high[..., column] = np.maximum(high[..., column], high[..., column - 1])
    out = np.concatenate([middle + low, middle, middle + high], axis=-1)
    return np.clip(out, 0, _TOP, out=out)


def learn(
    offset: NDArray[np.float32],
    excess: NDArray[np.float32],
    burst: NDArray[np.float16],
    tails: NDArray[np.float32],
    actual: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The tracked offset, the recent excess outside and the recent excess beyond after one settled forecast.

    Args:
        offset: float32[n, 4, 4].
        excess: float32[n, 4, 2].
        burst: float16[n, 4, 2].
        tails: float32[n, 4, 4], the tails that were stated, NaN where there was no forecast.
        actual: float32[n, 4], what happened, NaN where that is not known; where either is NaN nothing is learnt.
    """
    # a value on the edge of the interval is inside it
    value = actual[..., None]
    below = np.empty(tails.shape, np.bool_)
    np.less(value, tails[..., :LOWER], out=below[..., :LOWER])
    np.less_equal(value, tails[..., LOWER:], out=below[..., LOWER:])
    surprise = TAIL_LEVELS - below
    beyond = np.stack([-surprise[..., 0], surprise[..., -1]], axis=-1)
    outside = surprise[..., : LOWER - 1 : -1] - surprise[..., :LOWER]
    known = ~np.isnan(value - tails[..., :1])
    moved = np.clip(offset + STEP * surprise, _LOWEST, _HIGHEST)
    recent = excess + (1 - EXCESS_MEMORY) * (outside - excess)
    newest = burst + (1 - BURST_MEMORY) * (beyond - burst)
    return np.where(known, moved, offset), np.where(known, recent, excess), np.where(known, newest, burst)


def packed(quantiles: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Tails as they are remembered, distances from the median in mean absolute errors: float16[n, 4, 4].

    They are rounded outward, so that a tail that lies on the least possible value still does.
    """
    tails = np.concatenate([quantiles[..., :MEDIAN], quantiles[..., MEDIAN + 1 :]], axis=-1)
    tails -= quantiles[..., MEDIAN, None]
    tails *= (_OUTWARD / scale)[..., None]
    tails += _LEAST_OUTWARD
    return np.clip(tails, -_HALF_LIMIT, _HALF_LIMIT, out=tails).astype(np.float16)


def unpacked(
    tails: NDArray[np.float16], values: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What was packed, float32[n, 4, 4]; arguments as `packed` gave it and was given.

    Quantiles are stated as they are remembered, bit for bit: many links' values are few, no loss at all or whole
    megabits, and lie on the tails, where the least difference would tell inside from beyond.
    """
    stated = tails.astype(np.float32)
    stated *= scale[..., None]
    stated += values[..., None]
    return np.clip(stated, 0, _TOP, out=stated)


def smallest_scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least that an error is measured in: a ten-thousandth of the forecast; 1e-6 where that is less or absent."""
    return np.fmax(np.abs(values) * np.float32(1e-4), np.float32(1e-6))
