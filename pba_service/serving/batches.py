"""Batches of samples from the wire: rows or columns in, the domain's columns out.

Faults of single samples become refusals; faults of the request itself raise `InvalidRequestError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.domain.samples import METRICS, LinkInfo, Reason, Refusal, SampleBatch, link_infos
from pba_service.serving.convert import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pba.v1 import prediction_service_pb2 as pb
    from pba.v1 import types_pb2 as types

MAX_SAMPLES = 10_000
"""Samples in one request."""

_PRESENT_BITS = np.arange(len(METRICS), dtype=np.uint8)
_Variant = tuple[str, str, str, str]
_texts_of = attrgetter("link_id", "node", "peer", "region")
_sources_of = attrgetter("bandwidth", "latency", "packet_loss", "jitter")
_LARGEST_SOURCE = 255
"""Numbers of sources are a byte in columns; what is not known counts as not said."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A batch as it came.

    Attributes:
        batch: The samples that could be read.
        places: int[n], the position of each of them in the request.
        refusals: Why the other samples could not be read.
        in_columns: Whether the request held columns.
    """

    batch: SampleBatch
    places: NDArray[np.intp]
    refusals: list[Refusal]
    in_columns: bool

    def __len__(self) -> int:
        """Number of samples in the request."""
        return len(self.batch) + len(self.refusals)

    def all_refusals(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Refusals of `batch` and those before it, by their position in the request."""
        placed = [Refusal(int(self.places[r.index]), r.field, r.reason, r.description) for r in refusals]
        return sorted([*self.refusals, *placed], key=lambda refusal: refusal.index)

    def violation(self, refusal: pb.RefusedSample, request: pb.PushSamplesRequest) -> Violation:
        """A refusal as a fault of the request it came in, under the name of the field at fault."""
        index, field = refusal.index, refusal.field
        if not self.in_columns:
            path = f"samples[{index}].{field}"
        elif field == "measured_at":
            path = f"columns.measured_at_ms[{index}]"
        elif field in METRICS:
            path = f"columns.{field}[{index}]"
        else:
            path = f"columns.links[{request.columns.link_index[index]}].{field}"
        return Violation(path, refusal.description)


def read_batch(request: pb.PushSamplesRequest) -> Incoming:
    """The samples of a request. Raises `InvalidRequestError` when the request itself is malformed."""
    if request.HasField("columns"):
        if request.samples:
            raise InvalidRequestError(Violation("columns", "is given beside samples; a request holds one of them"))
        batch = _read_columns(request.columns)
        return Incoming(batch, np.arange(len(batch)), [], in_columns=True)
    check_count("samples", len(request.samples), minimum=1)
    return read_rows(request.samples)


def check_count(field: str, count: int, *, minimum: int = 0, maximum: int = MAX_SAMPLES) -> None:
    """Raises `InvalidRequestError` unless a repeated field holds a number of entries that is allowed."""
    if not minimum <= count <= maximum:
        fault = "is empty" if count == 0 else f"has {count} entries, allowed are {minimum} to {maximum}"
        raise InvalidRequestError(Violation(field, fault))


def read_rows(rows: Sequence[types.Sample]) -> Incoming:
    """Samples given as rows; their batch names a link once for each of the ways in which its rows name it."""
    rows = list(rows)  # column by column is twice as fast as row by row
    count = len(rows)
    times_ms, refusals = _read_times(rows)
    values = np.empty((count, len(METRICS)), np.float32)
    present = np.empty((count, len(METRICS)), np.bool_)
    for position, metric in enumerate(METRICS):
        values[:, position] = list(map(attrgetter(metric), rows))
        present[:, position] = [row.HasField(metric) for row in rows]  # type: ignore[arg-type]  # wants a literal
    values[~present] = np.nan
    variants: dict[_Variant, int] = {}
    variant = np.array([variants.setdefault(texts, len(variants)) for texts in map(_texts_of, rows)], np.int32)
    readable = np.ones(count, np.bool_)
    readable[[refusal.index for refusal in refusals]] = False
    batch = SampleBatch(link_infos(variants), variant, times_ms, values, present, _row_sources(rows))
    return Incoming(batch.take(readable), np.flatnonzero(readable), refusals, in_columns=False)


