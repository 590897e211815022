"""Structured logs: one event with fields a line, for machines as JSON, for a terminal in colour."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import structlog

from pba_service.observability.limited import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

LogFormat = Literal["auto", "json", "console"]


def configure_logs(
    level: str,
    form: LogFormat = "auto",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Sets the process's logs up, those of libraries included. To be called once, before anything serves.

    Args:
        level: debug, info, warning or error.
        form: json, console, or auto: console when the stream is a terminal.
        stream: Where logs go; standard error when None.
        clock: Monotonic seconds, by which equal lines are bounded; at level debug they are not.
    """
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    limit = RateLimit(clock)
    console = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        plain = structlog.dev.plain_traceback
        last: list[Any] = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    else:
        # never the values of local variables: among them are addresses with passwords
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *([limit] if threshold > logging.DEBUG else []), *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # module loggers made before this call take it up as well
    )
    # libraries log through the standard library: the same lines, at warning unless more is wanted
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, limit.foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    if threshold > logging.DEBUG:
        handler.addFilter(limit.admits)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING) if threshold > logging.DEBUG else threshold)
