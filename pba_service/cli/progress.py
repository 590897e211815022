"""Progress of a long command: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pba_service.cli.told import tell

if TYPE_CHECKING:
    from types import TracebackType

LINE_EVERY_S = 10.0


class Progress:
    """Tells how far a command is, on standard error."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        """Nothing is shown before the `with` block.

        Args:
            what: What is being done.
            total: How much there is.
            unit: Of what.
        """
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=total)
        self._told_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, more: int) -> None:
        """Says that so much more is done."""
        self._done += more
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            tell(f"{self._what}: {self._done} of {self._total} {self._unit}")
