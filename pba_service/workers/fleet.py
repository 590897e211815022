"""Keeps worker processes running: starts each, starts again what died, ends all together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RESTART_S = (0.2, 10.0)
"""The pause before a worker is started again: doubled from the first to the second, while it keeps dying."""

HEALTHY_S = 30.0
"""A worker that lived so long begins again with the first pause."""

_log = structlog.get_logger(__name__)


class WorkerStartError(RuntimeError):
    """A worker could not be started; the text says why, for the operator's eyes."""


class Worker(Protocol):
    """A process that was started."""

    async def ready(self) -> None:
        """Returns once it serves. Raises `WorkerStartError` when it ends before."""
        ...

    async def ended(self) -> int:
        """Waits for its end; its exit code, negative for a signal."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Asks it to stop, and kills it when it has not done so in time."""
        ...


class Fleet:
    """A fixed number of workers.

    Args:
        spawn: Starts the worker of a place, 0 to `size` - 1. Raises `WorkerStartError` or `OSError`.
        size: How many.
        on_exit: Told of the place of a worker that died.
        sleep: Waits some seconds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        spawn: Callable[[int], Awaitable[Worker]],
        size: int,
        *,
        on_exit: Callable[[int], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._spawn, self._size, self._on_exit, self._sleep = spawn, size, on_exit, sleep
        self._clock = clock or asyncio.get_running_loop().time
        self._workers: dict[int, Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> int:
        """Workers that run now."""
        return len(self._workers)

    async def start(self) -> None:
        """Starts all, the first before the others, and returns once all serve.

        The first alone, so that what is done once (reading a history) is done before anybody is answered.

        Raises:
            WorkerStartError: One of them could not be started; all are stopped again.
        """
        try:
            await self._launch(0)
            await asyncio.gather(*(self._launch(place) for place in range(1, self._size)))
        except BaseException:
            await self.stop(0)
            raise
        self._keepers = [asyncio.create_task(self._keep(place), name=f"worker-{place}") for place in range(self._size)]

    async def stop(self, timeout_s: float) -> None:
        """Stops all at the same time; those that take longer are killed."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        workers, self._workers = list(self._workers.values()), {}
        await asyncio.gather(*(worker.stop(timeout_s) for worker in workers))

    async def _launch(self, place: int) -> None:
        worker = await self._spawn(place)
        self._workers[place] = worker
        await worker.ready()

    async def _keep(self, place: int) -> None:
        delay_s = RESTART_S[0]
        started_s = self._clock()
        while True:
            worker = self._workers.get(place)
            if worker is not None:
                code = await worker.ended()
                del self._workers[place]
                self._on_exit(place)
                if self._clock() - started_s >= HEALTHY_S:
                    delay_s = RESTART_S[0]
                _log.error("worker_ended", worker=place, code=code, restart_in_s=delay_s)
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_S[1])
            started_s = self._clock()
            try:
                await self._launch(place)
            except (WorkerStartError, OSError) as error:
                _log.error("worker_not_started", worker=place, reason=str(error))  # it is waited for, and tried again
            else:
                _log.info("worker_restarted", worker=place)
