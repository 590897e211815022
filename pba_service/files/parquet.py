"""Parquet files as batches, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pba_service.domain.samples import METRICS, LinkInfo, SampleBatch
from pba_service.files import columns as col
from pba_service.files.faults import MeasurementFileError, RowFault, shown
from pba_service.files.reading import Rows, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def parquet_chunks(
    file: Path, on_fault: Callable[[RowFault], None], *, link_id: str, chunk_rows: int
) -> Iterator[SampleBatch]:
    """Reads a parquet file as batches; see `reading.read_batches`."""
    try:
        with pq.ParquetFile(file) as source:
            columns = col.roles(source.schema_arrow.names, link_given=bool(link_id))
            first = 1
            for table in source.iter_batches(chunk_rows, columns=list(columns.values()), use_threads=False):
                batch = _batch(table, columns, first, link_id, on_fault)
                first += table.num_rows
                if len(batch):
                    yield batch
    except col.ColumnsError as error:
        raise MeasurementFileError(str(file), str(error)) from None
    except UnicodeDecodeError:
        raise MeasurementFileError(str(file), "is no readable parquet file (its texts are not UTF-8)") from None
    except OSError as error:
        problem = error.strerror or f"is no readable parquet file ({_one_line(error)})"
        raise MeasurementFileError(str(file), problem) from None
    except pa.ArrowException as error:
        raise MeasurementFileError(str(file), f"is no readable parquet file ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return shown(str(error).partition("\n")[0], 100)


def _batch(
    table: pa.RecordBatch, columns: Mapping[str, str], first: int, link_id: str, on_fault: Callable[[RowFault], None]
) -> SampleBatch:
    rows = np.arange(first, first + table.num_rows)
    good = np.ones(table.num_rows, np.bool_)

    def tell(bad: NDArray[np.bool_], field: str, description: str) -> None:
        for row in rows[bad & good].tolist():
            on_fault(RowFault(row, field, description))
        good[bad] = False

    field = columns.get(col.TIME_MS) or columns[col.TIME]
    no_times: dict[int, str] = {}
    times_ms = _times(table.column(field), field, in_ms=col.TIME_MS in columns, no_times=no_times)
    for position, why in no_times.items():
        on_fault(RowFault(first + position, field, why))
        good[position] = False
    guessed = col.TIME_MS not in columns and not pa.types.is_timestamp(table.column(field).type)
    tell(times_ms <= 0, field, col.UNIX_TIME if guessed else "is no time after 1970")
    values = np.full((table.num_rows, len(METRICS)), np.nan)
    for position, metric in enumerate(METRICS):
        if metric in columns:
            values[:, position] = _numbers(table.column(columns[metric]), columns[metric])
            tell(np.isinf(values[:, position]), metric, "is not finite")
    names, index = _links(table, columns, link_id)
    infos = _labelled(names, index, table, columns)
    return checked(Rows(rows[good], infos, index[good], times_ms[good], values[good]), on_fault)


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    """float64[n], NaN where null."""
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise col.ColumnsError(f"column {shown(name)} is of type {column.type}, not a number")
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _times(column: Any, name: str, *, in_ms: bool, no_times: dict[int, str]) -> NDArray[np.int64]:
    """int64[n] milliseconds, 0 where there is none; why a text is none goes to `no_times`, by its position."""
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            raise col.ColumnsError(f"column {shown(name)} has times without a time zone")
        column = column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
        millis = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
        return np.where(millis < col.MAX_TIME_MS, millis, 0)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text_times(column.to_pylist(), in_ms=in_ms, no_times=no_times)
    times, first_ms, last_ms = _numbers(column, name), 0, col.MAX_TIME_MS
    if not in_ms:
        bounds, factors = zip(*col.TIME_UNITS, strict=True)
        times = times * np.array(factors)[np.searchsorted(bounds, np.nan_to_num(times), side="right").clip(max=3)]
        first_ms, last_ms = col.FIRST_MS, col.LAST_MS
    usable = (times > 0) & (times >= first_ms) & (times < last_ms)
    return np.rint(np.where(usable, times, 0)).astype(np.int64)


def _text_times(texts: Sequence[str | None], *, in_ms: bool, no_times: dict[int, str]) -> NDArray[np.int64]:
    times = np.zeros(len(texts), np.int64)
    for position, text in enumerate(texts):
        try:
            times[position] = col.time_ms(text, in_ms=in_ms)
        except ValueError as error:
            no_times[position] = str(error)
    return times


def _texts(table: pa.RecordBatch, name: str) -> Any:
    return table.column(name).cast(pa.large_string()).fill_null("")


def _links(table: pa.RecordBatch, columns: Mapping[str, str], link_id: str) -> tuple[list[str], NDArray[np.int32]]:
    """The different links, and for each row the position of its own."""
    if col.LINK not in columns:
        return [link_id], np.zeros(table.num_rows, np.int32)
    links = _texts(table, columns[col.LINK])
    if col.DATASET in columns:
        dataset = _texts(table, columns[col.DATASET])
        bare = pc.or_(pc.equal(dataset, ""), pc.equal(links, ""))
        links = pc.if_else(bare, links, pc.binary_join_element_wise(dataset, links, pa.scalar("/", pa.large_string())))
    encoded = links.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32)


def _labelled(
    names: list[str], index: NDArray[np.int32], table: pa.RecordBatch, columns: Mapping[str, str]
) -> list[LinkInfo]:
    """The links with the newest label of each that is not empty."""
    labels: list[dict[str, str]] = [{} for _ in names]
    for label in col.LABELS:
        if label in columns:
            for position, text in zip(index.tolist(), _texts(table, columns[label]).to_pylist(), strict=True):
                if text:
                    labels[position][label] = text
    return [LinkInfo(name, **said) for name, said in zip(names, labels, strict=True)]
