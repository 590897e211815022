"""The simple forecasters that take part in the combination, computed for many links at once.

`domain.window` leaves no gap inside a window: what is unknown of a metric is a run of NaN at its old end. So a mean or
median over k slots uses the newest min(k, known) of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEANS = (10, 30, 100)
MEDIANS = (5, 10, 30, 100)
EWMA_ALPHA = 0.3

EXPERTS = (
    "last",
    *(f"mean{slots}" for slots in MEANS),
    *(f"median{slots}" for slots in MEDIANS),
    "ewma",
    "seasonal",
    "model",
)
"""The expert axis of every array and of a link's state; a change of it needs a new state format."""

SEASONAL = EXPERTS.index("seasonal")
MODEL = EXPERTS.index("model")

_EWMA_SLOTS = 30  # older slots weigh less than 3e-5 together


def window_experts(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each forecaster says of a window.

    Args:
        windows: float32[n, L, 6] as `domain.window` builds them.

    Returns:
        float32[n, 4, experts], NaN for an absent metric; seasonal and model are left NaN for the caller to fill.
    """
    values = np.ascontiguousarray(windows[:, :, :4].transpose(0, 2, 1))  # float32[n, 4, L], oldest first
    n, metrics, slots = values.shape
    known = np.isfinite(values)
    count = known.sum(axis=2)  # int[n, 4]
    zeroed = np.where(known, values, np.float32(0))
    out = np.full((n, metrics, len(EXPERTS)), np.nan, np.float32)
    out[:, :, 0] = values[:, :, -1]
    column = 1
    with np.errstate(invalid="ignore"):
        for length in MEANS:
            total = zeroed[:, :, -length:].sum(axis=2, dtype=np.float64)
            out[:, :, column] = np.where(count > 0, total / np.minimum(np.maximum(count, 1), length), np.nan)
            column += 1
    for length in MEDIANS:
        out[:, :, column] = _median(values[:, :, -length:], np.minimum(count, length))
        column += 1
    recent = min(slots, _EWMA_SLOTS)
    weight = ((1 - EWMA_ALPHA) ** np.arange(recent - 1, -1, -1)).astype(np.float32)
    mass = known[:, :, -recent:] @ weight
    out[:, :, column] = np.where(mass > 0, (zeroed[:, :, -recent:] @ weight) / np.where(mass > 0, mass, 1), np.nan)
    return out


def _median(values: NDArray[np.float32], count: NDArray[np.int_]) -> NDArray[np.float32]:
    """Median of the last `count` (int[n, 4]) of float32[n, 4, k], the others being NaN; NaN where count is 0."""
    ordered = np.sort(values, axis=2)  # NaN last
    lower = np.maximum(count - 1, 0)[..., None] // 2
    upper = np.minimum(count // 2, values.shape[2] - 1)[..., None]
    low = np.take_along_axis(ordered, lower, axis=2)
    high = np.take_along_axis(ordered, upper, axis=2)
    # half of each, since their sum may not be representable
    result: NDArray[np.float32] = (low * np.float32(0.5) + high * np.float32(0.5))[..., 0]
    return result


def window_spread(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean absolute change over the newest slots: how far the metric wanders, float32[n, 4], NaN if absent."""
    recent = windows[:, -30:, :4]
    known = np.isfinite(recent)
    centre = recent[:, -1:, :]
    distance = np.where(known, np.abs(recent - centre), np.float32(0)).sum(axis=1, dtype=np.float64)
    count = known.sum(axis=1)
    return np.where(count > 0, distance / np.maximum(count, 1), np.nan).astype(np.float32)
