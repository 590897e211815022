"""How far a link's newest value draws the combined forecast to itself, learnt per link and metric.

The combination is a mean of forecasters, most of them slow; where errors of one sign follow each other the newest value
holds something that the mean leaves out. The share of the way to it is found by online gradient descent (Zinkevich
2003, "Online convex programming and generalized infinitesimal gradient ascent") on the error of the final forecast,
with Huber's loss so that one outage teaches no more than one large miss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = np.float32(0.004)
MOST = np.float32(0.5)
"""The forecast goes at most this share of the way."""

REACH = np.float32(2)
"""A newest value farther away than this many mean absolute errors draws no more than one at that distance."""

_MISS_LIMIT = np.float32(1)


def drawn(
    mixed: NDArray[np.float32], last: NDArray[np.float32], pull: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The combined forecast drawn towards the newest value.

    Args:
        mixed: float32[n, 4], the combined forecast.
        last: float32[n, 4], the newest value.
        pull: float32[n, 4], 0 to `MOST`.
        scale: float32[n, 4], the mean absolute error.
    """
    reach = REACH * scale
    moved: NDArray[np.float32] = mixed + pull * np.clip(last - mixed, -reach, reach)
    return moved


def share(
    mixed: NDArray[np.float32], last: NDArray[np.float32], pull: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The part of the way to the newest value that `drawn` went: float32[n, 4], 0 to `MOST`, 0 where unknown."""
    distance = np.abs(last - mixed)
    far = distance > REACH * scale
    part = pull * np.where(far, REACH * scale / np.where(far, distance, np.float32(1)), np.float32(1))
    return np.where(np.isnan(distance), np.float32(0), part)


def learn(pull: NDArray[np.float32], distance: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pull after one settled forecast: more where the newest value lay on the side of what came true.

    Args:
        pull: float32[n, 4].
        distance: float32[n, 4], realised minus forecast in mean absolute errors; NaN where there is nothing to compare.
        last: float32[n, 4], the newest value minus the forecast, likewise.
    """
    step = RATE * np.clip(distance, -_MISS_LIMIT, _MISS_LIMIT) * np.clip(last, -REACH, REACH)
    return np.where(np.isnan(step), pull, np.clip(pull + step, 0, MOST))
