"""Weighing forecasters by their past errors, per link and metric.

Exponentially weighted forecasters with discounted losses and a fixed share (Herbster and Warmuth 1998, "Tracking the
best expert"; Cesa-Bianchi and Lugosi 2006, sections 2.11 and 5.2): the combination's loss exceeds that of any sequence
of forecasters that changes seldom by a bounded amount. Forecasters without a forecast sleep (Freund, Schapire, Singer
and Warmuth 1997): they are charged the combination's own loss, so sleep neither helps nor harms them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 0.6
DECAY = 0.99
SHARE = 0.005
LOSS_LIMIT = 10.0
"""A single error counts at most this many times the scale: one outage must not decide the weights."""


def weights(log_weight: NDArray[np.float32], awake: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of each forecaster: float32[n, 4, experts], sums to one over the awake, all zero where none is."""
    top = np.max(log_weight, axis=-1, keepdims=True, where=awake, initial=-np.inf)
    share = np.exp(log_weight - np.where(np.isfinite(top), top, np.float32(0))) * awake
    total = share.sum(axis=-1, keepdims=True)
    result: NDArray[np.float32] = (share / np.where(total > 0, total, 1)).astype(np.float32, copy=False)
    return result


def combine(log_weight: NDArray[np.float32], experts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weighted forecast: float32[n, 4], NaN where every forecaster sleeps."""
    awake = np.isfinite(experts)
    share = weights(log_weight, awake)
    mixed = (share * np.where(awake, experts, np.float32(0))).sum(axis=-1)
    return np.where(awake.any(axis=-1), mixed, np.float32(np.nan))


def learn(
    log_weight: NDArray[np.float32],
    errors: NDArray[np.float32],
    mixed_error: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The log weights after one settled forecast.

    Args:
        log_weight: float32[n, 4, experts], normalised.
        errors: float32[n, 4, experts], absolute error of each forecaster, NaN where it slept.
        mixed_error: float32[n, 4], absolute error of the combination, NaN where there is nothing to compare.
        scale: float32[n, 4], positive, what errors are measured in.

    Returns:
        float32[n, 4, experts], normalised; unchanged where there is nothing to compare.
    """
    losses = np.where(np.isfinite(errors), errors, mixed_error[..., None]) / scale[..., None]
    losses = np.minimum(losses, np.float32(LOSS_LIMIT))
    updated = np.float32(DECAY) * log_weight - np.float32(RATE) * losses
    updated = updated - updated.max(axis=-1, keepdims=True)
    share = np.exp(updated)
    share /= share.sum(axis=-1, keepdims=True)
    share = (1 - np.float32(SHARE)) * share + np.float32(SHARE / share.shape[-1])
    return np.where(np.isfinite(mixed_error)[..., None], np.log(share), log_weight)
