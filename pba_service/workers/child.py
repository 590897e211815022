"""The program of a worker process: `python -m pba_service.workers.child <pipe>`, started by the supervisor only."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pba_service.access.watched import FileRefusedError
from pba_service.app import Part, keep_from_collection, running
from pba_service.domain.errors import DurabilityUnmetError, ModelRefusedError
from pba_service.observability.logs import configure_logs
from pba_service.serving.server import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_service.observability.logs import LogFormat
    from pba_service.settings import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told.

    Attributes:
        settings: With the port and the Redis that all share.
        part: Its part of the service.
        log_format: The form of its logs.
    """

    settings: Settings
    part: Part
    log_format: LogFormat


def main() -> int:
    """Serves until a signal, or the end of standard input, says stop."""
    pipe = os.fdopen(int(sys.argv[1]), "w")
    source = sys.stdin.buffer
    # the supervisor, who started this process, wrote it
    task: Task = pickle.loads(source.read(int.from_bytes(source.read(4), "big")))  # noqa: S301
    configure_logs(task.settings.log_level, task.log_format)
    structlog.contextvars.bind_contextvars(worker=task.part.worker)

    def say(**words: object) -> None:
        pipe.write(json.dumps(words) + "\n")
        pipe.flush()

    try:
        asyncio.run(_serve(task, source.fileno(), lambda: say(serving=True)))
    except DurabilityUnmetError as error:
        say(failed="; ".join([f"PBA_DURABILITY={error.wanted} is not fulfilled", *error.reasons]))
        return 1
    except (ListenError, ModelRefusedError, FileRefusedError) as error:
        say(failed=str(error))
        return 1
    return 0


async def _serve(task: Task, lifeline: int, on_serving: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop.set)
    loop.add_reader(lifeline, stop.set)  # readable only at its end: nothing more is written to it
    async with running(task.settings, task.part):
        keep_from_collection()
        on_serving()
        await stop.wait()
        loop.remove_reader(lifeline)


if __name__ == "__main__":
    sys.exit(main())
