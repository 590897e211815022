"""Measurements: batches as columns, their validation, and a link's series."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")
"""The four metrics, in the order of every array's metric axis."""

MAXIMA = np.array([1e8, 3.6e6, 1.0, 3.6e6], dtype=np.float32)
"""The largest value of each metric that the contract admits; the smallest is 0."""

MAX_TEXT_BYTES = 128
"""Longest link id, node, peer or region, in bytes of UTF-8."""


class LinkInfo(NamedTuple):
    """A link and what its node said of it. A tuple, because messages bring thousands of them."""

    link_id: str
    node: str = ""
    peer: str = ""
    region: str = ""


def link_infos(texts: Iterable[tuple[str, str, str, str]]) -> tuple[LinkInfo, ...]:
    """Links from their id, node, peer and region; `LinkInfo` itself would be called from Python for each."""
    return tuple(map(tuple.__new__, repeat(LinkInfo), texts))


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples of any number of links, as columns.

    Attributes:
        links: The links of the batch, each once; as rows bring them, once for each way in which they are named.
        link_index: int32[n], the position of each sample's link in `links`.
        measured_at_ms: int64[n], milliseconds since the Unix epoch, UTC.
        values: float32[n, 4] in the order of `METRICS`; where `present` is False it is NaN.
        present: bool[n, 4], which values were measured.
        sources: uint8[n, 4], how each value was obtained (`ValueSource`); None: not said.
    """

    links: tuple[LinkInfo, ...]
    link_index: NDArray[np.int32]
    measured_at_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    sources: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.measured_at_ms)

    def take(self, keep: NDArray[np.bool_]) -> SampleBatch:
        """The samples where `keep` (bool[n]) is True; `links` stays as it is."""
        sources = None if self.sources is None else self.sources[keep]
        return SampleBatch(
            self.links, self.link_index[keep], self.measured_at_ms[keep], self.values[keep], self.present[keep], sources
        )


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one link, ordered by time, each time once.

    Attributes:
        times_ms: int64[n], increasing.
        values: float32[n, 4] in the order of `METRICS`, NaN where not measured.
    """

    times_ms: NDArray[np.int64]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.times_ms)

    @staticmethod
    def empty() -> Series:
        """A series without samples."""
        return Series(np.empty(0, np.int64), np.empty((0, len(METRICS)), np.float32))

    @staticmethod
    def of(times_ms: NDArray[np.int64], values: NDArray[np.float32]) -> Series:
        """Orders samples by time; of several at one time the last given wins."""
        order = np.argsort(times_ms, kind="stable")
        times_ms, values = times_ms[order], values[order]
        last_of_time = np.append(times_ms[1:] != times_ms[:-1], True)[: len(times_ms)]
        return Series(times_ms[last_of_time], values[last_of_time])


class ValueSource(IntEnum):
    """How a value was obtained."""

    UNSPECIFIED = 0
    TRANSPORT = 1
    PROBE = 2
    PROBE_TWO_WAY = 3
    PACKET_TRAIN = 4
    OTHER = 5


