"""What is read from files and read anew when they change; while the new ones are broken, the old value stays."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ValueT = TypeVar("ValueT")

POLL_S = 2.0
"""Between two looks. Looking is used instead of the kernel's events since mounted secrets change by symbolic links."""

MAX_FILE_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger(__name__)


class FileRefusedError(Exception):
    """A file cannot be used; the text names it and says why, and never what is in it."""


class Watched(Generic[ValueT]):
    """A value from files.

    Attributes:
        name: Of what it is, for logs and metrics.
        value: As last read without a fault.
        generation: Counts the values.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        load: Callable[[], ValueT],
        on_reload: Callable[[str, bool], None] = lambda _name, _good: None,
    ) -> None:
        """Reads the files.

        Args:
            name: Of what it is.
            paths: The files.
            load: Reads and checks them; raises `FileRefusedError`.
            on_reload: Told of each later reading, and whether it was good.

        Raises:
            FileRefusedError: They cannot be used.
        """
        self.name = name
        self.generation = 0
        self._paths = tuple(paths)
        self._load = load
        self._on_reload = on_reload
        self._seen = self._look()
        self.value = load()

    def poll(self) -> bool:
        """Reads the files if they have changed; returns whether there is a new value."""
        now = self._look()
        if now == self._seen:
            return False
        self._seen = now
        try:
            value = self._load()
        except FileRefusedError as error:
            _log.error("file_refused", what=self.name, reason=str(error), kept="what was read before")
            self._on_reload(self.name, False)  # noqa: FBT003 - good or not is what it is told
            return False
        self.value = value
        self.generation += 1
        _log.info("file_reloaded", what=self.name)
        self._on_reload(self.name, True)  # noqa: FBT003 - likewise
        return True

    def _look(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(map(_stamp, self._paths))


async def poll_all(
    watched: Sequence[Watched[object]], changed: Callable[[], None] = lambda: None, every_s: float = POLL_S
) -> None:
    """Looks after some values until cancelled; `changed` is called when any of them is new."""
    while True:
        await asyncio.sleep(every_s)
        new = [one.poll() for one in watched]  # each of them, not up to the first that changed
        if any(new):
            changed()


def read_bytes(path: Path, *, secret: bool = False) -> bytes:
    """The content of a file.

    Args:
        path: The file.
        secret: It must not be readable by everybody. Nothing that is read may be writable by everybody.

    Raises:
        FileRefusedError: It cannot be read, is too large, or its permissions are too wide.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FileRefusedError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if not stat.S_ISREG(mode) or len(content) > MAX_FILE_BYTES:
        raise FileRefusedError(f"{path}: is no file of at most {MAX_FILE_BYTES} bytes")
    if mode & (stat.S_IWOTH | (stat.S_IRWXO if secret else 0)):
        too_wide = "read" if secret else "written"
        raise FileRefusedError(
            f"{path}: can be {too_wide} by everybody (mode {stat.S_IMODE(mode):04o}); chmod o-rwx it"
        )
    return content


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
