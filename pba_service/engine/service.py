"""The use cases of PBA, free of any transport."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.drift import silence
from pba_service.domain.errors import (
    HistoryTooShortError,
    LinkUnknownError,
    ModelUnavailableError,
    PbaError,
    StoreUnavailableError,
)
from pba_service.domain.parameters import ParameterReason, ParametersAnswer
from pba_service.domain.samples import told_sources, validate
from pba_service.domain.window import MIN_SLOTS
from pba_service.engine.advance import predict_window
from pba_service.engine.advice import AdviceOptions, Adviser
from pba_service.engine.api import PushOutcome
from pba_service.engine.ingest import named_once
from pba_service.engine.insight import Insight
from pba_service.engine.lastknown import LastKnown, NeverAway, SilentLinks
from pba_service.engine.ports import Outcome
from pba_service.engine.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.parameters import ParametersAsk, TransportBounds
    from pba_service.domain.samples import Limits, SampleBatch, Series
    from pba_service.engine.advance import Options
    from pba_service.engine.ingest import Ingest
    from pba_service.engine.ports import Clock, LinkSummary, ModelInfo, Snapshot, Store
    from pba_service.engine.refresh import Refresher
    from pba_service.engine.subscriptions import Subscriptions
    from pba_service.observability.metrics import Metrics

SETTLE_TIMEOUT_S = 2.0
"""How long a call waits for samples pushed just before it to be taken into account."""

_REASONS: dict[type[PbaError], ParameterReason] = {
    LinkUnknownError: ParameterReason.UNKNOWN_LINK,
    HistoryTooShortError: ParameterReason.INSUFFICIENT_HISTORY,
    StoreUnavailableError: ParameterReason.STORE_UNAVAILABLE,
    ModelUnavailableError: ParameterReason.MODEL_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides.

    Attributes:
        sample_limits: When a sample may have been measured.
        bounds: Bounds of transport parameters.
        confidence_threshold: Below it transport parameters follow measurements instead of the prediction.
    """

    sample_limits: Limits
    bounds: TransportBounds
    confidence_threshold: float


