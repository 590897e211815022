"""Links whose samples changed, and which of them are advanced together, and when.

A batch costs something before its first link, so few links wait a little for others; and whoever pushes many samples
waits for the answer, so links wait while those are being stored. Both waits are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pba_service.observability.spans import Origin

MAX_TOGETHER = 256
"""Links advanced at a time: larger batches gain little, and what is computed of them holds other calls up."""

WORTH_A_BATCH = 96
"""Links that begin a batch while another is under way; fewer wait until it ends, or for `PATIENCE_S`. A batch costs as
much as some 20 of its links before the first of them, so that small ones after one another keep up with less."""

PATIENCE_S = 0.1
"""How long few links wait for others: a batch may be slow, or wait for the store."""

MANY_SAMPLES = 500
"""Samples in one write to the store that marked links wait for, `YIELD_S` at most: whoever pushed them waits for the
answer, and would share the processor with predictions."""

YIELD_S = 0.5

NEXT_WRITE_S = 0.005
"""How long marked links wait after such a write for the next: who pushes much sends it as soon as this is answered."""


@dataclass(eq=False, slots=True)
class Mark:
    """A link whose samples changed.

    Attributes:
        since_s: Since when it waits.
        origin: What changed them.
        done: For whoever waits until that has been taken into account; made for the first who does.
    """

    since_s: float
    origin: Origin | None = None
    done: asyncio.Future[None] | None = None

    def wait(self) -> asyncio.Future[None]:
        """Ends when the change has been taken into account, or was given up."""
        if self.done is None:
            self.done = asyncio.get_running_loop().create_future()
        return self.done


class Marks:
    """Marked links. Not thread-safe: everything happens on one event loop.

    Args:
        patience_s: How long few links wait for others.
        yield_s: How long links wait while many samples are being stored.
    """

    def __init__(self, *, patience_s: float, yield_s: float) -> None:
        self._patience_s, self._yield_s = patience_s, yield_s
        self._marked: dict[str, Mark] = {}
        self._running: dict[str, Mark] = {}
        self._storing = 0
        self._stored_many_s = -math.inf
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Links that wait to be advanced."""
        return len(self._marked)

    def __contains__(self, link_id: str) -> bool:
        """Whether a link waits to be advanced, or is being advanced."""
        return link_id in self._marked or link_id in self._running

    def add(self, link_ids: Iterable[str], origin: Origin | None) -> None:
        """Says that samples of these links changed."""
        now_s = asyncio.get_running_loop().time()
        marked = self._marked
        for link_id in link_ids:
            if link_id not in marked:
                marked[link_id] = Mark(now_s, origin)
        if marked:
            self._arrived.set()

    def ends(self, link_ids: Iterable[str]) -> list[asyncio.Future[None]]:
        """For those of some links that are marked: when that has been taken into account, or was given up."""
        found = (self._marked.get(link_id) or self._running.get(link_id) for link_id in link_ids)
        return [mark.wait() for mark in found if mark]

    def storing(self, samples: int) -> None:
        """So many samples are being stored now; 0: none."""
        if self._storing >= MANY_SAMPLES:
            self._stored_many_s = asyncio.get_running_loop().time()
        self._storing = samples
        if self._marked:
            self._arrived.set()

    def none_runs(self) -> None:
        """Whoever was advancing links has begun anew."""
        self._running.clear()

    async def take(self) -> dict[str, Mark]:
        """Links to be advanced now, none of which is under way; to be followed by `end`."""
        while self._wait_s() != 0:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._arrived.wait()
        chosen = list(islice((link_id for link_id in self._marked if link_id not in self._running), MAX_TOGETHER))
        taken = {link_id: self._marked.pop(link_id) for link_id in chosen}
        self._running |= taken
        return taken

    def end(self, taken: dict[str, Mark]) -> None:
        """These links are not under way any more."""
        for link_id, mark in taken.items():
            del self._running[link_id]
            if mark.done and not mark.done.done():
                mark.done.set_result(None)
        self._arrived.set()

    def _wait_s(self) -> float | None:
        """How long the oldest link that may be taken still waits, for others or for samples that are being stored.

        None where there is no such link.
        """
        since_s = next((mark.since_s for link_id, mark in self._marked.items() if link_id not in self._running), None)
        if since_s is None:
            return None
        few = self._running and len(self._marked) < WORTH_A_BATCH
        storing_until_s = math.inf if self._storing >= MANY_SAMPLES else self._stored_many_s + NEXT_WRITE_S
        until_s = max(since_s + (self._patience_s if few else 0), min(since_s + self._yield_s, storing_until_s))
        return max(until_s - asyncio.get_running_loop().time(), 0.0)
