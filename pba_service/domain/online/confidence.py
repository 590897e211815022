"""Confidence: the probability that bandwidth and latency come true within the tolerance, calibrated per link.

A logistic of two pieces of evidence, the probability that the stated quantiles give to the tolerance and the link's
recent hit rate, learns from each settled forecast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import JUDGED, QUANTILES, TOLERANCE_RATIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = np.float32(0.02)
HIT_MEMORY = 0.98
HIT_BURN_IN = 5
"""Settled forecasts that the prior hit rate counts for."""

_EDGES = np.array([1 - TOLERANCE_RATIO, 1 + TOLERANCE_RATIO], np.float32)[:, None, None]
_MASSES = np.diff([0.0, *QUANTILES, 1.0]).astype(np.float32)[:, None, None, None]
_TINY = np.float32(1e-30)
_EVIDENCE_LIMIT = 4.0
_LEAST_PROBABILITY = np.float32(1 / (1 + np.exp(_EVIDENCE_LIMIT)))
_COEFFICIENT_LIMIT = np.float32(5)


def logit(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log odds, bounded."""
    inside = probability.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    result: NDArray[np.float32] = np.log(inside / (1 - inside))
    return result


def probability_within(quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability that the stated quantiles give to bandwidth and latency both staying within the tolerance.

    Args:
        quantiles: float32[n, 4, 5].

    Returns:
        float32[n]; metrics that are absent are left out, and 0 where both are.
    """
    stated = np.ascontiguousarray(quantiles[:, :JUDGED].transpose(2, 0, 1))  # float32[5, n, 2]
    median = stated[QUANTILES.index(0.5)]
    below = _share_below(stated, median * _EDGES)  # float32[2, n, 2]
    known = ~np.isnan(median)
    bandwidth, latency = np.where(known, below[1] - below[0], np.float32(1)).T
    result: NDArray[np.float32] = bandwidth * latency * (known[:, 0] | known[:, 1])
    return result


def _share_below(quantiles: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distribution function just below and at two limits, linear between the quantiles and beyond them to 0 and 1.

    Args:
        quantiles: float32[5, n, 2].
        limits: float32[2, n, 2], the lower one and the upper one of what lies between, both included.

    Returns:
        float32[2, n, 2].
    """
    span = quantiles[-1] - quantiles[0]
    knots = np.concatenate([(quantiles[0] - span)[None], quantiles, (quantiles[-1] + span)[None]])[:, None]
    lower, upper = knots[:-1], knots[1:]  # float32[6, 1, n, 2]
    # where two quantiles coincide, all of their mass lies at once there: within, if it is on either limit
    part = (limits - lower) / np.maximum(upper - lower, _TINY)
    beyond = np.stack([limits[0] > upper[:, 0], limits[1] >= upper[:, 0]], axis=1)
    part = np.where(beyond, np.float32(1), np.maximum(part, 0))
    part *= _MASSES
    share: NDArray[np.float32] = np.add.reduce(part, axis=0)
    return share


def confidence(coefficients: NDArray[np.float32], evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[n] from coefficients float32[n, 3] and evidence float32[n, 2]."""
    score = coefficients[:, 0] + (coefficients[:, 1] * evidence[:, 0] + coefficients[:, 2] * evidence[:, 1])
    result: NDArray[np.float32] = np.reciprocal(1 + np.exp(-score))
    return result


def learn(
    coefficients: NDArray[np.float32], evidence: NDArray[np.float32], hit: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The coefficients after settled forecasts: one gradient step of the log loss each."""
    step = RATE * (hit - confidence(coefficients, evidence))
    moved = coefficients.copy()
    moved[:, 0] += step
    moved[:, 1:] += step[:, None] * evidence
    return moved.clip(-_COEFFICIENT_LIMIT, _COEFFICIENT_LIMIT, out=moved)


def hit_rate(rate: NDArray[np.float32], judged: NDArray[np.uint32], hit: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The recent hit rate after settled forecasts: float32[n]; `judged` (uint32[n]) counts those before."""
    pace = np.maximum(np.float32(1 - HIT_MEMORY), np.float32(1) / (judged + np.float32(HIT_BURN_IN)))
    result: NDArray[np.float32] = (rate + pace * (hit - rate)).astype(np.float32)
    return result
