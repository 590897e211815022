"""What this process remembers of links it has advanced: a cache, checked by what the store counts.

Of each link it keeps the newest samples, those of a stretch around the targets of a day ago, and the learned state.
The store counts the changes of a link's samples and says with every write what it counted before: whoever knew the link
as of that number knows it still with the new samples added. Anything else (another process wrote, a sample came late or
was corrected, an answer was lost) forgets the link, which is then read again. States need no such check, since a commit
is a compare-and-set.

Nothing is changed in place that a computation may be looking at: samples are only added after those that are there, and
a row is used for another link only once nobody has it in use.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online, parts
from pba_service.domain.columns import Columns
from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.online.pending import PATIENCE
from pba_service.domain.online.state import STATE
from pba_service.domain.samples import METRICS
from pba_service.domain.window import CADENCE_INTERVALS, MAX_FILL_SLOTS, horizon_ms
from pba_service.engine.advance import DAY_MS, NO_EXTRA, Links
from pba_service.engine.ports import CHANGES_MODULUS, UNKNOWN_CHANGES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import SampleBatch
    from pba_service.engine.advance import Advanced, Prepared
    from pba_service.engine.ports import PutResult, Snapshot

ROOM = (48, 96)
"""For how many further samples there is room: then a link is read again. Drawn by lot, so that links that came together
are not read again together."""

BACKLOG = 8
"""New samples of a link that it may have since it was last advanced."""

BESIDES = ROOM[1] + 6
"""Samples of the stretch of the day before."""

_ABSENT = -1
_ALWAYS = np.iinfo(np.int64).min


@dataclass(eq=False, slots=True)
class Reading:
    """Links being read from the store, and those of them that were written meanwhile: what was read may lack that."""

    link_ids: frozenset[str]
    written: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Read:
    """A link with samples, and how long before its newest sample it was read from (`Store.snapshots`)."""

    snapshot: Snapshot
    context_ms: int
    besides_ms: tuple[int, int]


def places(slots: int) -> int:
    """Samples that a row has room for, given the slots that models read."""
    recent = slots + CADENCE_INTERVALS + BACKLOG + PRODUCT_HORIZON_MS // 60_000
    return recent + BESIDES + ROOM[1]


def stretches(step_ms: int, slots: int) -> tuple[int, tuple[int, int]]:
    """How much of a link is read: how long before its newest sample, and from and until how long before it besides."""
    context = (slots + CADENCE_INTERVALS + BACKLOG) * step_ms + PRODUCT_HORIZON_MS
    day_before = DAY_MS - int(horizon_ms(np.array([step_ms]), PRODUCT_HORIZON_MS)[0])
    return context, (day_before + 2 * step_ms, day_before - (BESIDES - 4) * step_ms)


class HotLinks:
    """A table of links.

    Attributes:
        places: Samples for which a row has room.
    """

    def __init__(self, max_links: int, places: int, seed: int = 0) -> None:
        """Takes how many links are kept at most. The memory of rows that were never used is not taken."""
        self.places = places
        self._times = np.empty((max_links, places), np.int64)
        self._values = np.empty((max_links, places, len(METRICS)), np.float32)
        self._states = np.empty(max_links, STATE)
        self._extras: list[Mapping[bytes, bytes]] = [NO_EXTRA] * max_links
        self._versions = [0] * max_links
        self._middle = np.empty(max_links, np.intp)  # where the newest samples begin
        self._last = np.empty(max_links, np.intp)
        self._limit = np.empty(max_links, np.intp)
        self._changes = np.empty(max_links, np.int64)
        # From when on each row knows every sample, and the stretch of the day before of which it does as well.
        self._since_ms = np.empty(max_links, np.int64)
        self._besides_ms = np.empty((max_links, 2), np.int64)
        self._row: dict[str, int] = {}
        self._uses = np.zeros(max_links, np.int32)
        self._forgotten: set[int] = set()
        self._free = list(range(max_links - 1, -1, -1))
        self._readings: list[Reading] = []
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Links that are known."""
        return len(self._row)

    def rows(self, link_ids: Iterable[str]) -> list[int]:
        """The row of each link, -1 where it is not known."""
        get = self._row.get
        return [get(link_id, _ABSENT) for link_id in link_ids]

    def forget(self, link_ids: Iterable[str]) -> None:
        """Reads these links again before they are used."""
        for link_id in link_ids:
            row = self._row.pop(link_id, _ABSENT)
            if row == _ABSENT:
                continue
            if self._uses[row]:
                self._forgotten.add(row)
            else:
                self._free.append(row)

    @contextmanager
    def reading(self, link_ids: Iterable[str]) -> Iterator[Reading]:
        """While links are read from the store, to be given to `learn`."""
        reading = Reading(frozenset(link_ids))
        self._readings.append(reading)
        try:
            yield reading
        finally:
            self._readings.remove(reading)

    def learn(self, reading: Reading, read: Sequence[Read]) -> None:
        """Takes over what was read, as far as it fits and was not overtaken."""
        fitting = [
            one
            for one in read
            if one.snapshot.link_id not in reading.written
            and len(one.snapshot.recent) + len(one.snapshot.besides) + ROOM[0] <= self.places
        ]
        self.forget([one.snapshot.link_id for one in fitting])
        self._make_room(len(fitting))
        rows, blobs = [], []
        for one in fitting[: len(self._free)]:
            rows.append(self._free.pop())
            self._row[one.snapshot.link_id] = rows[-1]
            blob, self._extras[rows[-1]] = parts.split(one.snapshot.state.blob)
            blobs.append(blob)
            self._fill(rows[-1], one)
        if rows:
            online.put(self._states, np.array(rows), online.decode(blobs))

    def _fill(self, row: int, one: Read) -> None:
        snapshot, besides, recent = one.snapshot, one.snapshot.besides, one.snapshot.recent
        middle, count = len(besides), len(besides) + len(recent)
        self._times[row, :middle], self._values[row, :middle] = besides.times_ms, besides.values
        self._times[row, middle:count], self._values[row, middle:count] = recent.times_ms, recent.values
        newest = int(recent.times_ms[-1])
        self._middle[row], self._last[row] = middle, count - 1
        self._limit[row] = min(self.places, count + int(self._rng.integers(*ROOM)))
        self._changes[row] = snapshot.changes
        self._versions[row] = snapshot.state.version
        self._besides_ms[row] = newest - one.besides_ms[0], newest - one.besides_ms[1]
        since = newest - one.context_ms
        self._since_ms[row] = since if snapshot.oldest_ms < since else _ALWAYS

    def links(self, link_ids: Sequence[str], rows: NDArray[np.intp]) -> Links:
        """Links as they are now, each once, to be advanced; their states are copies. To be followed by `done`."""
        self._uses[rows] += 1
        return Links(
            link_ids,
            Columns(self._times, self._values, rows, np.zeros_like(rows), self._last[rows]),
            online.take(self._states, rows),
            [self._versions[row] for row in rows.tolist()],
            [self._extras[row] for row in rows.tolist()],
        )

    def covers(self, prepared: Prepared) -> NDArray[np.bool_]:
        """bool[links], whether what is known of links is all that advancing them looks at."""
        columns, windows, place = prepared.links.columns, prepared.windows, prepared.place
        row, step = columns.row[prepared.link], windows.step_ms
        since = self._since_ms[row]
        oldest_ms = windows.made_at_ms - (windows.values.shape[1] + MAX_FILL_SLOTS) * step
        # a forecast that still waits may be as old as that
        seen_ms = online.last_made_at_ms(prepared.links.states)[prepared.link] - PATIENCE * step
        cadence = (place - self._middle[row] >= CADENCE_INTERVALS) | (since == _ALWAYS)
        day_before = windows.made_at_ms + horizon_ms(step, PRODUCT_HORIZON_MS) - DAY_MS
        first, until = day_before - step, day_before + step
        known = (self._besides_ms[row, 0] <= first) & (self._besides_ms[row, 1] >= until)
        enough = (since <= oldest_ms) & (since <= seen_ms) & cadence & (known | (since <= first))
        covered = np.ones(len(columns), np.bool_)
        covered[prepared.link[~enough]] = False
        return covered

    def done(self, links: Links, written: Sequence[Advanced | None]) -> None:
        """Ends what `links` began: `written` are those of the links whose commits the store has taken."""
        rows = links.columns.row
        self._uses[rows] -= 1
        get, versions, extras, kept = self._row.get, self._versions, self._extras, []
        for i, (one, row) in enumerate(zip(written, rows.tolist(), strict=True)):
            if one and (commit := one.commit) and get(commit.link_id) == row and versions[row] == commit.read_version:
                versions[row] += 1
                kept.append(i)
                extras[row] = one.extra
        if len(kept) == len(rows):
            online.put(self._states, rows, links.states)
        else:
            online.put(self._states, rows[kept], online.take(links.states, np.array(kept, np.intp)))
        over = [row for row in self._forgotten if not self._uses[row]]
        self._forgotten.difference_update(over)
        self._free += over

    def written(self, batch: SampleBatch, result: PutResult) -> None:
        """Adds samples that have been stored."""
        link_ids = [link.link_id for link in batch.links]
        for reading in self._readings:
            reading.written.update(reading.link_ids.intersection(link_ids))
        rows, index = np.array(self.rows(link_ids), np.intp), batch.link_index
        known = rows != _ABSENT
        if not known.any():
            return
        changed = result.outcomes != Outcome.DUPLICATE
        count = np.bincount(index[changed], minlength=len(rows))
        before, here = result.changes, self._changes[rows]
        told = known & (before != UNKNOWN_CHANGES)
        current = told & (before == here)
        kept = told & (here == (before + count) % CHANGES_MODULUS)  # a read that was answered first knows them already
        kept |= current & (count == 0)
        single = np.flatnonzero(changed & (current & (count == 1))[index])
        added = self._add(batch, single, rows[index[single]])
        kept[index[added]] = True
        self.forget(link_ids[i] for i in np.flatnonzero(known & ~kept).tolist())

    def _add(self, batch: SampleBatch, samples: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Adds a sample to each of some rows; returns those that were newer than all, and for which there was room."""
        time_ms, place = batch.measured_at_ms[samples], self._last[rows] + 1
        fits = (place < self._limit[rows]) & (time_ms > self._times[rows, place - 1])
        if not fits.all():
            samples, rows, place, time_ms = samples[fits], rows[fits], place[fits], time_ms[fits]
        self._times[rows, place] = time_ms
        # as the store gives them back: one zero, one NaN
        values = np.where(batch.present[samples], batch.values[samples] + np.float32(0), np.float32(np.nan))
        self._values[rows, place] = values
        self._last[rows] = place
        self._changes[rows] = (self._changes[rows] + 1) % CHANGES_MODULUS
        return samples

    def _make_room(self, count: int) -> None:
        """Forgets those known longest, where there is no room for more."""
        short = count - len(self._free)
        if short > 0:
            for link_id in list(self._row)[: max(short, len(self._row) // 16)]:
                self.forget([link_id])