def _row_sources(rows: Sequence[types.Sample]) -> NDArray[np.uint8] | None:
    """uint8[n, 4], how each value was obtained; None where no row says."""
    if not any(row.HasField("sources") for row in rows):
        return None
    numbers = [_sources_of(row.sources) for row in rows]
    return np.array(numbers, np.int64).clip(0, _LARGEST_SOURCE).astype(np.uint8)


def _read_times(rows: Sequence[types.Sample]) -> tuple[NDArray[np.int64], list[Refusal]]:
    """int64[n] in milliseconds, 0 where a row gives no valid time, and those rows' refusals."""
    times_ms, refusals = [], []
    for index, row in enumerate(rows):
        time_ms = read_timestamp(row.measured_at)
        if time_ms is None:
            description = "is no time between the years 1 and 9999"
            refusals.append(Refusal(index, "measured_at", Reason.OUT_OF_RANGE, description))
        elif time_ms == 0 and not row.HasField("measured_at"):
            refusals.append(Refusal(index, "measured_at", Reason.MISSING, "is required"))
        times_ms.append(time_ms or 0)
    return np.array(times_ms, np.int64), refusals


def _read_columns(columns: types.SampleColumns) -> SampleBatch:
    count = len(columns.measured_at_ms)
    check_count("columns.measured_at_ms", count, minimum=1)
    check_count("columns.links", len(columns.links), minimum=1)
    lengths = [("link_index", len(columns.link_index), False), ("present", len(columns.present), True)]
    lengths += [(metric, len(getattr(columns, metric)), True) for metric in METRICS]
    faults = [
        Violation(f"columns.{field}", f"has {length} entries, measured_at_ms has {count}")
        for field, length, may_be_empty in lengths
        if length != count and (length or not may_be_empty)
    ]
    if len(columns.sources) not in {0, count * len(METRICS)}:
        fault = f"has {len(columns.sources)} bytes, {len(METRICS)} for each sample are {count * len(METRICS)}"
        faults.append(Violation("columns.sources", fault))
    if faults:
        raise InvalidRequestError(*faults)
    links = link_infos(map(_texts_of, columns.links))
    _check_named_once(links)
    link_index = np.array(columns.link_index, np.uint32)
    outside = np.flatnonzero(link_index >= len(links))
    if len(outside):
        first = outside[0]
        fault = f"is {link_index[first]}, links has {len(links)} entries"
        raise InvalidRequestError(Violation(f"columns.link_index[{first}]", fault))
    present = _read_present(columns, count)
    values = np.full((count, len(METRICS)), np.nan, np.float32)
    for position, metric in enumerate(METRICS):
        column = getattr(columns, metric)
        if column:
            values[:, position] = column
    values[~present] = np.nan
    times_ms = np.array(columns.measured_at_ms, np.int64)
    sources = np.frombuffer(columns.sources, np.uint8).reshape(-1, len(METRICS)) if columns.sources else None
    return SampleBatch(links, link_index.astype(np.int32), times_ms, values, present, sources)


def _check_named_once(links: Sequence[LinkInfo]) -> None:
    if len({link.link_id for link in links}) == len(links):
        return
    first: dict[str, int] = {}
    for position, link in enumerate(links):
        if first.setdefault(link.link_id, position) != position:
            fault = f"names the link of columns.links[{first[link.link_id]}] again"
            raise InvalidRequestError(Violation(f"columns.links[{position}].link_id", fault))


def _read_present(columns: types.SampleColumns, count: int) -> NDArray[np.bool_]:
    """bool[count, 4], which values were measured."""
    measured = np.array([len(getattr(columns, metric)) > 0 for metric in METRICS])
    if not columns.present:
        return np.tile(measured, (count, 1))
    mask = np.frombuffer(columns.present, np.uint8)
    unknown = np.flatnonzero(mask >> len(METRICS))
    if len(unknown):
        fault = f"is {mask[unknown[0]]}, only its lowest {len(METRICS)} bits have a meaning"
        raise InvalidRequestError(Violation(f"columns.present[{unknown[0]}]", fault))
    present: NDArray[np.bool_] = (mask[:, None] >> _PRESENT_BITS & 1).astype(np.bool_)
    used: NDArray[np.bool_] = (np.bitwise_or.reduce(mask) >> _PRESENT_BITS & 1).astype(np.bool_)
    for position in np.flatnonzero(used & ~measured).tolist():
        fault = f"is empty, but present says that some of its values were measured (bit {position})"
        raise InvalidRequestError(Violation(f"columns.{METRICS[position]}", fault))
    return present
