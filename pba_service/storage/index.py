"""Which links there are, in order, by region, and no more than admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.errors import CapacityExceededError, StoreUnavailableError
from pba_service.storage import keys, scripts
from pba_service.storage.putting import CREATED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pba_service.domain.samples import LinkInfo
    from pba_service.storage.server import Server

_REMEMBERED = 200_000
_PAGE = 1_000
_BELIEVED_MS = 600_000
"""How long a link is taken to be in the index without looking: another process may have found it expired."""


class LinkIndex:
    """The sorted sets of links.

    They live apart from the links' own keys, on another node of a Cluster. So a link is entered before its first sample
    is stored, and whoever lists it finds out whether there are samples: entries without are taken out then.
    """

    def __init__(self, server: Server, max_links: int) -> None:
        self._server = server
        self._max_links = max_links
        # Links that this process has entered, with the region it has entered them for.
        self._entered: dict[str, str] = {}
        self._since_ms = 0

    async def admit(self, link_ids: Collection[str], now_ms: int) -> bool:
        """Enters links, all or none; returns False when there is no room for them.

        Raises:
            StoreUnavailableError: The store is away or slow.
        """
        if abs(now_ms - self._since_ms) > _BELIEVED_MS:
            self._entered.clear()
            self._since_ms = now_ms
        new = [link_id for link_id in link_ids if link_id not in self._entered]
        if not new:
            return True
        [admitted] = await self._server.run(scripts.ADMIT, [([keys.LINKS], [self._max_links, *new])])
        if not admitted:
            return False
        if len(self._entered) + len(new) > _REMEMBERED:
            self._entered.clear()
        self._entered.update(dict.fromkeys(new, ""))
        return True

    def full(self) -> CapacityExceededError:
        """What to raise when there is no room."""
        return CapacityExceededError("links of this service", limit=self._max_links, retry_after_s=60.0)

    async def enter(self, stored: Iterable[tuple[LinkInfo, int]]) -> None:
        """Enters what is missing of links whose samples have just been stored.

        Args:
            stored: What was said of each link, and the flags of storing its samples. A link that was new may have been
                taken out of the index since it was admitted.

        Raises:
            StoreUnavailableError: The store is away or slow; the next sample of the links tries again.
        """
        missing: dict[str, list[str]] = {}
        for info, flags in stored:
            if flags & CREATED:
                missing.setdefault("", []).append(info.link_id)
            if info.region and (flags or self._entered.get(info.link_id) != info.region):
                missing.setdefault(info.region, []).append(info.link_id)
        for region, link_ids in missing.items():
            try:
                await self.restore(link_ids, region)
            except StoreUnavailableError:
                for link_id in link_ids:
                    self._entered.pop(link_id, None)
                raise
            if region:
                self._entered.update(dict.fromkeys(link_ids, region))

    async def page(self, *, prefix: str, region: str, after: str, limit: int) -> list[str]:
        """Entries greater than `after`, in order; some may be of links without samples or of another region."""
        key = keys.region_key(region) if region else keys.LINKS
        start = b"(" + after.encode() if after >= prefix and after else b"[" + prefix.encode()
        end = _end(prefix)
        found = await self._server.command("ZRANGEBYLEX", key, start, end, "LIMIT", 0, limit)
        return [link_id.decode() for link_id in found]

    async def count(self, prefix: str) -> int:
        """Entries that begin so."""
        return int(await self._server.command("ZLEXCOUNT", keys.LINKS, b"[" + prefix.encode(), _end(prefix)))

    async def remove(self, link_ids: Sequence[str], region: str) -> None:
        """Takes entries out, of the index of a region if one is given, else of the index of all links."""
        key = keys.region_key(region) if region else keys.LINKS
        await self._server.command("ZREM", key, *link_ids)
        for link_id in link_ids:
            self._entered.pop(link_id, None)

    async def restore(self, link_ids: Sequence[str], region: str) -> None:
        """Puts entries in without asking whether there is room."""
        key = keys.region_key(region) if region else keys.LINKS
        for first in range(0, len(link_ids), _PAGE):
            members = [part for link_id in link_ids[first : first + _PAGE] for part in (0, link_id)]
            await self._server.command("ZADD", key, *members)


def _end(prefix: str) -> bytes:
    """The end of the range of ids that begin so: no UTF-8 text holds the byte 0xff."""
    return b"(" + prefix.encode() + b"\xff" if prefix else b"+"
