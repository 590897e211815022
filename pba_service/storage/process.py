"""A child process that never outlives this one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pba_service.storage import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_POLL_S = 0.01


class GuardedProcess:
    """A running command; it is killed when this process ends, however it ends.

    Start it in a thread that lives as long as the command shall: on Linux the kernel ties it to that thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        guard_mode: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the command.

        Args:
            command: The executable's path and its arguments.
            log: A file for what it says; overwritten.
            pass_fds: Open files that it shall hold too.
            guard_mode: One of the modes of `guard`; by default the one fit for this system.
            environment: Its variables; None: those of this process.

        Raises:
            OSError: It cannot be started.
        """
        mode = guard_mode or ("signal" if sys.platform == "linux" else "pipe")
        self._resident = mode == "pipe"
        read_end, self._pipe = os.pipe()
        number = os.getpid() if mode == "signal" else read_end
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603 - our own guard, and a command from our own code
                    [sys.executable, "-I", "-S", guard.__file__, mode, str(number), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(read_end, *pass_fds),
                    env=environment,
                    start_new_session=True,  # Ctrl-C in a terminal is this process's business
                )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """Process id, of the guard where that stays."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    async def stop(self, timeout_s: float) -> None:
        """Asks it to end, and kills it if it has not after a while."""
        self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended()
        except TimeoutError:
            self._kill()
            await self._ended()
        finally:
            self._close_pipe()

    def kill(self) -> None:
        """Ends it at once; returns when it has ended."""
        self._kill()
        self._process.wait()
        self._close_pipe()

    def _kill(self) -> None:
        if self._resident:
            self._close_pipe()  # the guard kills the command and ends
        else:
            self._process.kill()

    async def _ended(self) -> None:
        while self._process.poll() is None:  # noqa: ASYNC110 - nothing but asking tells of another process's end
            await asyncio.sleep(_POLL_S)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
