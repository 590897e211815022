"""How far single values draw the combined forecast to themselves, learnt per link and metric.

The combination is a mean of forecasters, most of them slow; where errors of one sign follow each other the newest value
holds something that the mean leaves out, and so does the value of one day before where something repeats to the minute.
By their own errors both are poor forecasters, which the weights leave out; but of what the others miss they tell a
part. The share of the way to each is found by online gradient descent (Zinkevich 2003, "Online convex programming and
generalized infinitesimal gradient ascent") on the error of the final forecast, with Huber's loss, which beyond a third
of the usual error is the absolute error that forecasts are judged by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.experts import LAST, SEASONAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOWARDS = slice(LAST, SEASONAL + 1, SEASONAL - LAST)
"""The forecasters that draw, as they lie on the expert axis, and along the last one of what is learnt."""

COUNT = 2

RATE = np.array([0.012, 0.003], np.float32)
MOST = np.float32(0.5)
"""The forecast goes at most this share of the way to each, so that it stays among what forecasters say."""

REACH = np.float32(2)
"""A value farther away than this many mean absolute errors draws no more than one at that distance."""

_MISS_LIMIT = np.float32(0.3)


def drawn(
    mixed: NDArray[np.float32], said: NDArray[np.float32], pull: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The combined forecast drawn towards single values.

    Args:
        mixed: float32[n, 4], the combined forecast.
        said: float32[n, 4, 2], the values of `TOWARDS`, NaN for one that is not known.
        pull: float32[n, 4, 2], 0 to `MOST`.
        scale: float32[n, 4], the mean absolute error.
    """
    reach = REACH * scale
    moved = mixed.copy()
    for column in range(COUNT):
        way = (said[..., column] - mixed).clip(-reach, reach)
        way *= pull[..., column]
        np.copyto(way, 0, where=np.isnan(way))
        moved += way
    return moved


def share(
    mixed: NDArray[np.float32], said: NDArray[np.float32], pull: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The part of the way to each value that `drawn` went: float32[n, 4, 2], 0 to `MOST`, 0 where unknown."""
    distance = np.abs(said - mixed[..., None])
    reach = (REACH * scale)[..., None]
    far = distance > reach
    part = pull * np.where(far, reach / np.where(far, distance, np.float32(1)), np.float32(1))
    return np.where(np.isnan(distance), np.float32(0), part)


def learn(pull: NDArray[np.float32], distance: NDArray[np.float32], said: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pull after one settled forecast: more where a value lay on the side of what came true.

    Args:
        pull: float32[n, 4, 2].
        distance: float32[n, 4], realised minus forecast in mean absolute errors; NaN where there is nothing to compare.
        said: float32[n, 4, 2], the values of `TOWARDS` minus the forecast, likewise.
    """
    learnt, miss = pull.copy(), distance.clip(-_MISS_LIMIT, _MISS_LIMIT)
    for column in range(COUNT):
        step = RATE[column] * miss
        step *= said[..., column].clip(-REACH, REACH)
        np.copyto(step, 0, where=np.isnan(step))
        learnt[..., column] += step
    return learnt.clip(0, MOST, out=learnt)
