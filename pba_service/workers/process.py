"""A worker as a process: spawned, told what to do over its standard input, heard over a pipe.

Its standard input stays open as long as the supervisor lives. A worker that reads its end stops in order, so that
none is left behind when the supervisor is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

from pba_service.workers.fleet import WorkerStartError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from pba_service.workers.child import Task

_CHILD = "pba_service.workers.child"


class WorkerProcess:
    """A running worker; made by `spawn`."""

    def __init__(self, process: Process, said: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        self._process, self._said, self._transport = process, said, transport

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Returns once it serves. Raises `WorkerStartError` when it ends before."""
        line = await self._said.readline()
        told: dict[str, Any] = json.loads(line) if line else {}
        if not told.get("serving"):
            code = await self._process.wait()
            raise WorkerStartError(told.get("failed") or f"a worker ended with code {code} before it served")

    async def ended(self) -> int:
        """Waits for its end; its exit code."""
        code = await self._process.wait()
        self._transport.close()
        return code

    async def stop(self, timeout_s: float) -> None:
        """Asks it to stop, and kills it when it has not done so in time."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout_s)
            except TimeoutError:
                self._process.kill()
        await self.ended()


async def spawn(task: Task) -> WorkerProcess:
    """Starts a worker. Raises `OSError`."""
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _CHILD, str(write_end)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(write_end,),
            start_new_session=True,  # Ctrl-C in a terminal is the supervisor's business
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    said = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(said), os.fdopen(read_end, "rb", 0)
    )
    assert process.stdin is not None  # noqa: S101 - a pipe, as asked for
    message = pickle.dumps(task)
    process.stdin.write(len(message).to_bytes(4, "big") + message)
    return WorkerProcess(process, said, transport)
