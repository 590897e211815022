"""One thread that does everything in its time: jobs that say how long they wait."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Job = Generator[float, None, None]

_LONGEST_WAIT_S = 1.0


class Loop:
    """Jobs are generators that yield the seconds until they go on."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Begins empty.

        Args:
            monotonic: Seconds.
            sleep: Waits for so many seconds.
        """
        self._monotonic = monotonic
        self._sleep = sleep
        self._due: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()

    def start(self, job: Job) -> None:
        """Begins a job at once."""
        heapq.heappush(self._due, (self._monotonic(), next(self._numbers), job))

    def run(self, stopped: Callable[[], bool]) -> None:
        """Runs until told to stop, which is looked at every second."""
        while not stopped():
            now_s = self._monotonic()
            while self._due and self._due[0][0] <= now_s:
                _, _, job = heapq.heappop(self._due)
                delay_s = next(job, None)
                if delay_s is not None:
                    heapq.heappush(self._due, (self._monotonic() + delay_s, next(self._numbers), job))
            wait_s = self._due[0][0] - self._monotonic() if self._due else _LONGEST_WAIT_S
            self._sleep(min(max(wait_s, 0.0), _LONGEST_WAIT_S))
