"""A store that is given up in time: a bound on calls, a deadline for each, and a circuit instead of queues.

While the store is away every call is answered at once; one call at a time, and the health check, find out whether it is
back. So an outage costs callers no time and the service no memory, and a store that comes back is not met by a crowd.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog

from pba_service.domain.errors import PbaError, StoreUnavailableError
from pba_service.storage.circuit import Circuit, CircuitOptions, State
from pba_service.storage.defaults import system_clock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from pba_service.domain.amst.feedback import TransferOutcome
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.samples import LinkInfo, SampleBatch, Series
    from pba_service.engine.ports import Clock, Commit, LinkSummary, PutResult, Snapshot, Store

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How long the store is waited for, and by how many.

    Attributes:
        timeout_s: The longest that one call of the store may last; a call may take several round trips.
        max_calls: Calls under way at a time; more are refused at once.
        circuit: When calls are refused because the store is away.
    """

    timeout_s: float = 5.0
    max_calls: int = 256
    circuit: CircuitOptions = field(default_factory=CircuitOptions)


class GuardedStore:
    """The `Store` of the engine's ports around another one."""

    def __init__(
        self,
        store: Store,
        options: GuardOptions,
        *,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        on_circuit: Callable[[bool], None] = lambda _: None,
        keep: Callable[[SampleBatch], Awaitable[None]] | None = None,
    ) -> None:
        """Guards a store.

        Args:
            store: The store.
            options: How long it is waited for.
            clock: The time.
            monotonic: Seconds, for the circuit.
            on_circuit: Told whether the circuit is open, whenever that changes.
            keep: Returns once a batch that was stored is safe enough to be acknowledged; by default at once.
        """
        self._store = store
        self._options = options
        self._clock = clock
        self._circuit = Circuit(options.circuit, monotonic)
        self._on_circuit = on_circuit
        self._keep = keep or _kept
        self._calls = 0
        self._open = False
        self.answered_at_ms = 0
        """When the store last answered, in ms since the epoch; 0: never."""

    @property
    def away(self) -> bool:
        """Whether calls are refused now, or are probes."""
        return self._circuit.state is not State.CLOSED

    async def put(self, batch: SampleBatch) -> PutResult:
        """Stores samples, as `Store.put` says; returns once they are kept as safe as is wanted."""
        result = await self._call(lambda: self._store.put(batch))
        # Outside the circuit: replicas that lag tell nothing of reads.
        await self._keep(batch)
        return result

    async def snapshots(
        self, link_ids: Sequence[str], context_ms: Sequence[int], besides_ms: Sequence[tuple[int, int]] | None = None
    ) -> list[Snapshot | None]:
        """Reads what predictions are made from, as `Store.snapshots` says."""
        return await self._call(lambda: self._store.snapshots(link_ids, context_ms, besides_ms))

    async def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Writes states, predictions and ledger entries, as `Store.commit` says."""
        return await self._call(lambda: self._store.commit(commits))

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        return await self._call(lambda: self._store.newest(link_ids))

    async def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link, as `Store.history` says."""
        async for series in self._each(self._store.history(link_id, start_ms, end_ms)):
            yield series

    async def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """The ledger of a link, as `Store.ledger` says."""
        async for entries in self._each(self._store.ledger(link_id, start_ms, end_ms)):
            yield entries

    async def add_outcome(self, outcome: TransferOutcome) -> None:
        """Stores an outcome, as `Store.add_outcome` says."""
        await self._call(lambda: self._store.add_outcome(outcome))

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """The newest outcomes of a link, as `Store.outcomes` says."""
        return await self._call(lambda: self._store.outcomes(link_id))

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links in order of their ids, as `Store.links` says."""
        return await self._call(lambda: self._store.links(prefix=prefix, region=region, after=after, limit=limit))

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link."""
        return await self._call(lambda: self._store.link_infos(link_ids))

    async def link_count(self, prefix: str) -> int:
        """How many links have ids that begin so."""
        return await self._call(lambda: self._store.link_count(prefix))

    def announcements(self) -> AsyncIterator[list[Prediction]]:
        """Predictions as any replica commits them; these wait for the store by themselves."""
        return self._store.announcements()

    def outcomes_heard(self, link_id: str) -> int:
        """A number that changes with the outcomes of a link, as `Store.outcomes_heard` says."""
        return self._store.outcomes_heard(link_id)

    @property
    def announced(self) -> bool:
        """Whether announcements up to a few seconds ago have been given to somebody."""
        return self._store.announced and not self.away

    async def check(self) -> None:
        """Returns when the store can be written and read now. Asks it whatever the circuit says, and tells that."""
        probe = self.away and self._circuit.enter()
        known = False
        try:
            await self._store.check()
            known = True
            self._answered()
        except StoreUnavailableError:
            known = True
            self._failed(probe=probe)
            raise
        finally:
            if not known and probe:
                self._circuit.abandoned()

    async def close(self) -> None:
        """Frees connections."""
        await self._store.close()

    async def _call(self, work: Callable[[], Awaitable[_T]]) -> _T:
        async with self._judged():
            return await work()

    async def _each(self, found: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        """Every chunk is a call of its own: how long a caller takes between two of them is not the store's fault."""
        while True:
            async with self._judged():
                try:
                    chunk = await anext(found)
                except StopAsyncIteration:
                    return
            yield chunk

    @asynccontextmanager
    async def _judged(self) -> AsyncIterator[None]:
        """Around one call: whether it may begin, how long it may last, and what its end says of the store."""
        if self._calls >= self._options.max_calls:
            raise StoreUnavailableError(retry_after_s=self._options.timeout_s / 2)
        probe = self.away
        if not self._circuit.enter():
            raise StoreUnavailableError(retry_after_s=self._circuit.retry_after_s)
        self._calls += 1
        known = False
        try:
            async with asyncio.timeout(self._options.timeout_s):
                yield
        except (StoreUnavailableError, TimeoutError) as error:
            known = True
            self._failed(probe=probe)
            if isinstance(error, TimeoutError):
                _log.warning("store_failed", error=f"no answer in {self._options.timeout_s:g} s")
                raise StoreUnavailableError from error
            raise
        except PbaError:  # such as an unknown link: the store has answered
            known = True
            self._answered()
            raise
        else:
            known = True
            self._answered()
        finally:
            self._calls -= 1
            if not known and probe:  # another call that is given up says nothing of the probe under way
                self._circuit.abandoned()

    def _answered(self) -> None:
        self.answered_at_ms = self._clock()
        self._circuit.succeeded()
        if self._open:
            self._open = False
            _log.info("store_circuit_closed")
            self._on_circuit(False)  # noqa: FBT003 - the one thing that it is told

    def _failed(self, *, probe: bool) -> None:
        self._circuit.failed(probe=probe)
        if not self._open and self._circuit.state is State.OPEN:
            self._open = True
            _log.warning("store_circuit_opened", last_answer_ms=self.answered_at_ms)
            self._on_circuit(True)  # noqa: FBT003 - the one thing that it is told


async def _kept(_batch: SampleBatch) -> None:
    return
