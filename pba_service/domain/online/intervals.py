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

NOTHING = np.float32(1e-6)
"""The least that an error is measured in, in a metric's unit. A bandwidth or latency foretold below it is foretold as
zero: forecasters that know logarithms never say zero, and within a share of next to nothing zero would not lie."""

_HALF_LIMIT = np.float32(60_000)  # within float16
_WIDTH = priors.TAIL_WIDTH[: LOWER - 1 : -1]  # of the 90 % and of the 80 % interval: the usual tails are symmetric

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


def model_tails(
    output: NDArray[np.float32], levels: tuple[float, ...], median: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distances of the model's tails from its median as `model_median` gives it, float32[n, 4, 4].

    NaN where it does not state them.
    """
    tails = np.empty((*median.shape, len(TAIL_LEVELS)), np.float32)
    others = (reading for i, reading in enumerate(_readings(levels)) if i != MEDIAN)
    for column, reading in enumerate(others):
        tails[..., column] = np.nan if reading is None else reading.of_output(output) - median
    return tails


def tails(
    values: NDArray[np.float32],
    recent: NDArray[np.float32],
    model: NDArray[np.float32],
    newest: NDArray[np.float32],
    *,
    offset: NDArray[np.float32],
    excess: NDArray[np.float32],
    burst: NDArray[np.float16],
    scale: NDArray[np.float32],
) -> NDArray[np.float16]:
    """The tails as they are remembered, distances from the median in mean absolute errors; `stated` reads them.

    Args:
        values: float32[n, 4], the medians.
        recent: float32[n, 4, 4], the quantiles of the newest slots.
        model: float32[n, 4, 4], the model's distances from its median, NaN where it states none.
        newest: float32[n, 4], the newest values.
        offset: float32[n, 4, 4], learnt by tracking, in units of `scale`.
        excess: float32[n, 4, 2], recent excess of values outside the 90 % and the 80 % interval.
        burst: float16[n, 4, 2], recent excess of values beyond the outermost tails.
        scale: float32[n, 4], the mean absolute error.

    Returns:
        float16[n, 4, 4], non-decreasing, NaN where `values` is.
    """
    per_unit = 1 / scale
    distance = recent - values[..., None]
    distance *= (RECENT_SHARE * per_unit)[..., None]
    gap = model * (MODEL_SHARE * per_unit)[..., None]
    gap -= MODEL_SHARE * priors.TAIL_WIDTH
    np.copyto(gap, 0, where=np.isnan(gap))
    distance += gap
    distance += offset
    wider = EXCESS_GAIN * excess
    far = BURST_GAIN * np.maximum(burst.astype(np.float32) - BURST_FROM, 0)
    wider += (1 - RECENT_SHARE) * _WIDTH
    # column by column, which numpy does several times as fast as two columns of four at once
    lowest, low, high, highest = (distance[..., column] for column in range(distance.shape[-1]))
    low -= wider[..., 1]
    np.minimum(low, 0, out=low)
    high += wider[..., 1]
    np.maximum(high, 0, out=high)
    towards = NEWEST_REACH * (newest - values) * per_unit
    lowest -= wider[..., 0] + far[..., 0]
    np.minimum(np.minimum(lowest, towards, out=lowest), low, out=lowest)
    highest += wider[..., 0] + far[..., 1]
    np.maximum(np.maximum(highest, towards, out=highest), high, out=highest)
    return distance.clip(-_HALF_LIMIT, _HALF_LIMIT, out=distance).astype(np.float16)


def stated(tails: NDArray[np.float16], values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The quantiles besides the median, float32[n, 4, 4], non-decreasing, within what the contract admits.

    They are read in one way when they are stated and when they are judged, bit for bit: many links' values are few, no
    loss at all or whole megabits, and lie on the tails, where the least difference would tell inside from beyond.

    Args:
        tails: float16[n, 4, tails], all or some of what `tails` gave.
        values: float32[n, 4], the medians it was given.
        scale: float32[n, 4], likewise.
    """
    read = tails.astype(np.float32)
    read *= scale[..., None]
    read += values[..., None]
    return read.clip(0, _TOP, out=read)


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
    below = np.empty(tails.shape, np.bool_)
    for column in range(LOWER):
        np.less(actual, tails[..., column], out=below[..., column])
        np.less_equal(actual, tails[..., LOWER + column], out=below[..., LOWER + column])
    surprise = TAIL_LEVELS - below
    moved = (offset + STEP * surprise).clip(_LOWEST, _HIGHEST)
    recent, newest = EXCESS_MEMORY * excess, BURST_MEMORY * burst.astype(np.float32)
    lowest, low, high, highest = (surprise[..., column] for column in range(surprise.shape[-1]))
    recent[..., 0] += (1 - EXCESS_MEMORY) * (highest - lowest)
    recent[..., 1] += (1 - EXCESS_MEMORY) * (high - low)
    newest[..., 0] -= (1 - BURST_MEMORY) * lowest
    newest[..., 1] += (1 - BURST_MEMORY) * highest
    known = ~np.isnan(actual - tails[..., 0])[..., None]
    if known.all():
        return moved, recent, newest
    return np.where(known, moved, offset), np.where(known, recent, excess), np.where(known, newest, burst)


def smallest_scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least that an error is measured in: a ten-thousandth of the forecast; 1e-6 where that is less or absent."""
    return np.fmax(np.abs(values) * np.float32(1e-4), NOTHING)
