"""Rows of CSV and JSONL files, plain or gzipped, one at a time. Nothing of a hostile file is held beyond a bound."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from typing import TYPE_CHECKING

from pba_service.files.columns import ColumnsError, roles
from pba_service.files.faults import MeasurementFileError, RowFault, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    Row = tuple[int, Mapping[str, object], Mapping[str, str]]

MAX_LINE_BYTES = 1 << 20
"""Longest line that is read."""

_DELIMITERS = ",;\t|"


def csv_rows(file: Path, on_fault: Callable[[RowFault], None], *, link_given: bool) -> Iterator[Row]:
    """Rows of a CSV file: line number, values by column name, column of each role.

    Args:
        file: The file; a name that ends in .gz is gzipped.
        on_fault: Told of rows that are no rows of the table; they are left out.
        link_given: Whether the link is known without a column.

    Raises:
        MeasurementFileError: The file cannot be read on.
    """
    lines = _lines(file)
    first = next(lines, (1, ""))[1]
    if not first.strip():
        raise MeasurementFileError(str(file), "is empty")
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        names = next(csv.reader([first], delimiter=delimiter))
        columns = roles(names, link_given=link_given)
    except (ColumnsError, csv.Error) as error:
        raise MeasurementFileError(str(file), str(error)) from None
    ended = False

    def rest() -> Iterator[str]:
        nonlocal ended
        yield from (line for _, line in lines)
        ended = True

    reader = csv.reader(rest(), delimiter=delimiter)
    row = 1
    try:
        for cells in reader:
            begun, row = row + 1, reader.line_num + 1
            if ended:  # a row is complete at the end of its line, unless that is quoted
                on_fault(RowFault(begun, "", "has a quotation mark that is never closed: nothing after it is read"))
            elif len(cells) > len(names):
                on_fault(RowFault(row, "", f"has {len(cells)} fields, the header {len(names)}"))
            elif cells:
                # what JSON and parquet hold is exact, but after a delimiter people write a space
                yield row, dict(zip(names, map(str.strip, cells), strict=False)), columns
    except csv.Error as error:
        raise MeasurementFileError(str(file), RowFault(row + 1, "", str(error))) from None


def jsonl_rows(file: Path, on_fault: Callable[[RowFault], None], *, link_given: bool) -> Iterator[Row]:
    """Rows of a file with one JSON object per line; otherwise as `csv_rows`."""
    known: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row, line in _lines(file):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ColumnsError(f"{shown(values)} is no JSON object")
            names = tuple(values)
            columns = known.get(names)
            if columns is None:
                columns = roles(names, link_given=link_given)
                if len(known) < _MAX_SHAPES:
                    known[names] = columns
        except json.JSONDecodeError as error:
            on_fault(RowFault(row, "", f"is no JSON: {error.msg} at column {error.colno}"))
        except RecursionError:
            on_fault(RowFault(row, "", "is nested too deeply"))
        except ValueError as error:  # of our own, or a number with thousands of digits
            on_fault(RowFault(row, "", str(error)))
        else:
            yield row, values, columns


_MAX_SHAPES = 64
"""Different sets of names whose roles are remembered."""


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded."""
    row = 0
    try:
        with _open(file) as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                row += 1
                if len(line) > MAX_LINE_BYTES:
                    raise MeasurementFileError(str(file), RowFault(row, "", f"is longer than {MAX_LINE_BYTES} bytes"))
                yield row, line.decode("utf-8-sig" if row == 1 else "utf-8")
    except UnicodeDecodeError:
        raise MeasurementFileError(str(file), RowFault(row, "", "is not UTF-8 text")) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise MeasurementFileError(str(file), RowFault(row + 1, "", "the gzip data is damaged")) from None
    except OSError as error:
        raise MeasurementFileError(str(file), error.strerror or "cannot be read") from None


def _open(file: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb")
