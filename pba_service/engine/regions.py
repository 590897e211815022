"""Which region a link belongs to: a bounded, short-lived memory in front of the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pba_service.domain.samples import LinkInfo

MEMORY_S = 60.0
"""How long a region is believed: a link that moves is followed within this time."""

MAX_LINKS = 100_000
"""Links remembered; the oldest make room."""


class Regions:
    """Regions of links, read in bulk and by one caller at a time, so that many who wait cost one read."""

    def __init__(
        self, link_infos: Callable[[Sequence[str]], Awaitable[list[LinkInfo | None]]], clock: Callable[[], float]
    ) -> None:
        """Creates an empty memory.

        Args:
            link_infos: Reads what is known of links.
            clock: Monotonic seconds.
        """
        self._link_infos = link_infos
        self._clock = clock
        self._reading = asyncio.Lock()
        self._regions: dict[str, tuple[str, float]] = {}

    def known(self, link_id: str) -> str | None:
        """The link's region ('' when it has none), or None when it has to be read first."""
        region, learned_s = self._regions.get(link_id, ("", None))
        if learned_s is None or self._clock() - learned_s >= MEMORY_S:
            return None
        return region

    def learn(self, info: LinkInfo) -> None:
        """Remembers what was read elsewhere."""
        self._remember(info.link_id, info.region)

    async def of(self, link_ids: Sequence[str]) -> list[str]:
        """The region of each link. Raises `StoreUnavailableError`."""
        async with self._reading:
            regions = {link_id: self.known(link_id) for link_id in link_ids}
            missing = [link_id for link_id, region in regions.items() if region is None]
            if missing:
                for link_id, info in zip(missing, await self._link_infos(missing), strict=True):
                    regions[link_id] = info.region if info else ""
                    self._remember(link_id, info.region if info else "")
        return [regions[link_id] or "" for link_id in link_ids]

    def _remember(self, link_id: str, region: str) -> None:
        self._regions.pop(link_id, None)
        self._regions[link_id] = (region, self._clock())
        if len(self._regions) > MAX_LINKS:
            del self._regions[next(iter(self._regions))]
