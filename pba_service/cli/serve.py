"""`pba serve` and `pba check-config`."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import typer

from pba_service.cli.told import CommandError, ExitCode
from pba_service.settings import SettingsError
from pba_service.settings_page import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pba_service.observability.logs import LogFormat
    from pba_service.settings import Settings


def settings_in_effect() -> Settings:
    """The settings that the environment gives.

    Raises:
        CommandError: They are wrong; its text lists every fault.
    """
    from pba_service.app import read_settings  # noqa: PLC0415 - loads the service

    try:
        return read_settings(os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from None


@contextmanager
def starting() -> Iterator[None]:
    """Turns what can keep the service from starting into one line."""
    from pba_service.access.watched import FileRefusedError  # noqa: PLC0415 - loads the service
    from pba_service.domain.errors import DurabilityUnmetError, ModelRefusedError  # noqa: PLC0415 - loads the service
    from pba_service.serving.server import ListenError  # noqa: PLC0415 - loads the service
    from pba_service.storage.embedded import EmbeddedServerError  # noqa: PLC0415 - loads the service
    from pba_service.workers.fleet import WorkerStartError  # noqa: PLC0415 - loads the service

    try:
        yield
    except DurabilityUnmetError as error:
        reasons = "".join(f"\n  {reason}" for reason in error.reasons)
        raise CommandError(f"PBA_DURABILITY={error.wanted} is not fulfilled:{reasons}", ExitCode.FAILED) from error
    except (ListenError, ModelRefusedError, EmbeddedServerError, FileRefusedError, WorkerStartError) as error:
        raise CommandError(str(error), ExitCode.FAILED) from error


def log_format(settings: Settings) -> LogFormat:
    """The form of the logs, whose allowed values the settings have checked."""
    return cast("LogFormat", settings.log_format)


def run_service() -> None:
    """Serves until a signal says stop."""
    settings = settings_in_effect()
    from pba_service import app  # noqa: PLC0415 - loads the service
    from pba_service.observability.logs import configure_logs  # noqa: PLC0415 - loads structlog
    from pba_service.workers import run as workers  # noqa: PLC0415 - loads the service

    configure_logs(settings.log_level, log_format(settings))
    with starting():
        asyncio.run(app.run(settings) if settings.workers == 1 else workers.run(settings))


def print_settings() -> None:
    """Prints the settings in effect."""
    rows = described(settings_in_effect())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")
