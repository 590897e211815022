"""Keeps each link's prediction up with its samples.

A link whose samples changed is marked; marked links are advanced many at a time: window, infer in one batch, learn,
write. Links that this process advanced before are remembered (`hot`), so that they need not be read again. Several
batches are under way at a time, so that one is inferred while others are prepared and written. Two replicas may advance
one link at once: the store lets one of them win, and the other reads again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from pba_service.domain.errors import PbaError
from pba_service.domain.forecast import hits, relative_error
from pba_service.engine.batch import Batches
from pba_service.engine.marks import PATIENCE_S, YIELD_S, Marks
from pba_service.engine.models import ModelSet, Router
from pba_service.engine.ports import UNKNOWN_CHANGES, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.samples import SampleBatch
    from pba_service.domain.trials import Settled
    from pba_service.engine.advance import Advanced, Options
    from pba_service.engine.marks import Mark
    from pba_service.engine.ports import Model, PutResult, Snapshot, Store
    from pba_service.observability.metrics import Metrics
    from pba_service.observability.spans import Tracing

UNDER_WAY = 3
"""Batches that are under way at a time: one is prepared, one inferred, one written."""

MAX_ATTEMPTS = 5
"""How often a link is read again because another replica was faster."""

_BACKOFF_S = (0.1, 5.0)

_log = structlog.get_logger(__name__)


class Refresher:
    """Advances links over their new samples.

    Args:
        store: Where the links are.
        options: How they are advanced.
        worker: Runs what takes long, so that the event loop stays free.
        metrics: Told of what is done.
        inference: Runs the models; by default `worker`.
        patience_s: How long few links wait for a batch that is under way.
        yield_s: How long links wait while many samples are being stored.
        tracing: Makes spans of batches; None: nothing does.

    Attributes:
        router: Says which models a link has.
        on_settled: Told, in the event loop, of pairs of forecasts that are tried against each other and have met their
            sample, once their links are committed: each pair once, on one replica.
        on_made: Told of predictions that have been stored, before anybody who waits for their links goes on.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        worker: Executor,
        metrics: Metrics,
        *,
        inference: Executor | None = None,
        tracing: Tracing | None = None,
        patience_s: float = PATIENCE_S,
        yield_s: float = YIELD_S,
    ) -> None:
        self._tracing = tracing
        self.router = Router(store)
        self.on_settled: Callable[[Sequence[Settled]], None] | None = None
        self.on_made: Callable[[Sequence[Prediction]], None] | None = None
        self._store = store
        self._batches = Batches(store, options, worker, inference or worker, tracing)
        self._metrics = metrics
        self._marks = Marks(patience_s=patience_s, yield_s=yield_s)
        self._delay_s = _BACKOFF_S[0]

    def serve_with(self, models: ModelSet) -> None:
        """Predicts with these models from now on; what is being computed ends with those it began with."""
        self.router.models = models
        self._batches.make_room(models.window_slots)
        if models.default:
            self._metrics.model_serving(models.default.info.name, models.default.info.version)

    @property
    def model(self) -> Model | None:
        """The model of links without one of their own."""
        return self.router.models.default

    def mark(self, link_ids: Iterable[str]) -> None:
        """Says that samples of these links changed."""
        self._marks.add(link_ids, self._tracing.here() if self._tracing else None)

    @property
    def marked(self) -> int:
        """Links that wait to be advanced."""
        return len(self._marks)

    def busy_with(self, link_id: str) -> bool:
        """Whether a link waits to be advanced, or is being advanced."""
        return link_id in self._marks

    async def settled(self, link_ids: Iterable[str], timeout_s: float) -> None:
        """Returns once changes of links marked before this call are taken into account or given up, or time is up."""
        if waiting := self._marks.ends(link_ids):
            await asyncio.wait(waiting, timeout=timeout_s)

    def storing(self, samples: int) -> None:
        """So many samples are being stored now; 0: none."""
        self._marks.storing(samples)

    def stored(self, batch: SampleBatch, result: PutResult) -> None:
        """Adds samples that have been stored to what is remembered, and marks their links."""
        self._batches.memory.written(batch, result)
        unsure = (result.changes == UNKNOWN_CHANGES)[batch.link_index]
        touched = np.flatnonzero(np.bincount(batch.link_index[(result.outcomes != Outcome.DUPLICATE) | unsure]))
        self.mark([batch.links[position].link_id for position in touched.tolist()])

    def unsure(self, batch: SampleBatch) -> None:
        """Nobody knows which of these samples have been stored."""
        self.look_again([link.link_id for link in batch.links])

    def look_again(self, link_ids: Sequence[str]) -> None:
        """Marks links of which somebody else may know more than is remembered here."""
        self._batches.memory.forget(link_ids)
        self.mark(link_ids)

    async def run(self) -> None:
        """Advances marked links until cancelled."""
        slots = asyncio.Semaphore(UNDER_WAY)
        self._marks.none_runs()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await slots.acquire()
                taken = await self._marks.take()
                tasks.create_task(self._turn(taken)).add_done_callback(lambda _: slots.release())

    async def _turn(self, taken: dict[str, Mark]) -> None:
        """Advances some marked links; when the store or the model is away, they stay marked, newer marks included."""
        try:
            if self._tracing:
                with self._tracing.batch("refresh", [mark.origin for mark in taken.values()], len(taken)):
                    await self._refresh_marked(list(taken))
            else:
                await self._refresh_marked(list(taken))
            self._delay_s = _BACKOFF_S[0]
            now_s = asyncio.get_running_loop().time()
            for since_s, links in Counter(mark.since_s for mark in taken.values()).items():
                self._metrics.refresh_lag(now_s - since_s, links)
        except PbaError:
            self._metrics.store_failed()
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(self._delay_s * 2, _BACKOFF_S[1])
            self.mark(taken)
        finally:
            self._marks.end(taken)

    async def refresh(self, link_ids: Sequence[str]) -> list[Prediction | PbaError | None]:
        """Advances links now, from what the store knows of them.

        Returns:
            For each its newest prediction, why there is none, or None where the link is unknown.

        Raises:
            StoreUnavailableError: The store is away.
            ModelUnavailableError: No model is loaded.
        """
        self._batches.memory.forget(link_ids)
        return await self._refresh(link_ids)

    async def _refresh(self, link_ids: Sequence[str]) -> list[Prediction | PbaError | None]:
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
            await self._refresh(link_ids)
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
        """Advances and writes; returns the links for which another writer was faster."""
        started = asyncio.get_running_loop().time()
        slots = self.router.models.window_slots
        routes = dict(zip(link_ids, await self.router.routes(link_ids), strict=True))
        parts = await self._batches.compute(link_ids, routes, slots)
        commits = [one.commit for part in parts for one in part.advanced if one.commit]
        won: set[str] = set()
        try:
            taken = await self._store.commit(commits) if commits else []
            won = {commit.link_id for commit, done in zip(commits, taken, strict=True) if done}
        finally:
            for part in parts:
                self._batches.end(part, won)
        lost = [commit.link_id for commit in commits if commit.link_id not in won]
        self._batches.memory.forget(lost)
        for part in parts:
            results.update(zip(part.link_ids, [one.prediction for one in part.advanced], strict=True))
        self._tell([one for part in parts for one in part.advanced], won)
        self._metrics.prediction_latency(asyncio.get_running_loop().time() - started, len(won))
        return lost

    async def read(self, link_ids: list[str], slots: int) -> list[Snapshot]:
        """Snapshots of the known links, each with as much of the past as advancing it by so many slots takes."""
        return await self._batches.read(link_ids, slots)

    def _tell(self, advanced: Sequence[Advanced], won: set[str]) -> None:
        metrics = self._metrics
        metrics.refreshed(len(advanced))
        kept = [one for one in advanced if one.commit is None or one.commit.link_id in won]
        made = [one.commit.prediction for one in kept if one.commit and one.commit.prediction]
        metrics.predictions_made(made)
        if self.on_made:
            self.on_made(made)
        scored = [entry for one in kept if one.commit for entry in one.commit.ledger]
        if scored:
            came = _together([entry.actual for entry in scored])
            said = _together([entry.predicted for entry in scored])
            link_ids = [one.commit.link_id for one in kept if one.commit for _ in one.commit.ledger]
            errors = relative_error(said, came)
            metrics.ledger_scored(link_ids, errors, int(hits(said, came).sum()))
            last = _together([entry.last for entry in scored])
            inside = _together([entry.inside for entry in scored])
            versions = [entry.model_version for entry in scored]
            metrics.skill.judged(versions, errors, relative_error(last, came), inside)
        settled = [one.settled for one in kept if one.settled]
        if settled and self.on_settled:
            self.on_settled(settled)


def _together(rows: Sequence[Any]) -> NDArray[Any]:
    """Arrays of 4 as one of [n, 4]: joined, which takes a fraction of what numpy needs to look at each."""
    return np.concatenate(rows).reshape(len(rows), -1)
