"""Transfers: how long they would take, and what came of those that were made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba_service.domain.amst.completion import bandwidth_forecast, best, estimates
from pba_service.domain.amst.feedback import correction
from pba_service.domain.errors import InvalidRequestError, PbaError, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Executor

    from pba_service.domain.amst.completion import Estimate, TransferAsk
    from pba_service.domain.amst.feedback import TransferOutcome
    from pba_service.domain.forecast import Prediction
    from pba_service.engine.insight import Insight
    from pba_service.engine.ports import Clock, Store
    from pba_service.observability.metrics import Metrics


@dataclass(frozen=True, slots=True)
class TransferAnswer:
    """How long a transfer would take.

    Attributes:
        estimates: Per link and start.
        refusals: Links without an estimate, and why.
        best: Position of the best estimate; None where there is none.
    """

    estimates: Sequence[Estimate]
    refusals: Sequence[tuple[str, PbaError]]
    best: int | None


@dataclass(frozen=True, slots=True)
class Learned:
    """What an outcome taught.

    Attributes:
        effectiveness: Achieved over expected goodput; None where nothing was expected.
        correction: Of the streams that are recommended for the link.
    """

    effectiveness: float | None
    correction: float


class Transfers:
    """Estimates transfers and remembers outcomes.

    Args:
        store: Keeps the outcomes.
        insight: Knows the path ahead.
        predict: Predicts links, or says why not.
        worker: Runs what computes.
        clock: Wall-clock time.
        metrics: Told of outcomes.
        max_ahead_ms: How far ahead of the clock an outcome may have ended.
    """

    def __init__(
        self,
        *,
        store: Store,
        insight: Insight,
        predict: Callable[[Sequence[str]], Awaitable[list[Prediction | PbaError]]],
        worker: Executor,
        clock: Clock,
        metrics: Metrics,
        max_ahead_ms: int,
    ) -> None:
        self._store = store
        self._insight = insight
        self._predict = predict
        self._worker = worker
        self._clock = clock
        self._metrics = metrics
        self._max_ahead_ms = max_ahead_ms

    async def estimate(self, ask: TransferAsk) -> TransferAnswer:
        """Estimates a transfer on each of its links.

        Raises:
            InvalidRequestError: The window of starts is too long.
            StoreUnavailableError: The store is away.
        """
        starts_ms = ask.starts_ms(self._clock())
        found: list[Estimate] = []
        refusals: list[tuple[str, PbaError]] = []
        for link_id, prediction in zip(ask.link_ids, await self._predict(ask.link_ids), strict=True):
            try:
                found += await self._estimate(ask, prediction, starts_ms)
            except PbaError as error:
                refusals.append((link_id, error))
        return TransferAnswer(found, refusals, best(found))

    async def _estimate(
        self, ask: TransferAsk, prediction: Prediction | PbaError, starts_ms: Sequence[int]
    ) -> list[Estimate]:
        if isinstance(prediction, PbaError):
            raise prediction
        path = await self._insight.path(prediction.link_id)
        forecast = bandwidth_forecast(prediction, [(point.horizon_ms, point.quantiles) for point in path])

        def compute() -> list[Estimate]:
            return estimates(
                forecast, transfer_bytes=ask.transfer_bytes, starts_ms=starts_ms, deadline_ms=ask.deadline_ms
            )

        return await asyncio.get_running_loop().run_in_executor(self._worker, compute)

    async def report(self, outcome: TransferOutcome) -> Learned:
        """Remembers an outcome and says what it taught.

        Raises:
            InvalidRequestError: It ended in the future, where it would be the newest for as long as that lasts.
            LinkUnknownError: No sample of the link is stored.
            StoreUnavailableError: The store is away.
        """
        if outcome.ended_at_ms > self._clock() + self._max_ahead_ms:
            fault = f"is more than {self._max_ahead_ms / 1000:g} s ahead of the server's clock"
            raise InvalidRequestError(Violation("outcome.ended_at", fault))
        await self._store.add_outcome(outcome)
        learned = correction(await self._store.outcomes(outcome.link_id), self._clock())
        self._metrics.outcome_reported(outcome.effectiveness, outcome.retransmitted_ratio)
        return Learned(outcome.effectiveness, learned)

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """The newest outcomes of a link, oldest first. Raises `LinkUnknownError`."""
        return await self._store.outcomes(link_id)
