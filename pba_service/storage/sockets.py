"""Unix sockets: where they may be, and whether a server answers there."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from enum import Enum
from hashlib import sha256
from pathlib import Path

_MAX_PATH_BYTES = 103  # macOS has room for 104 with the final zero, Linux for 108
_ANSWER_TIMEOUT_S = 1.0


class Condition(Enum):
    """What is found at a socket."""

    AWAY = "away"
    LOADING = "loading"
    READY = "ready"


def place(wanted: Path) -> Path:
    """A path short enough for a socket: the wanted one, or one that is the same for every process that wants it.

    Where the wanted path is too long, it becomes a link to the socket, for whoever looks there.

    Raises:
        OSError: The folder for short paths belongs to somebody else, or there is no short path at all.
    """
    if len(os.fsencode(wanted)) <= _MAX_PATH_BYTES:
        return wanted
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > _MAX_PATH_BYTES // 2:
        base = Path("/tmp")  # noqa: S108 - the folder made in it is private, and checked to be
    folder = base / f"pba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} should be a folder of this user's own, with mode 0700")
    short = folder / (sha256(os.fsencode(wanted)).hexdigest()[:16] + ".sock")
    if not wanted.is_symlink() or wanted.readlink() != short:
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(short)
    return short


async def condition(path: Path) -> Condition:
    """Asks the server at a socket how it is."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"PING\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Condition.AWAY
    if answer.startswith(b"+PONG"):
        return Condition.READY
    return Condition.LOADING if answer.startswith(b"-LOADING") else Condition.AWAY
