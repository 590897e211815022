"""A bound on equal lines in the log: a fault that comes back at every call must not fill a disk or hide others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, MutableMapping

AT_ONCE = 10
"""Equal lines that are written within `WINDOW_S`; 600 a minute and no more."""

WINDOW_S = 1.0

_ATTRIBUTE = "pba_suppressed"

MAX_KINDS = 1000
"""Kinds of lines that are told apart; what libraries say may hold numbers, and is then ever another kind."""


@dataclass(slots=True)
class _Kind:
    """Lines of one kind since a moment."""

    since_s: float
    written: int = 0
    suppressed: int = 0


class RateLimit:
    """Drops lines whose event and level were written often just now.

    The next line of the kind that is written says how many were not (`suppressed`). Threads may share it. It is a
    processor of structlog's own loggers; lines of the standard library pass `admits` and then `foreign`.
    """

    def __init__(self, clock: Callable[[], float], *, at_once: int = AT_ONCE, window_s: float = WINDOW_S) -> None:
        """Lets `at_once` lines of a kind through in each `window_s` of a clock in monotonic seconds."""
        self._clock = clock
        self._at_once = at_once
        self._window_s = window_s
        self._kinds: dict[tuple[Any, Any], _Kind] = {}
        self._lock = threading.Lock()

    def __call__(self, _logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The line; raises `structlog.DropEvent` instead when there were too many."""
        suppressed = self._suppressed(line.get("level"), line.get("event"))
        if suppressed is None:
            raise structlog.DropEvent
        if suppressed:
            line["suppressed"] = suppressed
        return line

    def admits(self, record: logging.LogRecord) -> bool:
        """A filter of the standard library's: lines that differ only in their arguments are of one kind."""
        suppressed = self._suppressed(record.levelname, record.msg)
        if suppressed:
            setattr(record, _ATTRIBUTE, suppressed)
        return suppressed is not None

    @staticmethod
    def foreign(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of lines that `admits` let through."""
        if suppressed := getattr(line.get("_record"), _ATTRIBUTE, 0):
            line["suppressed"] = suppressed
        return line

    def _suppressed(self, level: object, event: object) -> int | None:
        """How many lines of a kind were left out before this one; None when this one is to be left out too."""
        now_s = self._clock()
        with self._lock:
            kind = self._kind((level, str(event)), now_s)
            if now_s - kind.since_s >= self._window_s:
                kind.since_s, kind.written = now_s, 0
            if kind.written >= self._at_once:
                kind.suppressed += 1
                return None
            kind.written += 1
            suppressed, kind.suppressed = kind.suppressed, 0
        return suppressed

    def _kind(self, key: tuple[Any, Any], now_s: float) -> _Kind:
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds = {
                    old: kind
                    for old, kind in self._kinds.items()
                    if kind.suppressed or now_s - kind.since_s < self._window_s
                }
            if len(self._kinds) >= MAX_KINDS:  # a flood of kinds is one kind
                return self._kinds.setdefault((None, ""), _Kind(now_s))
            found = self._kinds[key] = _Kind(now_s)
        return found
