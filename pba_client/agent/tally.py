"""Statistics of what was measured: shares with their bounds, jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_Z = 1.96
"""Of the normal distribution, for bounds that hold 95 times of 100."""

LEAST_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % bounds, 0 to 1, and how many trials it rests on."""

    ratio: float
    low: float
    high: float
    trials: int


def share(lost: float, trials: int, blocks: Sequence[tuple[int, float]] = ()) -> Share:
    """The share lost of some trials.

    Bounds by Wilson (JASA 22, 1927): none lost of n leaves up to 3.8 / n possible. Losses come in bursts, which
    Wilson's formula does not know; where the trials came in blocks, the spread between these (the ratio estimator of
    cluster sampling, Cochran 1977, section 3.12) widens them.

    Args:
        lost: Trials lost.
        trials: All, at least 1.
        blocks: Trials and losses of the parts of the interval.
    """
    ratio = min(max(lost / trials, 0.0), 1.0)
    middle = (ratio + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    half = _Z / (1 + _Z**2 / trials) * math.sqrt(ratio * (1 - ratio) / trials + _Z**2 / (4 * trials**2))
    low, high = middle - half, middle + half
    filled = [(n, k) for n, k in blocks if n > 0]
    if len(filled) >= LEAST_BLOCKS:
        count = len(filled)
        spread = sum((k - ratio * n) ** 2 for n, k in filled) * count / (count - 1)
        between = _Z * math.sqrt(spread) / sum(n for n, _ in filled)
        low, high = min(low, ratio - between), max(high, ratio + between)
    return Share(ratio, max(low, 0.0), min(high, 1.0), trials)


def median(values: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None
