"""What can be wrong with a measurement file, in one line with the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RowFault:
    """One row that cannot be used.

    Attributes:
        row: The line of a text file, from 1; the row of a parquet file, from 1.
        field: The column at fault, empty when it is the row as a whole.
        description: What is wrong.
        nothing_measured: Whether nothing is but that it holds no value, as a failed measurement is often logged.
    """

    row: int
    field: str
    description: str
    nothing_measured: bool = False

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"row {self.row}: {where}{self.description}"


class MeasurementFileError(Exception):
    """A file, or a row of it, cannot be used. Its text is one line that names the file and the row."""

    def __init__(self, file: str, problem: str | RowFault) -> None:
        super().__init__(f"{file}: {problem}")
        self.row = problem.row if isinstance(problem, RowFault) else None


@dataclass(slots=True)
class FirstFault:
    """Ends the reading of a file with the first row that cannot be used.

    Attributes:
        file: The file.
        leaves_out_empty: Whether rows in which nothing was measured are left out instead: a failed test does not make
            a log unusable.
        empty_rows: How many those were.
    """

    file: Path
    leaves_out_empty: bool = False
    empty_rows: int = 0

    def __call__(self, fault: RowFault) -> None:
        """Told of a row that cannot be used. Raises `MeasurementFileError`."""
        if not (self.leaves_out_empty and fault.nothing_measured):
            raise MeasurementFileError(str(self.file), fault)
        self.empty_rows += 1


def shown(value: object, limit: int = 40) -> str:
    """A value of a file as an error may show it: printable, on one line, short."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
