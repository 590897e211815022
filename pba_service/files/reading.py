"""Measurement files as batches of samples, chunk by chunk, or as one series per link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import MAXIMA, METRICS, LinkInfo, SampleBatch, Series, text_fault
from pba_service.files import columns as col
from pba_service.files.faults import FirstFault, MeasurementFileError, RowFault
from pba_service.files.text import csv_rows, jsonl_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK_ROWS = 10_000
"""Samples of a chunk: what one push may carry."""

FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""The format that a file's name says."""


@dataclass(frozen=True, slots=True, eq=False)
class LinkMeasurements:
    """All that a file says of a link."""

    info: LinkInfo
    series: Series


def read_batches(
    file: Path,
    *,
    link_id: str = "",
    chunk_rows: int = CHUNK_ROWS,
    on_fault: Callable[[RowFault], None] | None = None,
) -> Iterator[SampleBatch]:
    """Reads a file as batches, in the order of its rows, holding one chunk at a time.

    Args:
        file: A CSV, JSONL or parquet file.
        link_id: The link of all rows, for a file that has no column for it.
        chunk_rows: Most samples of a batch.
        on_fault: Told of each row that cannot be used; without it the first such row ends the reading.

    Raises:
        MeasurementFileError: The file cannot be read, or a row cannot be used and nobody is told of faults.
    """
    on_fault = on_fault or FirstFault(file)
    kind = format_of(file)
    if not kind:
        raise MeasurementFileError(
            str(file), f"what it holds is unknown: its name ends in none of {', '.join(FORMATS)}"
        )
    if kind == "parquet":
        from pba_service.files.parquet import parquet_chunks  # noqa: PLC0415 - pyarrow takes long to load

        yield from parquet_chunks(file, on_fault, link_id=link_id, chunk_rows=chunk_rows)
        return
    rows = (csv_rows if kind == "csv" else jsonl_rows)(file, on_fault, link_given=bool(link_id))
    chunk = Chunk(on_fault, link_id)
    for row, values, columns in rows:
        chunk.add(row, values, columns)
        if len(chunk) >= chunk_rows:
            yield from chunk.take()
    yield from chunk.take()


def format_of(file: Path) -> str:
    """What a file holds by its name, which may end in .gz besides; empty where the name says nothing."""
    name = file.name.lower().removesuffix(".gz")
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), "")


def read_links(
    file: Path, *, link_id: str = "", on_fault: Callable[[RowFault], None] | None = None
) -> list[LinkMeasurements]:
    """Reads a whole file as one series per link, ordered by link id; arguments and errors as `read_batches`.

    Without `on_fault`, rows in which nothing was measured are left out.
    """
    on_fault = on_fault or FirstFault(file, leaves_out_empty=True)
    infos: dict[str, LinkInfo] = {}
    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = {}
    for batch in read_batches(file, link_id=link_id, chunk_rows=100_000, on_fault=on_fault):
        order = np.argsort(batch.link_index, kind="stable")
        bounds = np.searchsorted(batch.link_index[order], np.arange(len(batch.links) + 1))
        for position, info in enumerate(batch.links):
            chosen = order[bounds[position] : bounds[position + 1]]
            infos[info.link_id] = merged(infos.get(info.link_id), info)
            parts.setdefault(info.link_id, []).append((batch.measured_at_ms[chosen], batch.values[chosen]))
    return [
        LinkMeasurements(
            infos[name],
            Series.of(np.concatenate([times for times, _ in some]), np.concatenate([values for _, values in some])),
        )
        for name, some in sorted(parts.items())
    ]


def merged(before: LinkInfo | None, now: LinkInfo) -> LinkInfo:
    """What is known of a link when it says more of itself: the newest value that is not empty."""
    if before is None:
        return now
    return LinkInfo(now.link_id, now.node or before.node, now.peer or before.peer, now.region or before.region)


