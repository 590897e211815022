"""The store in memory: what unit tests use in place of Redis. Both pass the same conformance suite."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.errors import CapacityExceededError, LinkUnknownError
from pba_service.domain.samples import METRICS, LinkInfo, Series
from pba_service.engine.ports import (
    CHANGES_MODULUS,
    NOTHING_BESIDES,
    UNKNOWN_CHANGES,
    LinkState,
    LinkSummary,
    Outcome,
    PutResult,
    Snapshot,
)
from pba_service.storage.codec import DAY_MS, encode_values
from pba_service.storage.defaults import LEDGER_RETENTION_MS, MAX_LINKS, system_clock
from pba_service.storage.outcomes import KEPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pba_service.domain.amst.feedback import TransferOutcome
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.samples import SampleBatch
    from pba_service.engine.ports import Clock, Commit

_SAMPLES_PER_CHUNK = 10_000


@dataclass(slots=True)
class _Link:
    """All that is kept of a link; `said` has for node, peer and region when they were said, and what."""

    times: list[int] = field(default_factory=list)
    values: dict[int, bytes] = field(default_factory=dict)
    said: dict[str, tuple[int, str]] = field(default_factory=dict)
    state: LinkState = field(default_factory=LinkState)
    newest: Prediction | None = None
    outcomes: dict[int, TransferOutcome] = field(default_factory=dict)
    changes: int = 0

    def put(self, time_ms: int, value: bytes) -> Outcome:
        old = self.values.get(time_ms)
        self.values[time_ms] = value
        if old == value:
            return Outcome.DUPLICATE
        self.changes = (self.changes + 1) % CHANGES_MODULUS
        if old is not None:
            return Outcome.REPLACED
        insort(self.times, time_ms)
        return Outcome.STORED

    def trim(self, floor_ms: int, max_samples: int) -> bool:
        """Drops what is too much or too old; returns whether there was any."""
        cut = max(len(self.times) - max_samples, bisect_left(self.times, floor_ms))
        for time_ms in self.times[:cut]:
            del self.values[time_ms]
        del self.times[:cut]
        return cut > 0

    def series(self, start_ms: int, end_ms: int | None = None) -> Series:
        end = len(self.times) if end_ms is None else bisect_left(self.times, end_ms)
        times = self.times[bisect_left(self.times, start_ms) : end]
        values = np.frombuffer(b"".join(map(self.values.__getitem__, times)), np.float32)
        return Series(np.array(times, np.int64), values.reshape(-1, len(METRICS)))

    def say(self, info: LinkInfo, time_ms: int) -> None:
        for name in ("node", "peer", "region"):
            text = getattr(info, name)
            if text and time_ms >= self.said.get(name, (0, ""))[0]:
                self.said[name] = (time_ms, text)

    def info(self, link_id: str) -> LinkInfo:
        return LinkInfo(link_id, **{name: text for name, (_, text) in self.said.items()})


class MemoryStore:
    """The `Store` of the engine's ports in memory."""

    def __init__(
        self,
        *,
        max_samples: int = 10_000,
        retention_ms: int = 30 * DAY_MS,
        ledger_retention_ms: int = LEDGER_RETENTION_MS,
        max_links: int = MAX_LINKS,
        clock: Clock = system_clock,
    ) -> None:
        self._max_samples = max_samples
        self._retention_ms = retention_ms
        self._ledger_retention_ms = ledger_retention_ms
        self._max_links = max_links
        self._clock = clock
        self._links: dict[str, _Link] = {}
        self._ledgers: dict[str, dict[int, LedgerEntry]] = {}
        self._followers: set[_Follower] = set()
        self._reported: dict[str, int] = {}
        # A link that expired and comes back must not look as it did to who knew it before.
        self._first_changes = count(0, 1_000_000)

    async def put(self, batch: SampleBatch) -> PutResult:
        """Stores samples, as `Store.put` says.

        Raises:
            CapacityExceededError: The batch has new links and there is no room for all of them; nothing is stored.
        """
        floor = self._floor_ms()
        self._expire(floor)
        live = batch.measured_at_ms >= floor
        wanted = {batch.links[i].link_id for i in np.unique(batch.link_index[live]).tolist()}
        if len(self._links.keys() | wanted) > self._max_links and wanted - self._links.keys():
            raise CapacityExceededError("links of this service", limit=self._max_links, retry_after_s=60.0)

        outcomes = np.zeros(len(batch), np.uint8)
        changes = np.full(len(batch.links), UNKNOWN_CHANGES, np.int64)
        values = encode_values(batch)
        said: dict[int, int] = {}
        for i in np.flatnonzero(live).tolist():
            position, time_ms = int(batch.link_index[i]), int(batch.measured_at_ms[i])
            link = self._links.get(batch.links[position].link_id)
            if link is None:
                link = self._links[batch.links[position].link_id] = _Link(changes=next(self._first_changes))
            if position not in said:
                changes[position] = link.changes
            outcomes[i] = link.put(time_ms, values[i].tobytes())
            said[position] = max(said.get(position, 0), time_ms)
        for position, time_ms in said.items():
            link = self._links[batch.links[position].link_id]
            link.say(batch.links[position], time_ms)
            if link.trim(floor, self._max_samples):
                changes[position] = UNKNOWN_CHANGES
        return PutResult(outcomes, changes)

    async def snapshots(
        self, link_ids: Sequence[str], context_ms: Sequence[int], besides_ms: Sequence[tuple[int, int]] | None = None
    ) -> list[Snapshot | None]:
        """Reads what predictions are made from, as `Store.snapshots` says."""
        self._expire(self._floor_ms())
        found: list[Snapshot | None] = []
        besides_ms = besides_ms or [NOTHING_BESIDES] * len(link_ids)
        for link_id, context, (since, until) in zip(link_ids, context_ms, besides_ms, strict=True):
            link = self._links.get(link_id)
            if link is None:
                found.append(None)
                continue
            newest = link.times[-1]
            recent = link.series(newest - context)
            besides = link.series(newest - since, min(newest - until + 1, newest - context))
            found.append(Snapshot(link_id, recent, link.state, link.newest, besides, link.changes, link.times[0]))
        return found

    async def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Writes states, predictions and ledger entries, as `Store.commit` says.

        A link whose samples have all expired meanwhile is not written either.
        """
        self._expire(self._floor_ms())
        return [self._commit(commit) for commit in commits]

    def _commit(self, commit: Commit) -> bool:
        link = self._links.get(commit.link_id)
        if link is None or link.state.version != commit.read_version:
            return False
        link.state = LinkState(commit.read_version + 1, commit.blob)
        ledger = self._ledgers.setdefault(commit.link_id, {})
        for entry in commit.ledger:
            ledger[entry.target_ms] = entry
        if commit.prediction:
            link.newest = commit.prediction
            for follower in self._followers:
                follower.tell(commit.prediction)
        return True

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        self._expire(self._floor_ms())
        found = [self._links.get(link_id) for link_id in link_ids]
        return [link.newest if link else None for link in found]

    async def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link, as `Store.history` says.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        series = self._known(link_id).series(start_ms or 0, end_ms)
        for first in range(0, len(series), _SAMPLES_PER_CHUNK):
            part = slice(first, first + _SAMPLES_PER_CHUNK)
            yield Series(series.times_ms[part], series.values[part])

    async def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """The ledger entries of a link, as `Store.ledger` says.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        self._known(link_id)
        start = max(self._clock() - self._ledger_retention_ms, start_ms or 0)
        days: dict[int, list[LedgerEntry]] = {}
        for target_ms, entry in sorted(self._ledgers.get(link_id, {}).items()):
            if start <= target_ms and (end_ms is None or target_ms < end_ms):
                days.setdefault(target_ms // DAY_MS, []).append(entry)
        for entries in days.values():
            yield entries

    async def add_outcome(self, outcome: TransferOutcome) -> None:
        """Stores an outcome, as `Store.add_outcome` says. Raises `LinkUnknownError`."""
        stored = self._known(outcome.link_id).outcomes
        stored[outcome.ended_at_ms] = outcome
        self._reported[outcome.link_id] = self._reported.get(outcome.link_id, 0) + 1
        for ended_at_ms in sorted(stored)[:-KEPT]:
            del stored[ended_at_ms]

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """The newest outcomes of a link, as `Store.outcomes` says. Raises `LinkUnknownError`."""
        floor = self._floor_ms()
        return [one for ended, one in sorted(self._known(link_id).outcomes.items()) if ended >= floor]

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links in order of their ids, as `Store.links` says."""
        self._expire(self._floor_ms())
        found = []
        for link_id in sorted(self._links):
            link = self._links[link_id]
            info = link.info(link_id)
            if link_id > after and link_id.startswith(prefix) and region in {"", info.region}:
                found.append(LinkSummary(info, len(link.times), link.series(link.times[-1]), link.newest))
        return found[:limit]

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link; None where it is unknown."""
        self._expire(self._floor_ms())
        return [self._links[link_id].info(link_id) if link_id in self._links else None for link_id in link_ids]

    async def link_count(self, prefix: str) -> int:
        """How many links have ids that begin so."""
        self._expire(self._floor_ms())
        return sum(link_id.startswith(prefix) for link_id in self._links)

    async def announcements(self) -> AsyncIterator[list[Prediction]]:
        """Predictions as they are committed, as `Store.announcements` says.

        The first list is empty: whatever is committed from then on will be delivered.
        """
        follower = _Follower()
        self._followers.add(follower)
        try:
            yield []
            while True:
                yield await follower.next()
        finally:
            self._followers.discard(follower)

    def outcomes_heard(self, link_id: str) -> int:
        """How many outcomes of a link were stored."""
        return self._reported.get(link_id, 0)

    @property
    def announced(self) -> bool:
        """Whether somebody follows: announcements take no time."""
        return bool(self._followers)

    async def check(self) -> None:
        """Returns: memory can always be written and read."""

    async def close(self) -> None:
        """Does nothing: memory needs no farewell."""

    def _floor_ms(self) -> int:
        return max(self._clock() - self._retention_ms, 0)

    def _expire(self, floor_ms: int) -> None:
        for link in self._links.values():
            if link.times[0] < floor_ms:
                link.trim(floor_ms, self._max_samples)
        self._links = {link_id: link for link_id, link in self._links.items() if link.times}

    def _known(self, link_id: str) -> _Link:
        self._expire(self._floor_ms())
        if link_id not in self._links:
            raise LinkUnknownError(link_id)
        return self._links[link_id]


class _Follower:
    """What one reader of announcements has not read yet: the newest prediction of each link."""

    def __init__(self) -> None:
        self._waiting: dict[str, Prediction] = {}
        self._arrived = asyncio.Event()

    def tell(self, prediction: Prediction) -> None:
        self._waiting[prediction.link_id] = prediction
        self._arrived.set()

    async def next(self) -> list[Prediction]:
        await self._arrived.wait()
        self._arrived.clear()
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())
