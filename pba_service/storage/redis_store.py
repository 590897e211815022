"""The store in Redis or Valkey, 6.2 or newer: standalone, behind Sentinels, or a Cluster."""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from pba_service.domain.errors import LinkUnknownError, StoreUnavailableError
from pba_service.engine.ports import CHANGES_MODULUS, NOTHING_BESIDES, UNKNOWN_CHANGES, PutResult
from pba_service.storage import committing, keys, outcomes, putting, replies, scripts
from pba_service.storage.codec import DAY_MS
from pba_service.storage.connect import open_server
from pba_service.storage.defaults import LEDGER_RETENTION_MS, MAX_LINKS, TIMEOUT_S, system_clock
from pba_service.storage.events import Followed, Heard, Own, announce_outcome, follow
from pba_service.storage.index import LinkIndex
from pba_service.storage.recent import RecentBatches
from pba_service.storage.repeats import repeats
from pba_service.storage.replies import readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pba_service.domain.amst.feedback import TransferOutcome
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.samples import LinkInfo, SampleBatch, Series
    from pba_service.engine.ports import Clock, Commit, LinkSummary, Snapshot
    from pba_service.storage.server import Server

_SAMPLES_PER_CHUNK = 12_000
"""A month of minutes in four round trips, each made while the samples of the one before are decoded."""
_LINKS_PER_PAGE = 1_000
_FOREVER_MS = 2**52  # Lua counts in doubles
_CHECK_TTL_MS = 60_000
_LIFE = 0x9E3779B1
"""Added to the number of changes with each life of the server: one that came back with older data may count up to the
same number with other samples."""
_STRETCHES = struct.Struct("<3d")

_log = structlog.get_logger(__name__)


