"""Background loops that must not die silently."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

_BACKOFF_S = (0.1, 10.0)

_log = structlog.get_logger(__name__)


class Supervisor:
    """Runs loops that are meant never to end, and starts one again that did.

    Args:
        sleep: Waits some seconds; a test may count instead.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []
        self._down: set[str] = set()

    def start(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts a loop under a name that is its own."""
        self._tasks.append(asyncio.create_task(self._keep(name, loop), name=name))

    @property
    def down(self) -> frozenset[str]:
        """Loops that ended and have not been started again yet."""
        return frozenset(self._down)

    async def stop(self) -> None:
        """Cancels all loops and waits for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        clock = asyncio.get_running_loop().time
        delay_s = _BACKOFF_S[0]
        while True:
            started_s = clock()
            try:
                await loop()
                _log.error("background_loop_ended", loop=name)
            except Exception:  # noqa: BLE001 - whatever it was, the loop must run
                _log.exception("background_loop_failed", loop=name)
            if clock() - started_s > _BACKOFF_S[1]:
                delay_s = _BACKOFF_S[0]
            self._down.add(name)
            await self._sleep(delay_s)
            self._down.discard(name)
            delay_s = min(delay_s * 2, _BACKOFF_S[1])
