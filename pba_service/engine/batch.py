"""Advancing a batch of links, up to what is to be written: from what is remembered of them, else from the store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.engine import hot
from pba_service.engine.advance import (
    Advanced,
    Options,
    advance,
    by_route,
    context_ms,
    finish,
    infer,
    prepare,
    wanted_context_ms,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from concurrent.futures import Executor

    from pba_service.engine.advance import Links, Prepared
    from pba_service.engine.models import Route
    from pba_service.engine.ports import Snapshot, Store
    from pba_service.engine.trying import Outputs
    from pba_service.observability.spans import Tracing

MAX_HOT_LINKS = 100_000
"""Links that are remembered: about 14 KB each."""

UNFIT_FOR = 4
"""How often a link that cannot be advanced from what is remembered is read as a whole before that is tried again."""

AT_ONCE = 256
"""Windows that links are advanced over on the event loop; what takes longer (a backlog, a history) is left to a thread,
so that callers are answered meanwhile."""

_CADENCES_KEPT = 200_000
_UNFIT_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Computed:
    """Links that have been advanced and not written yet; `remembered` are the same links where `memory` gave them."""

    link_ids: Sequence[str]
    advanced: Sequence[Advanced]
    remembered: Links | None = None
    memory: hot.HotLinks | None = None


class Batches:
    """Computes batches.

    Args:
        store: Where the links are.
        options: How they are advanced.
        worker: Runs what takes long.
        inference: Runs the models.

    Attributes:
        memory: What is remembered of links.
    """

    def __init__(
        self, store: Store, options: Options, worker: Executor, inference: Executor, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing
        self.memory = hot.HotLinks(0, 0)
        self._store = store
        self._options = options
        self._worker = worker
        self._inference = inference
        # What a link's cadence was when last looked at: only a guess of how much of its past to read first.
        self._cadence_ms: dict[str, int] = {}
        self._unfit: dict[str, int] = {}

    def make_room(self, slots: int) -> None:
        """Remembers as much of links as models need that read so many slots."""
        if hot.places(slots) > self.memory.places:
            self.memory = hot.HotLinks(MAX_HOT_LINKS, hot.places(slots))

    async def compute(self, link_ids: Sequence[str], routes: Mapping[str, Route], slots: int) -> list[Computed]:
        """Advances links by their models; to be followed by `end` of each part. Unknown links are left out.

        Args:
            link_ids: The links, each once.
            routes: The models of each.
            slots: The slots of the longest-sighted model.
        """
        await self._remember(link_ids, slots)
        memory = self.memory
        known = {link_id: row for link_id, row in zip(link_ids, memory.rows(link_ids), strict=True) if row >= 0}
        names = list(known)
        parts: list[Computed] = []
        rest = [link_id for link_id in link_ids if link_id not in known]
        in_use: list[Links] = []
        try:
            jobs = []
            for positions in by_route([routes[link_id] for link_id in names]):
                group = [names[i] for i in positions]
                prepared, unfit = self._prepare(group, [known[link_id] for link_id in group], routes[group[0]])
                rest += unfit
                if prepared:
                    jobs.append(prepared)
                    in_use.append(prepared.links)
            for prepared in jobs:
                advanced = await self._finish(prepared, await self._infer(prepared))
                parts.append(Computed(prepared.links.link_ids, advanced, prepared.links, memory))
            if rest:
                parts.append(await self._from_store(rest, routes, slots))
        except BaseException:
            for links in in_use:
                memory.done(links, [None] * len(links.link_ids))
            raise
        return parts

    async def _infer(self, prepared: Prepared) -> Outputs:
        work = asyncio.get_running_loop().run_in_executor(self._inference, infer, prepared)
        if self._tracing is None:
            return await work
        with self._tracing.step("inference", **{"pba.batch.size": len(prepared.links.link_ids)}):
            return await work

    async def _finish(self, prepared: Prepared, outputs: Outputs) -> list[Advanced]:
        if len(prepared.link) <= AT_ONCE:
            return finish(prepared, outputs)
        return await asyncio.get_running_loop().run_in_executor(self._worker, finish, prepared, outputs)

    def end(self, part: Computed, won: Collection[str]) -> None:
        """Takes over what became of a part; `won` are the links whose commits the store has taken."""
        if part.remembered is not None and part.memory is not None:  # which is false while it knows no link
            written = [one if one.commit and one.commit.link_id in won else None for one in part.advanced]
            part.memory.done(part.remembered, written)
        if len(self._cadence_ms) > _CADENCES_KEPT:
            self._cadence_ms.clear()
        self._cadence_ms.update(zip(part.link_ids, [one.step_ms for one in part.advanced], strict=True))

    async def read(self, link_ids: Sequence[str], slots: int) -> list[Snapshot]:
        """Snapshots of the known links, each with as much of the past as advancing it by so many slots takes."""
        asked = [context_ms(self._cadence(link_id), slots) for link_id in link_ids]
        found = await self._store.snapshots(link_ids, asked)
        snapshots = {snapshot.link_id: snapshot for snapshot in found if snapshot and len(snapshot.recent)}
        more = {
            link_id: wanted
            for link_id, context in zip(link_ids, asked, strict=True)
            if link_id in snapshots
            and (wanted := wanted_context_ms(snapshots[link_id], slots, self._options)) > context
        }
        if more:
            again = await self._store.snapshots(list(more), list(more.values()))
            snapshots |= {snapshot.link_id: snapshot for snapshot in again if snapshot and len(snapshot.recent)}
        return list(snapshots.values())

    def _prepare(self, link_ids: list[str], rows: list[int], route: Route) -> tuple[Prepared | None, list[str]]:
        """The windows of links that are remembered, and those of them for which that is not enough."""
        memory = self.memory
        links = memory.links(link_ids, np.array(rows, np.intp))
        prepared = prepare(links, route, self._options)
        covered = memory.covers(prepared)
        if covered.all():
            return prepared, []
        memory.done(links, [None] * len(link_ids))
        unfit = [link_id for link_id, enough in zip(link_ids, covered.tolist(), strict=True) if not enough]
        if len(self._unfit) > _UNFIT_KEPT:
            self._unfit.clear()
        self._unfit |= dict.fromkeys(unfit, UNFIT_FOR)
        memory.forget(unfit)
        if len(unfit) == len(link_ids):
            return None, unfit
        links = memory.links([link_ids[i] for i in np.flatnonzero(covered)], np.array(rows, np.intp)[covered])
        return prepare(links, route, self._options), unfit

    async def _remember(self, link_ids: Sequence[str], slots: int) -> None:
        """Reads those links that are not remembered yet and may be."""
        memory = self.memory
        missing = [link_id for link_id, row in zip(link_ids, memory.rows(link_ids), strict=True) if row < 0]
        if self._unfit:
            missing = [link_id for link_id in missing if not self._is_unfit(link_id)]
        if not missing:
            return
        asked = [hot.stretches(self._cadence(link_id), slots) for link_id in missing]
        with memory.reading(missing) as reading:
            found = await self._store.snapshots(missing, [context for context, _ in asked], [b for _, b in asked])
            memory.learn(
                reading,
                [
                    hot.Read(snapshot, *stretches)
                    for snapshot, stretches in zip(found, asked, strict=True)
                    if snapshot and len(snapshot.recent)
                ],
            )

    def _is_unfit(self, link_id: str) -> bool:
        left = self._unfit.pop(link_id, 0)
        if left > 1:
            self._unfit[link_id] = left - 1
        return left > 0

    def _cadence(self, link_id: str) -> int:
        return self._cadence_ms.get(link_id, self._options.base_ms)

    async def _from_store(self, link_ids: Sequence[str], routes: Mapping[str, Route], slots: int) -> Computed:
        snapshots = await self.read(link_ids, slots)
        names = [snapshot.link_id for snapshot in snapshots]
        chosen = [routes[name] for name in names]
        loop = asyncio.get_running_loop()
        advanced = await loop.run_in_executor(self._worker, advance, snapshots, chosen, self._options)
        return Computed(names, advanced)