def told_sources(sources: NDArray[np.uint8], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many values were obtained in each way: int64[4, len(ValueSource)].

    Args:
        sources: uint8[n, 4]; ways that are not known here count as not said.
        present: bool[n, 4], which values there are.
    """
    known = np.where(sources < len(ValueSource), sources, np.uint8(ValueSource.UNSPECIFIED))
    of_metric = (known[present[:, m], m] for m in range(len(METRICS)))
    return np.array([np.bincount(one, minlength=len(ValueSource)) for one in of_metric], np.int64)


class Reason(Enum):
    """Why a sample is refused."""

    MISSING = "missing"
    NOT_FINITE = "not finite"
    OUT_OF_RANGE = "out of range"
    IN_THE_FUTURE = "in the future"
    TOO_OLD = "too old"
    BAD_TEXT = "bad text"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused sample: its position in the batch, the field at fault, and why."""

    index: int
    field: str
    reason: Reason
    description: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on when a sample may have been measured, in milliseconds relative to now."""

    max_ahead_ms: int
    max_age_ms: int


def text_fault(text: str, *, required: bool) -> tuple[Reason, str] | None:
    """What is wrong with a link id, node, peer or region; None when nothing is."""
    if not text:
        return (Reason.MISSING, "is required") if required else None
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:  # a lone surrogate is refused below
        return Reason.BAD_TEXT, f"is longer than {MAX_TEXT_BYTES} bytes"
    if not text.isprintable():
        return Reason.BAD_TEXT, "has characters that cannot be printed"
    return None


def _all_texts_good(links: Sequence[LinkInfo]) -> bool:
    """Whether nothing is wrong with any text, found out for all together; False also where that cannot be told so."""
    if not links:
        return True
    link_ids, *said = zip(*links, strict=True)
    texts = [*link_ids, *set().union(*said)]  # nodes, peers and regions are those of many links, or none
    together = "".join(texts)
    return (
        all(link_ids)
        and together.isascii()  # as many bytes as characters
        and together.isprintable()
        and max(map(len, texts)) <= MAX_TEXT_BYTES
    )


def _all_values_good(batch: SampleBatch, now_ms: int, limits: Limits) -> bool:
    """Whether nothing is wrong with any value or time, found out without asking what would be."""
    times = batch.measured_at_ms
    in_range = (batch.values >= 0) & (batch.values <= MAXIMA)  # what is no number is not
    in_time = (times <= now_ms + limits.max_ahead_ms) & (times >= now_ms - limits.max_age_ms)
    return bool((in_range | ~batch.present).all() and batch.present.any(axis=1).all() and in_time.all())


def validate(batch: SampleBatch, now_ms: int, limits: Limits) -> tuple[NDArray[np.bool_], list[Refusal]]:
    """Checks each sample against the contract.

    Args:
        batch: The samples, as they came.
        now_ms: The server's time.
        limits: How far from now a sample may have been measured.

    Returns:
        bool[n], which samples are good, and the first fault of each other sample, ordered by index.
    """
    texts_good = _all_texts_good(batch.links)
    if texts_good and _all_values_good(batch, now_ms, limits):
        return np.ones(len(batch), np.bool_), []
    times = batch.measured_at_ms
    faults: dict[int, Refusal] = {}

    def refuse(indices: NDArray[np.intp], field: str, reason: Reason, description: str) -> None:
        for index in indices.tolist():
            faults.setdefault(index, Refusal(index, field, reason, description))

    for position, link in enumerate(() if texts_good else batch.links):
        for field, required in (("link_id", True), ("node", False), ("peer", False), ("region", False)):
            fault = text_fault(getattr(link, field), required=required)
            if fault:
                refuse(np.flatnonzero(batch.link_index == position), field, *fault)

    refuse(
        np.flatnonzero(times > now_ms + limits.max_ahead_ms),
        "measured_at",
        Reason.IN_THE_FUTURE,
        f"is more than {limits.max_ahead_ms / 1000:g} s ahead of the server's clock",
    )
    refuse(
        np.flatnonzero(times < now_ms - limits.max_age_ms),
        "measured_at",
        Reason.TOO_OLD,
        f"is older than the retention of {limits.max_age_ms / 86_400_000:g} days",
    )
    for column, (metric, maximum) in enumerate(zip(METRICS, MAXIMA.tolist(), strict=True)):
        present, values = batch.present[:, column], batch.values[:, column]
        finite = np.isfinite(values)
        refuse(np.flatnonzero(present & ~finite), metric, Reason.NOT_FINITE, "is not a finite number")
        outside = present & finite & ((values < 0) | (values > maximum))
        refuse(np.flatnonzero(outside), metric, Reason.OUT_OF_RANGE, f"is outside 0 to {maximum:,.0f}")
    refuse(
        np.flatnonzero(~batch.present.any(axis=1)),
        "bandwidth_mbps",
        Reason.EMPTY,
        "none of bandwidth_mbps, latency_ms, packet_loss_ratio and jitter_ms is present",
    )

    good = np.ones(len(batch), dtype=np.bool_)
    good[list(faults)] = False
    return good, [faults[index] for index in sorted(faults)]


def one_link_batch(link: LinkInfo, times_ms: Sequence[int], values: NDArray[np.float32]) -> SampleBatch:
    """A batch of one link's samples; NaN in `values` (float32[n, 4]) means not measured."""
    return SampleBatch(
        (link,),
        np.zeros(len(times_ms), np.int32),
        np.asarray(times_ms, np.int64),
        values,
        np.isfinite(values),
    )