class Chunk:
    """Rows on their way to becoming a batch."""

    def __init__(self, on_fault: Callable[[RowFault], None], link_id: str) -> None:
        self._on_fault = on_fault
        self._given = link_id
        self._clear()

    def _clear(self) -> None:
        self._rows: list[int] = []
        self._links: dict[str, int] = {}
        self._infos: list[LinkInfo] = []
        self._index: list[int] = []
        self._times: list[int] = []
        self._values: list[list[float]] = []

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def add(self, row: int, values: Mapping[str, object], columns: Mapping[str, str]) -> None:
        """Adds a row, or tells what is wrong with it."""
        field = col.TIME_MS if col.TIME_MS in columns else col.TIME
        try:
            time_ms = col.time_ms(values.get(columns[field]), in_ms=field == col.TIME_MS)
            field = col.LINK
            link = col.link_of(values, columns, self._given)
            labels = {}
            for field in col.LABELS:
                if field in columns:
                    labels[field] = col.text(values.get(columns[field]))
            metrics = []
            for field in METRICS:
                metrics.append(col.number(values.get(columns[field])) if field in columns else np.nan)
        except ValueError as error:
            self._on_fault(RowFault(row, columns[field], str(error)))
            return
        info = LinkInfo(link, **labels)
        position = self._links.setdefault(link, len(self._links))
        if position == len(self._infos):
            self._infos.append(info)
        elif self._infos[position] != info:
            self._infos[position] = merged(self._infos[position], info)
        self._rows.append(row)
        self._index.append(position)
        self._times.append(time_ms)
        self._values.append(metrics)

    def take(self) -> Iterator[SampleBatch]:
        """The rows so far as a batch, if any are good; begins anew."""
        if not self._rows:
            return
        parsed = Rows(
            np.array(self._rows, np.int64),
            self._infos,
            np.array(self._index, np.int32),
            np.array(self._times, np.int64),
            np.array(self._values, np.float64),
        )
        batch = checked(parsed, self._on_fault)
        self._clear()
        if len(batch):
            yield batch


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Parsed rows of a file.

    Attributes:
        rows: int64[n], where in the file each is.
        links: The links.
        link_index: int32[n], the position of each row's link.
        times_ms: int64[n].
        values: float64[n, 4], NaN where not measured.
    """

    rows: NDArray[np.int64]
    links: list[LinkInfo]
    link_index: NDArray[np.int32]
    times_ms: NDArray[np.int64]
    values: NDArray[np.float64]


def checked(parsed: Rows, on_fault: Callable[[RowFault], None]) -> SampleBatch:
    """A batch of the rows that the contract admits, and of the links that have any; tells of the others."""
    good = np.ones(len(parsed.rows), np.bool_)

    def tell(bad: NDArray[np.bool_], field: str, description: str, *, nothing_measured: bool = False) -> None:
        for row in parsed.rows[bad & good].tolist():
            on_fault(RowFault(row, field, description, nothing_measured))
        good[bad] = False

    for position, link in enumerate(parsed.links):
        for field in (col.LINK, *col.LABELS):
            fault = text_fault(getattr(link, field), required=field == col.LINK)
            if fault:
                tell(parsed.link_index == position, field, fault[1])
    values = parsed.values
    for column, (metric, maximum) in enumerate(zip(METRICS, MAXIMA.tolist(), strict=True)):
        outside = np.less(values[:, column], 0) | np.greater(values[:, column], maximum)
        tell(outside, metric, f"is outside 0 to {maximum:g}")
    present = ~np.isnan(values)
    tell(~np.any(present, axis=1, keepdims=False), "", f"has none of {', '.join(METRICS)}", nothing_measured=True)
    kept, index = np.unique(parsed.link_index[good], return_inverse=True)
    return SampleBatch(
        tuple(parsed.links[position] for position in kept.tolist()),
        index.astype(np.int32),
        parsed.times_ms[good],
        values[good].astype(np.float32),
        present[good],
    )
