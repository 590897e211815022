"""Forecasts of two models for the same link and target, remembered until the target has come.

What a link remembers travels with its learned state and is written with it by compare-and-set, so that every pair is
settled once, on whichever replica advances the link, and survives restarts. n pairs are an array PAIR[n]; they belong
to one link, are ordered by target, and may be of several experiments.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.samples import Series

    Pairs = NDArray[np.void]

_FLOATS = ("<f4", (len(METRICS),))
PAIR = np.dtype(
    [
        ("experiment", "<u4"),  # `domain.lifecycle.Experiment.key`
        ("tolerance_ms", "<i4"),  # how far from the target a sample may be
        ("made_at_ms", "<i8"),
        ("target_ms", "<i8"),
        ("champion", *_FLOATS),  # the models' own medians in raw units; NaN where a metric is not predicted
        ("challenger", *_FLOATS),
        ("last", *_FLOATS),  # the newest value the forecasts know: what "no change" would have said
    ]
)
"""One pair: 72 bytes."""

MAX_PAIRS = 96
"""Pairs that one link remembers; those of the earliest targets go first. Two experiments on a 20-second cadence fit."""

PATIENCE = 9
"""A pair without a sample is given up this many tolerances after its target: late samples may still come."""


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """Pairs of one link that met their sample.

    Attributes:
        pairs: PAIR[k], by target.
        actual: float32[k, 4], the sample nearest to each target; NaN where it lacks a metric.
    """

    pairs: Pairs
    actual: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What a link's pairs came to, handed to whoever judges experiments once it is committed.

    Attributes:
        link_id: The link.
        met: The pairs and their samples, at least one.
    """

    link_id: str
    met: Met


def none() -> Pairs:
    """No pairs."""
    return np.empty(0, PAIR)


def remember(pairs: Pairs, new: Pairs) -> Pairs:
    """Adds pairs; one of the same experiment and target is replaced. They come back ordered by target."""
    if not len(new):
        return pairs
    both = np.concatenate([new[::-1], pairs])
    _, first = np.unique(both[["target_ms", "experiment"]], return_index=True)  # sorted by target, then experiment
    return both[first]


def settle(pairs: Pairs, series: Series, now_ms: int) -> tuple[Pairs, Met]:
    """Finds the sample of each pair whose target has come.

    Args:
        pairs: PAIR[n].
        series: The link's recent samples.
        now_ms: The newest measurement that may be looked at.

    Returns:
        The pairs that still wait, and those that met their sample. Those that have waited too long are in neither.
    """
    due = pairs["target_ms"] <= now_ms
    times = series.times_ms[: np.searchsorted(series.times_ms, now_ms, side="right")]
    if not due.any() or not len(times):
        return pairs, Met(none(), np.empty((0, len(METRICS)), np.float32))
    ripe = pairs[due]
    target, tolerance = ripe["target_ms"], ripe["tolerance_ms"].astype(np.int64)
    after = np.searchsorted(times, target).clip(max=len(times) - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(np.abs(times[before] - target) <= np.abs(times[after] - target), before, after)
    met = np.abs(times[nearest] - target) <= tolerance
    waits = ~met & (now_ms - target <= PATIENCE * tolerance)
    return np.concatenate([ripe[waits], pairs[~due]]), Met(ripe[met], series.values[nearest[met]])


def encode(pairs: Pairs) -> bytes:
    """The last `MAX_PAIRS` pairs as bytes, with a checksum; nothing for none."""
    if not len(pairs):
        return b""
    content = pairs[-MAX_PAIRS:].tobytes()
    return zlib.crc32(content).to_bytes(4, "little") + content


def decode(blob: bytes) -> Pairs:
    """The pairs that `encode` was given; none where the bytes are no result of it."""
    content = blob[4:]
    if not content or len(content) % PAIR.itemsize or zlib.crc32(content) != int.from_bytes(blob[:4], "little"):
        return none()
    return np.frombuffer(content, PAIR)
