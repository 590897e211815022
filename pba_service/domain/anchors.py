"""Simple robust forecasters over windows, vectorised: what a link's recent past says by itself.

They serve as baselines, as experts of the online combination, and as the reference for the anchors that the
product's model computes inside its graph. Every window is oldest slot first; NaN slots are left out.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def last_value(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The newest slot: float32[n, L, 4] to float32[n, 4]."""
    return values[:, -1]


def mean_of(values: NDArray[np.float32], slots: int) -> NDArray[np.float32]:
    """Mean of the known ones of the newest `slots`: float32[n, L, 4] to float32[n, 4], NaN if none is known."""
    recent = values[:, -slots:]
    known = np.isfinite(recent)
    total = np.where(known, recent, 0).sum(axis=1, dtype=np.float64)
    count = known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def median_of(values: NDArray[np.float32], slots: int) -> NDArray[np.float32]:
    """Median of the known ones of the newest `slots`: float32[n, L, 4] to float32[n, 4], NaN if none is known."""
    recent = values[:, -slots:]
    if np.isfinite(recent).all():
        return np.median(recent, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of NaN has the median NaN
        result: NDArray[np.float32] = np.nanmedian(recent, axis=1)
    return result


def ewma(values: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Exponentially weighted mean, newest weight `alpha`: float32[n, L, 4] to float32[n, 4], NaN if none is known.

    The weights of the known slots are scaled to sum to one.
    """
    weight = (1 - alpha) ** np.arange(values.shape[1] - 1, -1, -1)[:, None]
    known = np.isfinite(values)
    total = (np.where(known, values, 0) * weight).sum(axis=1)
    mass = (known * weight).sum(axis=1)
    return np.where(mass > 0, total / np.where(mass > 0, mass, 1), np.nan).astype(np.float32)


BASELINES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "last": last_value,
    "mean10": lambda v: mean_of(v, 10),
    "mean30": lambda v: mean_of(v, 30),
    "mean100": lambda v: mean_of(v, 100),
    "median10": lambda v: median_of(v, 10),
    "median30": lambda v: median_of(v, 30),
    "median100": lambda v: median_of(v, 100),
    "ewma": lambda v: ewma(v, 0.3),
}
"""Forecasters by name; each takes float32[n, L, 4] and uses as many of its slots as it names."""


def baseline(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The forecast of a named baseline: float32[n, L, 4] to float32[n, 4]."""
    return BASELINES[name](values)
