"""What is known of a link at one time, with how sure it is: the input of the optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.samples import MAXIMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.parameters import ParametersAsk

UNSEEN_LOSSES = 3.0
"""None of n probes lost leaves up to 3 / n likely (the rule of three: Hanley, Lippman-Hand, JAMA 1983)."""

UNKNOWN_LOSS_RATIO = 0.005
"""Taken for possible where nothing says otherwise: too few streams cost most of the goodput, too many little of it."""

GUESSED_QUEUE_BYTES = 24_000
GUESSED_QUEUE_SHARE = 0.25
"""Of the bandwidth-delay product: a shallow bottleneck queue, where none was measured."""

_LOWER, _MEDIAN, _UPPER = (QUANTILES.index(level) for level in (0.10, 0.50, 0.90))


@dataclass(frozen=True, slots=True)
class Conditions:
    """A link at one time.

    Attributes:
        bandwidth_mbps: Expected, 0 or more.
        bandwidth_lower_mbps: The 10 % quantile, at most the expected.
        bandwidth_upper_mbps: The 90 % quantile, at least the expected.
        latency_ms: Expected round-trip time with empty queues.
        latency_upper_ms: The 90 % quantile.
        loss_ratio: Expected loss, 0 to 1.
        loss_upper_ratio: What loss must be reckoned with; at least the expected.
        queue_bytes: What the bottleneck's queue holds.
        loss_unsure: Whether the upper loss is a guess over what so few probes would not have seen.
    """

    bandwidth_mbps: float
    bandwidth_lower_mbps: float
    bandwidth_upper_mbps: float
    latency_ms: float
    latency_upper_ms: float
    loss_ratio: float
    loss_upper_ratio: float
    queue_bytes: float
    loss_unsure: bool = False

    @property
    def full_rtt_s(self) -> float:
        """Round trip with the bottleneck's queue full."""
        return self.latency_ms / 1e3 + self.queue_bytes * 8 / 1e6 / max(self.bandwidth_mbps, 1e-3)


def usable(values: NDArray[np.float32]) -> bool:
    """Whether conditions can be made of a link's values (float32[4]): bandwidth and latency are known."""
    return math.isfinite(values[0]) and math.isfinite(values[1])


def conditions(values: NDArray[np.float32], quantiles: NDArray[np.float32] | None, ask: ParametersAsk) -> Conditions:
    """What is known of a link, from its values and what the asking node says of itself.

    Args:
        values: float32[4], bandwidth_mbps, latency_ms, packet_loss_ratio, jitter_ms; the first two must be there.
        quantiles: float32[4, 5] at `QUANTILES`, NaN where there are none; None: the values are exact.
        ask: Tells how many probes the loss comes from, and the round trip with empty queues.
    """
    bandwidth, latency, loss, _ = _limited(values)
    table = np.full((4, len(QUANTILES)), np.nan, np.float32) if quantiles is None else quantiles
    lower = [_or(value, own) for value, own in zip(_limited(table[:, _LOWER]), _limited(values), strict=True)]
    upper = [_or(value, own) for value, own in zip(_limited(table[:, _UPPER]), _limited(values), strict=True)]
    base = latency if ask.base_latency_ms is None else min(ask.base_latency_ms, latency)
    busy = (latency - base) / 1e3 * bandwidth * 1e6 / 8  # what a queue held that made the difference
    product = bandwidth * 1e6 / 8 * base / 1e3
    expected = 0.0 if math.isnan(loss) else loss
    possible = _possible_loss(expected, known=not math.isnan(loss), probes=ask.loss_probes)
    return Conditions(
        bandwidth_mbps=bandwidth,
        bandwidth_lower_mbps=min(lower[0], bandwidth),
        bandwidth_upper_mbps=max(upper[0], bandwidth),
        latency_ms=base,
        latency_upper_ms=max(upper[1] - (latency - base), base),
        loss_ratio=expected,
        loss_upper_ratio=max(_or(upper[2], 0.0), expected, possible),
        queue_bytes=max(busy, GUESSED_QUEUE_SHARE * product + GUESSED_QUEUE_BYTES),
        loss_unsure=possible > expected,
    )


def _possible_loss(loss: float, *, known: bool, probes: int | None) -> float:
    """Loss that may well be there though the measurement shows less of it; never falls as the measured loss rises."""
    if not known:
        return UNKNOWN_LOSS_RATIO
    # the upper end of one standard deviation of the count, but never below what none lost leaves likely
    counted = ASSUMED_PROBES if probes is None else probes
    unseen = max(UNSEEN_LOSSES / counted, loss + math.sqrt(loss / counted))
    return max(loss, min(unseen, max(UNKNOWN_LOSS_RATIO, 2 * loss)))


ASSUMED_PROBES = 600
"""Probes of a loss measurement whose node does not say how many: none lost then leaves `UNKNOWN_LOSS_RATIO`."""


def _limited(values: NDArray[np.float32]) -> list[float]:
    """float32[4] within what the contract admits; NaN stays."""
    return [
        float(min(max(value, 0.0), most)) if math.isfinite(value) else math.nan
        for value, most in zip(values.tolist(), MAXIMA.tolist(), strict=True)
    ]


def _or(value: float, fallback: float) -> float:
    return fallback if math.isnan(value) else value
