"""A Redis-compatible server of our own, for whoever has none: starts with the service, keeps its data, dies with it.

    data_dir/                  0700
      lock                     held by the process that runs the server, and by the server
      server.log               what the server said since it was last started
      server.sock              its socket, or a link to it where this path is too long for a socket
      appendonlydir/           the data, by default written and synced before a write is acknowledged

Processes with the same `data_dir` share one server. When the one that runs it ends, another takes over.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import structlog

from pba_service.storage import sockets
from pba_service.storage.binary import find_server
from pba_service.storage.durability import Durability
from pba_service.storage.process import GuardedProcess
from pba_service.storage.sockets import Condition

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0

_POLL_S = 0.01
_WATCH_S = 0.2
_RESTART_S = (0.2, 5.0)
_LOG_LINES = 20

_SETTINGS = (
    *("--port", "0"),
    *("--unixsocketperm", "600"),
    *("--databases", "1"),
    *("--maxmemory-policy", "noeviction"),
    *("--save", ""),
    # Valkey 9 begins its files with a snapshot that Redis 7 cannot read; plain commands are read by all.
    *("--aof-use-rdb-preamble", "no"),
)

_DURABILITY = {
    Durability.MEMORY: ("--appendonly", "no"),
    Durability.EVERYSEC: ("--appendonly", "yes", "--appendfsync", "everysec"),
    Durability.ALWAYS: ("--appendonly", "yes", "--appendfsync", "always"),
}

_log = structlog.get_logger(__name__)


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be used; the text says why and is fit for the operator's eyes."""


class EmbeddedServer:
    """The embedded server, as an asynchronous context manager.

    Enter it in a thread that lives as long as the service: on Linux the kernel ties the server to that thread.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        durability: Durability = Durability.ALWAYS,
        start_timeout_s: float = START_TIMEOUT_S,
        guard_mode: str | None = None,
    ) -> None:
        """Says where.

        Args:
            data_dir: The folder; made if it does not exist.
            durability: What acknowledged writes survive: `MEMORY`, `EVERYSEC` or `ALWAYS`.
            start_timeout_s: How long the server may be silent; it may load data for longer.
            guard_mode: How it is tied to this process's life; by default as fits this system.
        """
        self._dir = data_dir.absolute()
        self._durability = _DURABILITY[durability]
        self._start_timeout_s = start_timeout_s
        self._guard_mode = guard_mode
        self._lock_fd = -1
        self._process: GuardedProcess | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the server is, for `RedisStore.connect`; it does not change while this is entered."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The process id of the server if this process runs it; None if it shares that of another."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        """Starts the server, or finds the one that another process runs.

        Raises:
            EmbeddedServerError: The folder cannot be used, or the server does not start.
            NoServerError: There is no executable.
        """
        self._executable = find_server()
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._socket = sockets.place(self._dir / "server.sock")
        except OSError as error:
            raise EmbeddedServerError(f"{self._dir} cannot hold the data of the embedded server: {error}") from error
        try:
            await self._start_or_share()
        except BaseException:
            await self._stop()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="embedded-server")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server if this process runs it."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._stop()

    async def _start_or_share(self) -> None:
        """Waits until either the lock is free, and starts the server then, or another process's server answers."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout_s
        while not self._take_lock():
            condition = await sockets.condition(self._socket)
            if condition is Condition.READY:
                return
            if condition is Condition.LOADING:
                deadline = loop.time() + self._start_timeout_s
            if loop.time() > deadline:
                raise EmbeddedServerError(
                    f"{self._dir} is in use by another process whose server does not answer{self._last_words()}"
                )
            await asyncio.sleep(_POLL_S)
        await self._start()

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def _start(self) -> None:
        """Starts the server; the lock is held, so a socket that is there was left by one that was killed."""
        where = ("--dir", str(self._dir), "--unixsocket", str(self._socket))
        command = [str(self._executable), *where, *_SETTINGS, *self._durability]
        try:
            self._socket.unlink(missing_ok=True)
            self._process = GuardedProcess(
                command,
                log=self._dir / "server.log",
                pass_fds=[self._lock_fd],  # held by the server too: nobody starts another while this one lives
                guard_mode=self._guard_mode,
            )
        except OSError as error:
            raise EmbeddedServerError(f"the embedded server cannot be started in {self._dir}: {error}") from error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout_s
        while (condition := await sockets.condition(self._socket)) is not Condition.READY:
            code = self._process.poll()
            if code is not None:
                raise EmbeddedServerError(f"the embedded server ended with code {code}{self._last_words()}")
            if condition is Condition.LOADING:
                deadline = loop.time() + self._start_timeout_s
            if loop.time() > deadline:
                raise EmbeddedServerError(
                    f"the embedded server did not answer within {self._start_timeout_s:g} s{self._last_words()}"
                )
            await asyncio.sleep(_POLL_S)

    async def _watch(self) -> None:
        """Starts the server again if it ends, and takes it over if the process that ran it ends."""
        delay_s = _RESTART_S[0]
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                if self._process and self._process.poll() is not None:
                    _log.error("embedded_server_ended", code=self._process.poll(), log=self._last_words())
                    await self._process.stop(0)
                    await self._start()
                elif not self._process and self._take_lock():
                    _log.info("embedded_server_taken_over")
                    await self._start()
                delay_s = _RESTART_S[0]
            except EmbeddedServerError as error:
                _log.error("embedded_server_not_started", error=str(error))
                if self._process:
                    await self._process.stop(STOP_TIMEOUT_S)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _RESTART_S[1])

    async def _stop(self) -> None:
        if self._process:
            await self._process.stop(STOP_TIMEOUT_S)
            self._process = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _last_words(self) -> str:
        """The end of the server's log, for messages."""
        try:
            lines = (self._dir / "server.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            return ""
        return "; its log ends:\n" + "\n".join(lines) if lines else ""
