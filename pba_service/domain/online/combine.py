"""Weighing forecasters by their past errors, per link and metric.

Exponential weights over discounted losses (Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", section
2.11) with a fixed share (Herbster and Warmuth 1998, "Tracking the best expert"): for bounded convex losses the
combination's loss exceeds that of any sequence of forecasters that changes k times in T rounds by at most
O(sqrt(T (k + 1) log(N T))) when the rate is tuned to T, and by a constant share of the rounds at a fixed rate, which
buys steady attention to change. What is forgotten gives way to what the link's weights usually were (mixing past
posteriors, Bousquet and Warmuth 2002, "Tracking a small set of experts by mixing past posteriors") and, by a fifth, to
the prior, so that the share of any forecaster stays bounded from below. Forecasters without a forecast sleep (Freund,
Schapire, Singer and Warmuth 1997): they are charged the combination's own loss, so sleep neither helps nor harms them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import priors
from pba_service.domain.online.experts import HOURLY
from pba_service.domain.samples import MAXIMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = np.float32(0.3)
FORGETTING = np.float32(0.015)
"""The most of what was learnt, of log weights, that a forecast makes forgotten."""

SHARE = np.float32(0.005)
"""The same of weights."""

TELLING = np.float32(0.4)
"""Where the forecasters that count differ by this many mean absolute errors, the most is forgotten."""

HABIT_PACE = np.float32(0.001)
OWN = np.float32(0.8)
"""Of what takes the place of the forgotten, the part that is the link's own habit; the rest is the prior."""

LOSS_LIMIT = np.float32(6)
"""One forecast counts at most as this many mean absolute errors more or less than the combination's."""

_PRIOR = priors.weights()


def weights(log_weight: NDArray[np.float32], awake: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What each forecaster counts for.

    Args:
        log_weight: float32[..., experts], normalised.
        awake: bool[..., experts], which have a forecast.

    Returns:
        float32[..., experts], sums to one over the awake; all zero where none is.
    """
    share = np.exp(log_weight)
    share *= awake
    total = over_experts(share)
    share /= np.where(total > 0, total, np.float32(1))[..., None]
    return share


def over_experts(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum over the last axis; for one as short as this several times as fast as `sum`."""
    total: NDArray[np.float32] = np.einsum("...e->...", values)
    return total


def combine(
    log_weight: NDArray[np.float32], experts: NDArray[np.float32], usual_error: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weighted forecast, and the hourly forecaster's, which rests on it.

    Args:
        log_weight: float32[n, 4, experts], normalised.
        experts: float32[n, 4, experts], NaN for those that sleep; the hourly forecaster's are filled in.
        usual_error: float32[n, 4], what the combination of the others usually misses at the target's hour of day.

    Returns:
        float32[n, 4] each, NaN where all sleep: the weighted forecast of all, and that of all but the hourly one.
    """
    share = np.exp(log_weight)
    alone = share[..., HOURLY].copy()
    share[..., HOURLY] = 0
    asleep = np.isnan(experts)
    said = np.where(asleep, np.float32(0), experts)
    share *= ~asleep
    total = over_experts(share)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all sleep
        others: NDArray[np.float32] = np.einsum("...e,...e->...", said, share) / total
    corrected: NDArray[np.float32] = (others + usual_error).clip(0, MAXIMA)
    experts[..., HOURLY] = corrected
    mixed: NDArray[np.float32] = others + alone / (total + alone) * (corrected - others)
    return mixed, others


def learn(
    log_weight: NDArray[np.float32],
    habit: NDArray[np.float32],
    errors: NDArray[np.float32],
    own_error: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The log weights after one settled forecast, and their habit.

    Args:
        log_weight: float32[n, 4, experts], normalised.
        habit: float32[n, 4, experts], the weights' long mean.
        errors: float32[n, 4, experts], absolute error of each forecaster, NaN where it slept.
        own_error: float32[n, 4], absolute error of the combination, NaN where there is nothing to compare.
        scale: float32[n, 4], positive, what errors are measured in.

    Returns:
        float32[n, 4, experts] each, normalised; unchanged where there is nothing to compare.
    """
    excess = errors - own_error[..., None]
    excess /= scale[..., None]
    excess.clip(-LOSS_LIMIT, LOSS_LIMIT, out=excess)
    np.copyto(excess, 0, where=np.isnan(excess))
    weight = np.exp(log_weight)
    # Where those that count did alike nothing was learnt, so nothing need be forgotten: a link whose forecasters differ
    # only in its daily burst must still know the next day which of them foresaw it.
    differ = np.sqrt(np.einsum("...e,...e,...e->...", weight, excess, excess))
    told = np.minimum(differ / TELLING, np.float32(1))[..., None]
    weight -= habit
    weight *= HABIT_PACE * told
    weight += habit  # the habit from now on
    anchor = OWN * weight
    anchor += (1 - OWN) * _PRIOR
    forgotten, shared = FORGETTING * told, SHARE * told
    excess *= -RATE
    share = (1 - forgotten) * log_weight
    share += excess
    np.log(anchor, out=excess)
    excess *= forgotten
    share += excess
    np.exp(share, out=share)
    share *= (1 - shared) / over_experts(share)[..., None]
    anchor *= shared
    share += anchor
    learnt: NDArray[np.float32] = np.log(share, out=share)
    unknown = np.isnan(own_error)
    if np.count_nonzero(unknown):
        np.copyto(learnt, log_weight, where=unknown[..., None])
        np.copyto(weight, habit, where=unknown[..., None])
    return learnt, weight
