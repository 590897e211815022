"""Random numbers by position instead of by sequence: the draw at a counter is the same whatever was drawn before.

A generator that steps through its state cannot tell what happens at noon tomorrow without running there. These draws
are a hash of (key, counter) (SplitMix64: Steele, Lea, Flood 2014), so a process made of them can be read at any time,
in any chunks, and always says the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SERIES_TERMS = 64
_NORMAL_FROM = 20.0
"""Poisson means from here on are drawn from the normal distribution."""


@dataclass(frozen=True, slots=True)
class Draws:
    """A family of independent streams of draws, each named by a text."""

    key: str

    def uniform(self, stream: str, counters: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n] in the open interval (0, 1), one for each counter."""
        digest = hashlib.blake2b(f"{self.key}/{stream}".encode(), digest_size=8).digest()
        offset = np.uint64(int.from_bytes(digest, "little"))
        x = np.atleast_1d(counters).astype(np.uint64) * _GOLDEN + offset
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        x ^= x >> np.uint64(31)
        return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54

    def normal(self, stream: str, counters: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n], standard normal (Box and Muller 1958)."""
        radius = np.sqrt(-2.0 * np.log(self.uniform(f"{stream}.radius", counters)))
        angle: NDArray[np.float64] = radius * np.cos(2.0 * np.pi * self.uniform(f"{stream}.angle", counters))
        return angle

    def heavy_tailed(self, stream: str, counters: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n], Student's t with 3 degrees of freedom: median 0, now and then far out."""
        squares = sum(self.normal(f"{stream}.{i}", counters) ** 2 for i in range(3))
        ratio: NDArray[np.float64] = self.normal(stream, counters) / np.sqrt(squares / 3.0)
        return ratio

    def exponential(self, stream: str, counters: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n], mean 1."""
        result: NDArray[np.float64] = -np.log(self.uniform(stream, counters))
        return result

    def poisson(self, stream: str, counters: NDArray[np.int64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n], whole numbers with the given means (float64[n]), by inversion; normal for large means."""
        chance = self.uniform(stream, counters)
        small = np.minimum(means, _NORMAL_FROM)
        term = np.exp(-small)
        below = term.copy()
        counts = np.zeros(len(small))
        for k in range(1, _SERIES_TERMS):
            counts += chance > below
            term = term * small / k
            below += term
        spread = np.sqrt(means) * self.normal(f"{stream}.large", counters)
        return np.where(means < _NORMAL_FROM, counts, np.maximum(np.rint(means + spread), 0.0))


def poisson_median(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n], the medians of Poisson distributions (Choi 1994: between mean - ln 2 and mean + 1/3)."""
    return np.maximum(np.floor(means + 1.0 / 3.0 - 0.02 / np.maximum(means, 1e-9)), 0.0)
