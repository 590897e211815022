"""Keeps each link's prediction up with its samples.

A link whose samples changed is marked; marked links are advanced many at a time: read, infer in one batch, write. Two
replicas may advance one link at once: the store lets one of them win, and the other reads again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import HistoryTooShortError, PbaError
from pba_service.engine.advance import Advanced, Options, advance, context_ms, wanted_context_ms
from pba_service.engine.models import ModelSet, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.trials import Settled
    from pba_service.engine.ports import Model, Snapshot, Store
    from pba_service.observability.metrics import Metrics

MAX_TOGETHER = 64
"""Links advanced at a time; larger batches gain nothing in inference."""

MAX_ATTEMPTS = 5
"""How often a link is read again because another replica was faster."""

_BACKOFF_S = (0.1, 5.0)
_CADENCES_KEPT = 200_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A link whose samples changed: done when that has been taken into account, since when it waits."""

    done: asyncio.Future[None]
    since_s: float


class Refresher:
    """Advances links over their new samples.

    Args:
        store: Where the links are.
        options: How they are advanced.
        worker: Runs the computing, so that the event loop stays free.
        metrics: Told of what is done.

    Attributes:
        router: Says which models a link has.
        on_settled: Told, in the event loop, of pairs of forecasts that are tried against each other and have met their
            sample, once their links are committed: each pair once, on one replica.
    """

    def __init__(self, store: Store, options: Options, worker: Executor, metrics: Metrics) -> None:
        self.router = Router(store)
        self.on_settled: Callable[[Sequence[Settled]], None] | None = None
        self._store = store
        self._options = options
        self._worker = worker
        self._metrics = metrics
        self._marked: dict[str, _Mark] = {}
        self._running: dict[str, _Mark] = {}
        self._arrived = asyncio.Event()
        # What a link's cadence was when last looked at: only a guess of how much of its past to read first.
        self._cadence_ms: dict[str, int] = {}

    def serve_with(self, models: ModelSet) -> None:
        """Predicts with these models from now on; what is being computed ends with those it began with."""
        self.router.models = models
        if models.default:
            self._metrics.model_serving(models.default.info.name, models.default.info.version)

    @property
    def model(self) -> Model | None:
        """The model of links without one of their own."""
        return self.router.models.default

    def mark(self, link_ids: Iterable[str]) -> None:
        """Says that samples of these links changed."""
        loop = asyncio.get_running_loop()
        for link_id in link_ids:
            if link_id not in self._marked:
                self._marked[link_id] = _Mark(loop.create_future(), loop.time())
        if self._marked:
            self._arrived.set()

    @property
    def marked(self) -> int:
        """Links that wait to be advanced."""
        return len(self._marked)

    async def settled(self, link_ids: Iterable[str], timeout_s: float) -> None:
        """Returns once changes of links marked before this call are taken into account or given up, or time is up."""
        waiting = [
            mark.done for link_id in link_ids if (mark := self._marked.get(link_id) or self._running.get(link_id))
        ]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)

    async def run(self) -> None:
        """Advances marked links until cancelled."""
        delay_s = _BACKOFF_S[0]
        while True:
            await self._arrived.wait()
            self._running = self._take()
            try:
                await self._refresh_marked(list(self._running))
                delay_s = _BACKOFF_S[0]
                now = asyncio.get_running_loop().time()
                for mark in self._running.values():
                    self._metrics.refresh_lag(now - mark.since_s)
            except PbaError:
                # The store or the model is away: the links stay marked, newer marks included, and are tried again.
                self._metrics.store_failed()
                self.mark(self._running)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _BACKOFF_S[1])
            finally:
                for mark in self._running.values():
                    mark.done.set_result(None)
                self._running = {}

    async def refresh(self, link_ids: Sequence[str]) -> list[Prediction | PbaError | None]:
        """Advances links now.

        Returns:
            For each its newest prediction, why there is none, or None where the link is unknown.

        Raises:
            StoreUnavailableError: The store is away.
            ModelUnavailableError: No model is loaded.
        """
        results: dict[str, Prediction | PbaError | None] = {}
        left = list(dict.fromkeys(link_ids))
        for _ in range(MAX_ATTEMPTS):
            left = await self._attempt(left, results)
            if not left:
                break
            self._metrics.commit_conflicts(len(left))
        return [results.get(link_id) for link_id in link_ids]

    async def _refresh_marked(self, link_ids: list[str]) -> None:
        try:
            await self.refresh(link_ids)
        except PbaError:
            raise
        except Exception:  # noqa: BLE001 - logged below; the loop and the other links go on
            if len(link_ids) == 1:
                _log.exception("refresh_failed", link_id=link_ids[0])
                return
            # One link that cannot be advanced must not hold up the others.
            for link_id in link_ids:
                await self._refresh_marked([link_id])

    async def _attempt(self, link_ids: list[str], results: dict[str, Prediction | PbaError | None]) -> list[str]:
        """One read, advance, write; returns the links for which another writer was faster."""
        slots = self.router.models.window_slots
        routes = dict(zip(link_ids, await self.router.routes(link_ids), strict=True))
        snapshots = await self.read(link_ids, slots)
        if not snapshots:
            return []
        chosen = [routes[snapshot.link_id] for snapshot in snapshots]
        loop = asyncio.get_running_loop()
        started = loop.time()
        advanced = await loop.run_in_executor(self._worker, advance, snapshots, chosen, self._options)
        self._metrics.refreshed(len(snapshots))
        commits = [one.commit for one in advanced if one.commit]
        won = dict(zip([commit.link_id for commit in commits], await self._store.commit(commits), strict=True))
        lost, settled = [], []
        for snapshot, one in zip(snapshots, advanced, strict=True):
            results[snapshot.link_id] = one.prediction
            if one.commit and not won[snapshot.link_id]:
                lost.append(snapshot.link_id)
            else:
                self._tell(snapshot, one)
                if one.settled:
                    settled.append(one.settled)
        if settled and self.on_settled:
            self.on_settled(settled)
        self._metrics.prediction_latency(loop.time() - started, len(commits) - len(lost))
        return lost

    async def read(self, link_ids: list[str], slots: int) -> list[Snapshot]:
        """Snapshots of the known links, each with as much of the past as advancing it by so many slots takes."""
        asked = [context_ms(self._cadence_ms.get(link_id, self._options.base_ms), slots) for link_id in link_ids]
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

    def _take(self) -> dict[str, _Mark]:
        taken = {link_id: self._marked.pop(link_id) for link_id in list(self._marked)[:MAX_TOGETHER]}
        if not self._marked:
            self._arrived.clear()
        return taken

    def _tell(self, snapshot: Snapshot, one: Advanced) -> None:
        if len(self._cadence_ms) >= _CADENCES_KEPT:
            self._cadence_ms.clear()
        self._cadence_ms[snapshot.link_id] = one.step_ms
        for entry in one.commit.ledger if one.commit else ():
            self._metrics.ledger_scored(snapshot.link_id, entry)
        if not isinstance(one.prediction, HistoryTooShortError):
            self._metrics.prediction_made(one.prediction)
