"""Errors as one clear line and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client import PbaClientError

P = ParamSpec("P")
T = TypeVar("T")


# what gRPC says of a connection that it could not open
_NOT_REACHED = re.compile(r"(ipv4|ipv6|unix):(?P<address>\S+): (.*: )?(?P<cause>.+)$")


class ExitCode(IntEnum):
    """What the command line ends with."""

    OK = 0
    FAILED = 1
    """The service refused, or part of the work could not be done."""
    USAGE = 2
    """The command, a setting or a file is wrong."""
    UNAVAILABLE = 3
    """The service cannot be reached, or says that it cannot answer now."""
    NOT_YET = 4
    """The link is unknown, or has too little history."""
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was told."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def tell(message: str) -> None:
    """Writes a line for people, away from the results on standard output."""
    typer.echo(message, err=True)


def told(command: Callable[P, T]) -> Callable[P, T]:
    """A command whose expected failures become one line and an exit code; others keep their traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            _discard_output()  # whoever read it is gone
            raise typer.Exit(ExitCode.OK) from None
        except Exception as error:
            explained = _explained(error)
            if explained is None:
                raise
            message, code = explained
            if isinstance(error, OSError):
                _discard_output()
            tell(f"pba: {message}")
            raise typer.Exit(code) from None

    return run


def _discard_output() -> None:
    """What is buffered for standard output must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: Exception) -> tuple[str, ExitCode] | None:
    """The line and the code of an expected failure; None for a fault of our own."""
    from pba_client import errors  # noqa: PLC0415 - only when something failed
    from pba_service.files import MeasurementFileError  # noqa: PLC0415 - only when something failed

    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":  # a word came as bytes that are no text
        return f"{error.object!r} is no UTF-8 text", ExitCode.USAGE
    if isinstance(error, MeasurementFileError):
        return str(error), ExitCode.USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # where standard output goes
        return f"the output cannot be written: {error.strerror}", ExitCode.FAILED
    return _of_client(error) if isinstance(error, errors.PbaClientError) else None


def _of_client(error: PbaClientError) -> tuple[str, ExitCode]:
    from pba_client import errors  # noqa: PLC0415 - only when something failed

    message = error.message
    if error.retry_after:
        message += f"; try again in {error.retry_after.total_seconds():g} s"
    if isinstance(error, errors.LinkUnknownError | errors.HistoryTooShortError):
        return message, ExitCode.NOT_YET
    if isinstance(error, errors.InvalidRequestError):
        return "; ".join(f"{v.field}: {v.description}" for v in error.violations) or message, ExitCode.USAGE
    if isinstance(error, errors.TemporaryError):
        where = _NOT_REACHED.search(message) if not error.reason else None
        if where:
            return f"no service at {where['address']}: {where['cause']}", ExitCode.UNAVAILABLE
        return f"the service is not available: {message}", ExitCode.UNAVAILABLE
    return message, ExitCode.FAILED