class PbaService:
    """Pushes, predictions, parameters and queries over one store and one model.

    Args:
        store: The truth.
        ingest: Writes samples; runs elsewhere.
        refresher: Advances links; runs elsewhere.
        subscriptions: Who follows predictions.
        worker: Runs what computes.
        options: How links are advanced.
        policy: What the operator decides.
        clock: Wall-clock time.
        metrics: Told of what is done.
        last_known: What was heard of each link, answered at once, and while the store is away; by default nothing.
    """

    def __init__(
        self,
        *,
        store: Store,
        ingest: Ingest,
        refresher: Refresher,
        subscriptions: Subscriptions,
        worker: Executor,
        options: Options,
        policy: Policy,
        clock: Clock,
        metrics: Metrics,
        last_known: LastKnown | None = None,
    ) -> None:
        self.subscriptions = subscriptions
        self._last_known = last_known or LastKnown(NeverAway(), max_age_ms=0)
        self._silent = SilentLinks()
        self._store = store
        self._ingest = ingest
        self._refresher = refresher
        self._worker = worker
        self._options = options
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        refresher.on_made = self._last_known.learn
        self.insight = Insight(store, refresher, worker, options)
        advice = AdviceOptions(policy.bounds, policy.confidence_threshold, options.base_ms)
        self.transfers = Transfers(
            store=store,
            insight=self.insight,
            predict=self.batch_predict,
            worker=worker,
            clock=clock,
            metrics=metrics,
            max_ahead_ms=policy.sample_limits.max_ahead_ms,
        )
        self._adviser = Adviser(store, self.insight, advice, clock)

    async def push(self, batch: SampleBatch) -> PushOutcome:
        """Stores the good samples of a batch and says what became of each.

        Raises:
            CapacityExceededError: The service is full of waiting samples or of links.
            StoreUnavailableError: The store is away; some of the samples may have been stored.
        """
        good, refusals = validate(batch, self._clock(), self._policy.sample_limits)
        kept = named_once(batch if good.all() else batch.take(good))
        outcomes = await self._ingest.put(kept)
        stored, duplicates, replaced = np.bincount(outcomes, minlength=len(Outcome)).tolist()
        self._metrics.samples_pushed(
            stored=stored, duplicates=duplicates, replaced=replaced, refused=[refusal.reason for refusal in refusals]
        )
        # whoever pushed waits for the answer, and nobody for this
        asyncio.get_running_loop().call_soon(self._observe, kept, outcomes)
        if kept.sources is not None:
            changed = outcomes != Outcome.DUPLICATE
            self._metrics.values_obtained(told_sources(kept.sources[changed], kept.present[changed]))
        return PushOutcome(stored=stored, replaced=replaced, duplicates=duplicates, refusals=refusals)

    async def predict(self, link_id: str) -> Prediction:
        """The prediction of a link from its newest sample.

        Raises:
            LinkUnknownError: No sample of the link is stored.
            HistoryTooShortError: Too little recent history.
            StoreUnavailableError: The store is away.
            ModelUnavailableError: No model is loaded.
        """
        known = self.current(link_id)
        if known is not None:
            return known
        [result] = await self.batch_predict([link_id])
        if isinstance(result, PbaError):
            raise result
        return result

    def current(self, link_id: str) -> Prediction | None:
        """The prediction of a link, where that is known without asking the store.

        It is known while announcements are followed: then what was heard of a link last is its newest prediction. While
        a sample that was pushed here is being taken into account, or if another model serves the link now, it is not.
        Where the link has fallen silent the prediction says so.
        """
        known, now_ms = self._last_known.newest(link_id), self._clock()
        if (
            known is None
            or not self._store.announced
            or self._refresher.busy_with(link_id)
            or known.target_ms < now_ms
            or known.model_version != self._refresher.router.models.version_of(link_id)
        ):
            return None
        quiet = silence(known.made_at_ms, known.step_ms, now_ms)
        return known if quiet is None else self._silent.told(known, quiet)

    def outcomes_heard(self, link_id: str) -> int:
        """A number that changes once outcomes of a link's parameters were reported, as `Store.outcomes_heard` says."""
        return self._store.outcomes_heard(link_id)

    async def batch_predict(self, link_ids: Sequence[str]) -> list[Prediction | PbaError]:
        """The prediction of each link, or why there is none.

        While the store is away what this replica last knew is given, marked as stale.

        Raises:
            StoreUnavailableError: For all together: nothing is known of them, or the store has been away for too long.
        """
        try:
            return await self._predict_now(link_ids)
        except StoreUnavailableError as error:
            stale = self._last_known.answer(link_ids, self._clock(), error)
            self._metrics.stale_reads(sum(not isinstance(one, PbaError) for one in stale))
            return stale

    async def _predict_now(self, link_ids: Sequence[str]) -> list[Prediction | PbaError]:
        if not self._last_known.store_away:
            await self._refresher.settled(link_ids, SETTLE_TIMEOUT_S)
            known = [self.current(link_id) for link_id in link_ids]
            if all(known):
                return [prediction for prediction in known if prediction]
        self._metrics.memory_missed(len(link_ids))
        snapshots = await self._store.snapshots(link_ids, [0] * len(link_ids))
        self._last_known.recall(snapshot.newest for snapshot in snapshots if snapshot)
        behind = await self._behind([snapshot for snapshot in snapshots if snapshot])
        fresh = dict(zip(behind, await self._refresher.refresh(behind), strict=True)) if behind else {}
        now_ms = self._clock()
        return [
            self._judge(link_id, snapshot, fresh.get(link_id, snapshot.newest if snapshot else None), now_ms)
            for link_id, snapshot in zip(link_ids, snapshots, strict=True)
        ]

    async def predict_window(self, link_id: str, series: Series) -> Prediction:
        """The prediction from a caller's own samples; nothing is stored.

        Raises:
            HistoryTooShortError: Fewer than `MIN_SLOTS` consecutive samples.
            ModelUnavailableError: No model is loaded.
        """
        model = self._refresher.model
        if model is None:
            raise ModelUnavailableError
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, predict_window, link_id, series, model, self._options
        )

    async def parameters(self, ask: ParametersAsk) -> ParametersAnswer:
        """Transport parameters of a link; always answers.

        From the prediction where its confidence reaches the threshold, else from the median of the newest measurements,
        else the documented defaults.
        """
        try:
            prediction = await self.predict(ask.link_id)
        except tuple(_REASONS) as error:
            return await self._adviser.advise(ask, None, (_REASONS[type(error)],))
        return await self._adviser.advise(ask, prediction, ())

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`, ordered by id."""
        return await self._store.links(prefix=prefix, region=region, after=after, limit=limit)

    def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link in a time range, in chunks."""
        return self._store.history(link_id, start_ms, end_ms)

    def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """The ledger of a link in a time range, in chunks."""
        return self._store.ledger(link_id, start_ms, end_ms)

    def models(self) -> list[ModelInfo]:
        """The loaded models, the serving one first."""
        return self._refresher.router.models.infos

    async def _behind(self, snapshots: Sequence[Snapshot]) -> list[str]:
        """Links with samples, or a model, that their newest prediction does not know."""
        link_ids = [snapshot.link_id for snapshot in snapshots]
        try:
            routes = await self._refresher.router.routes(link_ids)
        except ModelUnavailableError:
            return [snapshot.link_id for snapshot in snapshots if _is_behind(snapshot, None)]
        return [
            snapshot.link_id
            for snapshot, route in zip(snapshots, routes, strict=True)
            if _is_behind(snapshot, route.serving.info.version)
        ]

    def _judge(
        self, link_id: str, snapshot: Snapshot | None, result: Prediction | PbaError | None, now_ms: int
    ) -> Prediction | PbaError:
        if snapshot is None:
            return LinkUnknownError(link_id)
        if isinstance(result, PbaError):
            return result
        if result is None or result.target_ms < now_ms:
            # Silent for longer than the horizon: what it predicted is past, so nothing is known of its future.
            step_ms = result.step_ms if result else self._options.base_ms
            return HistoryTooShortError(link_id, have=0, need=MIN_SLOTS, retry_after_s=MIN_SLOTS * step_ms / 1000)
        quiet = silence(result.made_at_ms, result.step_ms, now_ms)
        return replace(result, condition=quiet) if quiet else result

    def _observe(self, batch: SampleBatch, outcomes: NDArray[np.uint8]) -> None:
        """Shows the newest of the changed samples of each link as its current values, and counts the new ones."""
        newest = np.flatnonzero(outcomes != Outcome.DUPLICATE)
        links = batch.link_index[newest]
        if not (links[1:] > links[:-1]).all():
            # of a link's samples of the same time the one that was given last comes last
            newest = newest[np.lexsort((batch.measured_at_ms[newest], links))]
            newest = newest[np.diff(batch.link_index[newest], append=-1) != 0]
            links = batch.link_index[newest]
        added = np.bincount(batch.link_index[outcomes == Outcome.STORED], minlength=len(batch.links))[links]
        names = [batch.links[link].link_id for link in links.tolist()]
        self._metrics.links_pushed(names, batch.measured_at_ms[newest], batch.values[newest], added)


def _is_behind(snapshot: Snapshot, model_version: str | None) -> bool:
    """Whether a link has samples, or there is a model, that its newest prediction does not know."""
    newest = snapshot.newest
    return newest is None or newest.made_at_ms != snapshot.recent.times_ms[-1] or newest.model_version != model_version
