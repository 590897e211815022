"""How many links, and regions, one node may make: ids are free to invent, and each costs memory here and in Redis."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from pba_service.access.callers import Role
from pba_service.access.limits import MAX_CALLERS
from pba_service.domain.errors import CapacityExceededError
from pba_service.domain.samples import text_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pba_service.access.callers import Caller
    from pba_service.domain.samples import LinkInfo

MAX_REGIONS = 100
"""Regions that one caller may put its links into, as long as a process remembers."""

MAX_REMEMBERED = 200_000
"""Links known to exist; of others it has to be asked."""

UNCOUNTED_S = 10.0
"""How long an admitted link may take to be stored, and so to be counted by the store."""

_ADMITTED_S = UNCOUNTED_S / 2
"""How long a link that was admitted needs no admission again; what comes then still has time to be stored."""

_FOUND_S = 600.0
"""How long a link that the store knows needs no question. Later it may have expired."""


class LinkStore(Protocol):
    """The part of the store that knows which links there are."""

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link; None where it is unknown."""
        ...

    async def link_count(self, prefix: str) -> int:
        """How many links have ids that begin so."""
        ...


class LinkBound:
    """Counts a caller's links where it may invent ids: under its prefixes. Links that it was given one by one do not.

    The store's own index is counted, so all replicas count the same. Two of them may each admit a batch at the same
    moment; one of them does not.
    """

    def __init__(self, store: LinkStore, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Bounds each caller.

        Args:
            store: Knows which links there are.
            most: Links of one caller.
            clock: Monotonic seconds.
        """
        self._store = store
        self._most = most
        self._clock = clock
        self._known: OrderedDict[str, float] = OrderedDict()  # until when
        self._uncounted: OrderedDict[str, dict[str, float]] = OrderedDict()  # by caller: link and when it was admitted
        self._regions: OrderedDict[str, set[str]] = OrderedDict()
        self._turn = asyncio.Lock()

    async def admit(self, caller: Caller, link_ids: Collection[str], regions: Collection[str]) -> None:
        """Returns when a caller may push to some links of its own and say these regions of them.

        Raises:
            CapacityExceededError: It has too many; nothing was admitted.
            StoreUnavailableError: It takes the store to tell.
        """
        if Role.ADMIN in caller.roles:
            return
        self._regions_with(caller, regions)
        now_s = self._clock()
        unsure = [
            one
            for one in set(link_ids)
            if self._known.get(one, now_s) <= now_s
            and one not in caller.links.ids
            and not text_fault(one, required=True)
        ]
        if unsure:
            await self._admit_unsure(caller, unsure)
        self._regions[caller.name] = self._regions_with(caller, regions)  # not those of links that were refused
        self._regions.move_to_end(caller.name)
        if len(self._regions) > MAX_CALLERS:
            self._regions.popitem(last=False)

    async def _admit_unsure(self, caller: Caller, unsure: Sequence[str]) -> None:
        async with self._turn:  # one at a time, so that each counts what the one before was given
            found = await self._store.link_infos(unsure)
            new = [link_id for link_id, info in zip(unsure, found, strict=True) if info is None]
            if new:
                await self._admit_new(caller, new)
                self._remember(new, _ADMITTED_S)  # their samples may be refused, and then there is no such link
            self._remember([link_id for link_id, info in zip(unsure, found, strict=True) if info], _FOUND_S)

    async def _admit_new(self, caller: Caller, new: Sequence[str]) -> None:
        since_s = self._clock() - UNCOUNTED_S
        recent = {link: at for link, at in self._uncounted.get(caller.name, {}).items() if at > since_s}
        # asked before the store counts: what is stored in between is counted twice rather than not at all
        there = await self._store.link_infos(list(recent)) if recent else []
        uncounted = {link: at for (link, at), info in zip(recent.items(), there, strict=True) if info is None}
        have = len(uncounted.keys() | set(new))
        for prefix in caller.links.outermost:
            have += await self._store.link_count(prefix)
        if have > self._most:
            raise CapacityExceededError("links of one caller", limit=self._most, retry_after_s=60.0)
        uncounted.update(dict.fromkeys(new, self._clock()))
        self._uncounted[caller.name] = uncounted
        self._uncounted.move_to_end(caller.name)
        if len(self._uncounted) > MAX_CALLERS:
            self._uncounted.popitem(last=False)

    def _remember(self, link_ids: Sequence[str], for_s: float) -> None:
        until_s = self._clock() + for_s
        for link_id in link_ids:
            self._known[link_id] = until_s
            self._known.move_to_end(link_id)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _regions_with(self, caller: Caller, regions: Collection[str]) -> set[str]:
        """All that a caller has said, with these. Raises `CapacityExceededError` where they are too many."""
        known = self._regions.get(caller.name, set()).union(filter(None, regions))
        if len(known) > MAX_REGIONS:
            raise CapacityExceededError("regions of one caller", limit=MAX_REGIONS, retry_after_s=60.0)
        return known
