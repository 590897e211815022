"""How the commands reach the service: with the certificates and the token that the command line names."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pba_service.cli.told import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pba_client import AsyncClient, Client
    from pba_client.options import Options

_GIVEN: ContextVar[dict[str, str] | None] = ContextVar("_GIVEN", default=None)


def use(given: Mapping[str, str | None]) -> None:
    """Takes over what the command line says; by the names of `Options.from_environment`."""
    _GIVEN.set({name: value for name, value in given.items() if value})


def client(target: str) -> Client:
    """A client for threads. Raises `CommandError`."""
    from pba_client import Client  # noqa: PLC0415 - loads grpc

    try:
        return Client(target, _options())
    except (ValueError, OSError) as error:
        raise CommandError(_said(error)) from None


def async_client(target: str) -> AsyncClient:
    """A client for asyncio. Raises `CommandError`."""
    from pba_client import AsyncClient  # noqa: PLC0415 - loads grpc

    try:
        return AsyncClient(target, _options())
    except (ValueError, OSError) as error:
        raise CommandError(_said(error)) from None


def _options() -> Options:
    from pba_client.options import Options  # noqa: PLC0415 - loads grpc

    given = _GIVEN.get()
    return Options.from_environment(os.environ if given is None else given)


def _said(error: ValueError | OSError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
