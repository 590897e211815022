"""The simple forecasters that take part in the combination, computed for many links at once.

`domain.window` leaves no gap inside a window: what is unknown of a metric is a run of NaN at its old end. So a mean or
median over k slots uses the newest min(k, known) of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEANS = (10, 30, 100)
MEDIANS = (10, 30, 100)
EWMA_ALPHA = 0.3

EXPERTS = (
    "last",
    *(f"mean{slots}" for slots in MEANS),
    *(f"median{slots}" for slots in MEDIANS),
    "ewma",
    "seasonal",
    "cycle",
    "hourly",
    "model",
)
"""The expert axis of every array and of a link's state; a change of it needs a new state format."""

SEASONAL = EXPERTS.index("seasonal")
"""The sample of the same time a day earlier; asleep where the series does not hold it."""

CYCLE = EXPERTS.index("cycle")
"""The link's level now with its daily course at the target."""

HOURLY = EXPERTS.index("hourly")
"""The combination of all others plus what it usually misses at the target's hour of day."""

MODEL = EXPERTS.index("model")

LAST = EXPERTS.index("last")

MEAN_100 = EXPERTS.index("mean100")

TAIL_LEVELS = tuple(level for level in QUANTILES if level != 0.5)  # noqa: PLR2004 - the median is no tail
"""The quantiles besides the median."""

MIDDLE = (0.5,)

SPREAD_SLOTS = 30

_EWMA = EXPERTS.index("ewma")
_EWMA_SLOTS = 30  # older slots weigh less than 3e-5 together
_EWMA_WEIGHTS = (EWMA_ALPHA * (1 - EWMA_ALPHA) ** np.arange(_EWMA_SLOTS - 1, -1, -1)).astype(np.float32)
_EWMA_MASS = (1 - (1 - EWMA_ALPHA) ** np.arange(_EWMA_SLOTS + 1)).astype(np.float32)  # of the newest k slots


def metrics_last(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[n, L, 6] to float32[n, 4, L], contiguous: the layout in which each forecaster reads one run of memory."""
    return np.ascontiguousarray(windows[:, :, : len(METRICS)].transpose(0, 2, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What a window says by itself.

    Attributes:
        experts: float32[n, 4, experts], what each forecaster says; NaN for an absent metric. Seasonal, cycle,
            hourly and model are left NaN for the caller to fill.
        tails: float32[n, 4, 4], quantiles of the window's newest slots at `TAIL_LEVELS`; NaN for an absent metric.
    """

    experts: NDArray[np.float32]
    tails: NDArray[np.float32]


def listen(values: NDArray[np.float32]) -> Heard:
    """Asks the simple forecasters.

    Args:
        values: float32[n, 4, L], oldest slot first, unknown slots NaN and older than all known ones.
    """
    n, metrics, slots = values.shape
    complete = not np.count_nonzero(np.isnan(values[:, :, 0]))  # none is absent or known for a part of the window only
    known = None if complete else (~np.isnan(values)).sum(axis=2)
    summed = values if complete else np.where(np.isnan(values), np.float32(0), values)
    out = np.full((n, metrics, len(EXPERTS)), np.nan, np.float32)
    out[:, :, LAST] = values[:, :, -1]
    for column, length in enumerate(MEANS, start=1):
        # einsum, unlike a matrix product, gives a window the same bits whatever windows are beside it
        total = np.einsum("nml->nm", summed[:, :, -length:])
        np.divide(total, _newest(known, min(length, slots)), out=out[:, :, column], casting="same_kind")
    for column, length in enumerate(MEDIANS, start=1 + len(MEANS)):
        ordered = values[:, :, -length:].copy()
        ordered.sort(axis=2)  # NaN last
        count = None if known is None else np.minimum(known, length)
        out[:, :, column] = quantile(ordered, count, MIDDLE)[..., 0]
    recent = min(slots, _EWMA_SLOTS)
    weighted = np.einsum("nml,l->nm", summed[:, :, -recent:], _EWMA_WEIGHTS[-recent:])
    out[:, :, _EWMA] = weighted / _EWMA_MASS[_newest(known, recent)]
    if known is not None:
        out[known == 0] = np.nan
    return Heard(out, quantile(ordered, count, TAIL_LEVELS))  # of the longest median's slots


def _newest(known: NDArray[np.int_] | None, slots: int) -> NDArray[np.int_] | int:
    """How many of the newest slots are known, at least one; None stands for all."""
    return slots if known is None else known.clip(1, slots)


def known_of(ordered: NDArray[np.float32]) -> NDArray[np.int_] | None:
    """How many values of float32[n, 4, k] are known, where NaN comes last: int[n, 4], None where all of them are."""
    if not np.count_nonzero(np.isnan(ordered[:, :, -1])):
        return None
    count: NDArray[np.int_] = (~np.isnan(ordered)).sum(axis=2)
    return count


def quantile(
    ordered: NDArray[np.float32], count: NDArray[np.int_] | None, levels: tuple[float, ...]
) -> NDArray[np.float32]:
    """Quantiles of the first `count` (int[n, 4]) of float32[n, 4, k], between two of them by interpolation.

    Beyond `count` there is NaN, and NaN is the quantile where count is 0. None stands for all k.

    Returns:
        float32[n, 4, levels].
    """
    width = ordered.shape[2]
    if count is None or ((count == width) | (count == 0)).all():
        below, above, part = _places(width, levels)
        low = ordered.take(below, axis=2)
        return low + part * (ordered.take(above, axis=2) - low)
    last = np.maximum(count - 1, 0)[..., None]
    place = last * np.array(levels)
    below_each = place.astype(np.intp)
    low = np.take_along_axis(ordered, below_each, axis=2)
    high = np.take_along_axis(ordered, np.minimum(below_each + 1, last), axis=2)
    quantiles: NDArray[np.float32] = low + (place - below_each).astype(np.float32) * (high - low)
    return quantiles


@lru_cache(maxsize=64)
def _places(count: int, levels: tuple[float, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Between which two of so many values in order each quantile lies, and at which part of the way."""
    below, part = np.divmod((count - 1) * np.array(levels), 1)
    at = below.astype(np.intp)
    return at, np.minimum(at + 1, count - 1), part.astype(np.float32)


def window_spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean distance of the newest slots from the newest one, float32[n, 4] from float32[n, 4, L]; NaN if absent."""
    recent = values[:, :, -SPREAD_SLOTS:]
    known = ~np.isnan(recent)
    distance = np.where(known, np.abs(recent - recent[:, :, -1:]), np.float32(0)).sum(axis=2)
    count = known.sum(axis=2).astype(np.float32)
    return np.where(count > 0, distance / np.maximum(count, 1), np.float32(np.nan))
