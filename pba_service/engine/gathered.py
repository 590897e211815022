"""Reads that many subscribers want at the same time, done once for all of them.

A thousand subscribers that begin together would read the same pages a thousand times, and ten thousand that follow a
link each make ten thousand round trips. A reader joins the next read that begins, never one that is under way: what
changed before a subscriber was registered is in a read that begins after that, so nothing falls between the two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.samples import LinkInfo
    from pba_service.engine.ports import LinkSummary
    from pba_service.engine.subscriptions import Directory

LINKS_PER_READ = 1_000
"""Links whose newest predictions are read in one round trip."""


class Gathered:
    """A `Directory` whose readers share reads."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._next: dict[Hashable, asyncio.Future[Any]] = {}
        self._readers: dict[Hashable, asyncio.Task[None]] = {}
        self._wanted: dict[str, None] = {}

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        self._wanted.update(dict.fromkeys(link_ids))
        found: dict[str, Prediction | None] = await self._join("newest", self._read_newest)
        return [found[link_id] for link_id in link_ids]

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`, ordered by id, at most `limit`."""

        async def read() -> list[LinkSummary]:
            return await self._directory.links(prefix=prefix, region=region, after=after, limit=limit)

        found: list[LinkSummary] = await self._join((prefix, region, after, limit), read)
        return found

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link."""
        return await self._directory.link_infos(link_ids)

    async def _read_newest(self) -> dict[str, Prediction | None]:
        wanted, self._wanted = list(self._wanted), {}
        found: dict[str, Prediction | None] = {}
        for first in range(0, len(wanted), LINKS_PER_READ):
            part = wanted[first : first + LINKS_PER_READ]
            found.update(zip(part, await self._directory.newest(part), strict=True))
        return found

    async def _join(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """The result of the next read of this kind that begins. A caller who is cancelled leaves the others theirs."""
        joined = self._next.get(key)
        if joined is None:
            joined = self._next[key] = asyncio.get_running_loop().create_future()
            if key not in self._readers:
                self._readers[key] = asyncio.create_task(self._run(key, read))
        return await asyncio.shield(joined)

    async def _run(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> None:
        """Reads as long as somebody waits."""
        try:
            while waited_for := self._next.pop(key, None):
                try:
                    waited_for.set_result(await read())
                except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                    waited_for.set_exception(error)
                    waited_for.exception()  # told, even where all who waited have gone
        finally:
            del self._readers[key]
