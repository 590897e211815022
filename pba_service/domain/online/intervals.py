"""Honest quantiles: each tail of each link and metric is tracked online.

A tail's offset, in units of the running mean absolute error, moves out when the realised value lies beyond it and in
otherwise, so that in the long run the stated share lies beyond whatever the link does: adaptive conformal inference
(Gibbs and Candes 2021) in the additive form of quantile tracking (Angelopoulos, Candes and Tibshirani 2023, "Conformal
PID control"). It starts from the model's own quantiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.online import priors
from pba_service.domain.samples import MAXIMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 0.05
OFFSET_LIMIT = 50.0

MEDIAN = QUANTILES.index(0.5)
TAIL_LEVELS = np.array([level for level in QUANTILES if level != QUANTILES[MEDIAN]], np.float32)
_TAIL_COLUMNS = [i for i in range(len(QUANTILES)) if i != MEDIAN]


def model_tails(output: NDArray[np.float32], levels: tuple[float, ...]) -> NDArray[np.float32]:
    """Distance of the model's tails from its median, float32[n, 4, 4]; NaN where it does not state them."""
    tails = np.full((*output.shape[:2], len(TAIL_LEVELS)), np.nan, np.float32)
    middle = point(output, levels)
    for column, level in enumerate(TAIL_LEVELS.tolist()):
        if levels[0] - 1e-6 <= level <= levels[-1] + 1e-6 and len(levels) > 1:
            tails[..., column] = at_level(output, levels, level) - middle
    return tails


def point(output: NDArray[np.float32], levels: tuple[float, ...]) -> NDArray[np.float32]:
    """The model's median, float32[n, 4]."""
    return at_level(output, levels, 0.5)


def at_level(output: NDArray[np.float32], levels: tuple[float, ...], level: float) -> NDArray[np.float32]:
    """The model's quantile at a level, between stated ones by interpolation: float32[n, 4]."""
    above = int(np.clip(np.searchsorted(levels, level - 1e-6), 0, len(levels) - 1))
    below = max(above - 1, 0)
    if above == below or abs(levels[above] - level) < 1e-6:  # noqa: PLR2004 - float32 round trip
        return output[..., above]
    part = np.float32((level - levels[below]) / (levels[above] - levels[below]))
    result: NDArray[np.float32] = output[..., below] * (1 - part) + output[..., above] * part
    return result


def quantiles(
    values: NDArray[np.float32],
    tails: NDArray[np.float32],
    offsets: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The stated quantiles.

    Args:
        values: float32[n, 4], the medians.
        tails: float32[n, 4, 4], the model's distances from its median, NaN where it states none.
        offsets: float32[n, 4, 4], learnt, in units of `scale`.
        scale: float32[n, 4].

    Returns:
        float32[n, 4, 5], non-decreasing, within what the contract admits, NaN where `values` is.
    """
    base = np.where(np.isfinite(tails), tails, priors.TAIL_WIDTH * scale[..., None])
    low = np.minimum(base[..., :2] + offsets[..., :2] * scale[..., None], 0)
    high = np.maximum(base[..., 2:] + offsets[..., 2:] * scale[..., None], 0)
    low[..., 0] = np.minimum(low[..., 0], low[..., 1])
    high[..., 1] = np.maximum(high[..., 0], high[..., 1])
    out = np.repeat(values[..., None], len(QUANTILES), axis=-1)
    out[..., :MEDIAN] += low
    out[..., MEDIAN + 1 :] += high
    return np.clip(out, 0, MAXIMA[:, None])


def learn(offsets: NDArray[np.float32], tails: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.float32]:
    """The offsets after one settled forecast.

    Args:
        offsets: float32[n, 4, 4].
        tails: float32[n, 4, 4], the tails that were stated.
        actual: float32[n, 4], what happened; NaN where there is nothing to compare.
    """
    below = actual[..., None] < tails
    moved = offsets + np.float32(STEP) * (TAIL_LEVELS - below)
    moved = np.clip(moved, -OFFSET_LIMIT, OFFSET_LIMIT)
    return np.where(np.isfinite(actual)[..., None], moved, offsets).astype(np.float32)