class RedisStore:
    """The `Store` of the engine's ports in Redis; `docs/adr/0002-history-layout.md` says how and why.

    Close it when done.
    """

    def __init__(
        self,
        server: Server,
        *,
        max_samples: int,
        retention_ms: int,
        ledger_retention_ms: int = LEDGER_RETENTION_MS,
        max_links: int = MAX_LINKS,
        clock: Clock = system_clock,
    ) -> None:
        self._server = server
        self._max_samples = max_samples
        self._retention_ms = retention_ms
        self._ledger_retention_ms = ledger_retention_ms
        self._clock = clock
        self._index = LinkIndex(server, max_links)
        self._swept = ""
        self._followed = Followed()
        self._own = Own()
        self._heard = Heard()
        self._recent = RecentBatches() if server.forgets_last_writes else None
        server.on_failover = self._put_again

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        max_samples: int,
        retention_ms: int,
        ledger_retention_ms: int = LEDGER_RETENTION_MS,
        max_links: int = MAX_LINKS,
        clock: Clock = system_clock,
        timeout_s: float = TIMEOUT_S,
    ) -> RedisStore:
        """A store at a URL; connections are made when they are needed.

        Args:
            url: In one of the forms that `address` lists.
            max_samples: The newest samples of a link that are kept.
            retention_ms: How long a sample is kept.
            ledger_retention_ms: How long a ledger entry is kept after its target.
            max_links: The most links there may be.
            clock: The time; by default the system's.
            timeout_s: The longest that one round trip may last.

        Raises:
            ValueError: The URL has none of the forms.
        """
        return cls(
            open_server(url, timeout_s),
            max_samples=max_samples,
            retention_ms=retention_ms,
            ledger_retention_ms=ledger_retention_ms,
            max_links=max_links,
            clock=clock,
        )

    async def put(self, batch: SampleBatch) -> PutResult:
        """Stores samples, as `Store.put` says.

        Raises:
            CapacityExceededError: The batch has new links and there is no room for all of them; nothing is stored.
            StoreUnavailableError: The store is away or slow; some of the samples may have been stored.
        """
        now = self._clock()
        floor = self._floor_ms(now)
        plan = putting.plan(batch, floor)
        if not await self._index.admit(plan.link_ids, now):
            await self._sweep()
            if not await self._index.admit(plan.link_ids, now):
                raise self._index.full()
        if self._recent is not None:
            # Before it is sent: between the server's answer and a later note of it a failover could come.
            self._recent.add(round(time.monotonic() * 1_000), batch)
        return await self._put(batch, plan, now)

    async def _put(self, batch: SampleBatch, plan: putting.Plan, now: int) -> PutResult:
        head = (self._floor_ms(now), now, self._retention_ms, self._max_samples)
        outcomes = np.zeros(len(batch), np.uint8)
        changes = np.full(len(batch.links), UNKNOWN_CHANGES, np.int64)
        for round_, pieces in enumerate(plan.rounds):
            with repeats() as repeated:
                found = await putting.put(self._server, plan, pieces, head)
            outcomes[plan.order[pieces.places]] = found.outcomes
            # A link with several pieces is left to be read again. What came twice says of the second time only.
            unsure = (found.flags & putting.UNSURE) | (round_ > 0) | repeated.seen
            # As of the server's life when it answered; readings are told as of the one when they were asked for.
            counted = (found.changes + self._server.lives * _LIFE) % CHANGES_MODULUS
            changes[pieces.link] = np.where(unsure, UNKNOWN_CHANGES, counted)
            said = (found.flags & (putting.CREATED | putting.MOVED)).tolist()
            infos = [batch.links[link] for link in pieces.link.tolist()]
            await self._index.enter(zip(infos, said, strict=True))
        return PutResult(outcomes, changes)

    async def snapshots(
        self, link_ids: Sequence[str], context_ms: Sequence[int], besides_ms: Sequence[tuple[int, int]] | None = None
    ) -> list[Snapshot | None]:
        """Reads what predictions are made from, as `Store.snapshots` says."""
        besides = besides_ms or [NOTHING_BESIDES] * len(link_ids)
        tail = [_STRETCHES.pack(context, *more) for context, more in zip(context_ms, besides, strict=True)]
        lives = self._server.lives
        found = await self._server.run_for_links(scripts.READ, link_ids, self._floor_ms(), tail=tail)
        read = [readable(link_id, replies.snapshot, reply) for link_id, reply in zip(link_ids, found, strict=True)]
        if not lives:
            return read
        return [one and replace(one, changes=(one.changes + lives * _LIFE) % CHANGES_MODULUS) for one in read]

    async def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Writes states, predictions and ledger entries, as `Store.commit` says.

        A link whose samples have all expired meanwhile is not written either.
        """
        if not commits:
            return []
        now = self._clock()
        return await committing.commit(
            self._server,
            commits,
            self._own,
            floor_ms=self._floor_ms(now),
            now_ms=now,
            ledger_retention_ms=self._ledger_retention_ms,
        )

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        floor = self._floor_ms()
        found = await self._server.run_for_links(scripts.NEWEST, link_ids)
        newest = [readable(link_id, replies.prediction, reply) for link_id, reply in zip(link_ids, found, strict=True)]
        return [prediction if prediction and prediction.made_at_ms >= floor else None for prediction in newest]

    async def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link, as `Store.history` says.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        floor = self._floor_ms()
        start = max(floor, start_ms or 0)
        end = _FOREVER_MS if end_ms is None else min(end_ms, _FOREVER_MS)

        def read(from_ms: int) -> asyncio.Task[list[list[Any]]]:
            call = ([keys.link_key(link_id)], [from_ms, end, _SAMPLES_PER_CHUNK])
            return asyncio.ensure_future(self._server.run(scripts.RANGE, [call]))

        known, ahead = False, read(start)
        try:
            while True:
                [[reply]] = await ahead
                found = readable(link_id, replies.stretch, reply)
                if found is None or found.newest_ms < floor:  # unknown, or it expired while it was read
                    break
                if found.next_ms is not None:  # the server goes on while these are decoded and used
                    ahead = read(max(start, found.next_ms))
                    await asyncio.sleep(0)
                series = readable(link_id, replies.samples, found.buckets)
                if series is None:
                    break
                known = True
                if len(series):
                    yield series
                if found.next_ms is None:
                    break
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        if not known:
            raise LinkUnknownError(link_id)

    async def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """The ledger entries of a link, as `Store.ledger` says: a chunk per day.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        if (await self.link_infos([link_id])) == [None]:
            raise LinkUnknownError(link_id)
        now = self._clock()
        start = max(now - self._ledger_retention_ms, start_ms or 0, 0)
        end = now + DAY_MS if end_ms is None else min(end_ms, now + DAY_MS)  # no target lies that far ahead
        for day in range(start // DAY_MS, -(-end // DAY_MS)):
            [reply] = await self._server.run_for_links(scripts.LEDGER, [link_id], day)
            entries = readable(link_id, replies.ledger, reply and (day, *reply)) or []
            wanted = [entry for entry in entries if start <= entry.target_ms < end]
            if wanted:
                yield wanted

    async def add_outcome(self, outcome: TransferOutcome) -> None:
        """Stores an outcome, as `Store.add_outcome` says. Raises `LinkUnknownError`."""
        try:
            await outcomes.add(self._server, outcome, floor_ms=self._floor_ms(), retention_ms=self._retention_ms)
        finally:  # an answer that was lost does not say that nothing was stored
            self._heard.note(outcome.link_id)
        await announce_outcome(self._server, outcome.link_id)

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """The newest outcomes of a link, as `Store.outcomes` says. Raises `LinkUnknownError`."""
        return await outcomes.read(self._server, link_id, floor_ms=self._floor_ms())

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links in order of their ids, as `Store.links` says. Entries of the index that are gone leave it."""
        found: list[LinkSummary] = []
        while len(found) < limit:
            size = min(limit - len(found), _LINKS_PER_PAGE)
            page = await self._index.page(prefix=prefix, region=region, after=after, limit=size)
            found += await self._living(page, region)
            if len(page) < size:
                break
            after = page[-1]
        return found

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link; None where it is unknown."""
        return [summary.info if summary else None for summary in await self._summarise(link_ids)]

    async def link_count(self, prefix: str) -> int:
        """How many links have ids that begin so, those included that nobody has found expired yet."""
        return await self._index.count(prefix)

    async def announcements(self) -> AsyncIterator[list[Prediction]]:
        """Predictions as any replica commits them, as `Store.announcements` says.

        The first list is empty: whatever is committed from then on will be delivered.
        """
        async for predictions in follow(
            self._server, self._all_newest, followed=self._followed, own=self._own, heard=self._heard
        ):
            yield predictions

    def outcomes_heard(self, link_id: str) -> int:
        """A number that changes with the outcomes of a link, as `Store.outcomes_heard` says."""
        return self._heard.of(link_id)

    @property
    def announced(self) -> bool:
        """Whether announcements up to a few seconds ago have been given to somebody."""
        return self._followed.recently

    async def check(self) -> None:
        """Returns when the store can be written and read now.

        Raises:
            StoreUnavailableError: It cannot.
        """
        await self._server.command("SET", keys.CHECK, secrets.token_bytes(8), "PX", _CHECK_TTL_MS)
        if await self._server.command("GET", keys.CHECK) is None:
            _log.warning("store_check_failed", reason="what was written could not be read")
            raise StoreUnavailableError

    async def close(self) -> None:
        """Frees connections."""
        await self._server.close()

    def _floor_ms(self, now_ms: int | None = None) -> int:
        """Nothing measured before this time is kept."""
        return max((self._clock() if now_ms is None else now_ms) - self._retention_ms, 0)

    async def _summarise(self, link_ids: Sequence[str]) -> list[LinkSummary | None]:
        found = await self._server.run_for_links(scripts.SUMMARISE, link_ids, self._floor_ms())
        return [readable(link_id, replies.summary, reply) for link_id, reply in zip(link_ids, found, strict=True)]

    async def _living(self, page: Sequence[str], region: str) -> list[LinkSummary]:
        """The links of a page of the index; entries that no link stands behind any more are taken out."""

        def belongs(summary: LinkSummary | None) -> bool:
            return summary is not None and region in {"", summary.info.region}

        summaries = await self._summarise(page)
        gone = [link_id for link_id, one in zip(page, summaries, strict=True) if not belongs(one)]
        if gone:
            await self._index.remove(gone, region)
            # A sample may have come between looking and removing: then it would be hidden until the next restart.
            again = await self._summarise(gone)
            back = [link_id for link_id, one in zip(gone, again, strict=True) if belongs(one)]
            if back:
                await self._index.restore(back, region)
        return [one for one in summaries if one and belongs(one)]

    async def _put_again(self) -> None:
        """Stores again what a server may have missed before it took over: the same samples, so they stay single."""
        batch = self._recent.together() if self._recent else None
        if batch:
            now = self._clock()
            await self._put(batch, putting.plan(batch, self._floor_ms(now)), now)
            _log.info("stored_again", samples=len(batch))

    async def _sweep(self) -> None:
        """Looks through a part of the index for links whose samples have expired, to make room for others."""
        page = await self._index.page(prefix="", region="", after=self._swept, limit=_LINKS_PER_PAGE)
        await self._living(page, "")
        self._swept = page[-1] if len(page) == _LINKS_PER_PAGE else ""

    async def _all_newest(self) -> AsyncIterator[list[Prediction]]:
        """The newest predictions of all links, in pages."""
        after = ""
        while page := await self._index.page(prefix="", region="", after=after, limit=_LINKS_PER_PAGE):
            found = [prediction for prediction in await self.newest(page) if prediction]
            if found:
                yield found
            after = page[-1]
