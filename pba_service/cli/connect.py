"""How the commands reach the service: with the certificates and the token that the command line names."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pba_service.cli.told import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pba_client import AsyncClient, Client
    from pba_client.options import Options

_MAX_PORT = 65_535

_GIVEN: ContextVar[dict[str, str] | None] = ContextVar("_GIVEN", default=None)


def use(given: Mapping[str, str | None]) -> None:
    """Takes over what the command line says; by the names of `Options.from_environment`."""
    _GIVEN.set({name: value for name, value in given.items() if value})


def client(target: str) -> Client:
    """A client for threads. Raises `CommandError`."""
    from pba_client import Client  # noqa: PLC0415 - loads grpc

    _check(target)
    try:
        return Client(target, _options())
    except (ValueError, OSError) as error:
        raise CommandError(_said(error)) from None


def async_client(target: str) -> AsyncClient:
    """A client for asyncio. Raises `CommandError`."""
    from pba_client import AsyncClient  # noqa: PLC0415 - loads grpc

    _check(target)
    try:
        return AsyncClient(target, _options())
    except (ValueError, OSError) as error:
        raise CommandError(_said(error)) from None


def _check(target: str) -> None:
    """Raises `CommandError` for what gRPC would take for something else, or tell in its own words."""
    if not target.strip():
        raise CommandError("the target is empty: give host:port")
    ports = () if target.startswith("unix") else (address.rpartition(":")[2] for address in target.split(","))
    for port in ports:
        if re.fullmatch("[0-9]{5,}", port) and float(port) > _MAX_PORT:
            raise CommandError(f"the target {target} names a port above {_MAX_PORT}")


def _options() -> Options:
    from pba_client.options import Options  # noqa: PLC0415 - loads grpc

    given = _GIVEN.get()
    return Options.from_environment(os.environ if given is None else given)


def _said(error: ValueError | OSError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
