"""Samples on their way into the store.

Pushes that arrive while the store is busy are written together in its next round trip, so that a thousand nodes that
push one sample each cost little more than one gateway that pushes a thousand. A push is answered only once the store
has its samples.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog

from pba_service.domain.errors import CapacityExceededError, PbaError
from pba_service.domain.samples import LinkInfo, SampleBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.engine.ports import PutResult, Store
    from pba_service.observability.metrics import Metrics
    from pba_service.observability.spans import Origin, Tracing

MAX_TOGETHER = 10_000
"""Samples written in one round trip, unless a single push has more."""

MAX_WAITING = 200_000
"""Samples that may wait to be written; a push beyond is refused."""

_link_id_of = itemgetter(0)
_log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Who is told what became of batches, before those who pushed them."""

    def storing(self, samples: int) -> None:
        """So many samples are being stored now; 0: none."""
        ...

    def stored(self, batch: SampleBatch, result: PutResult) -> None:
        """A batch has been stored."""
        ...

    def unsure(self, batch: SampleBatch) -> None:
        """Nobody knows what of a batch has been stored."""
        ...


@dataclass(eq=False, slots=True)
class _Waiting:
    """A push and the promise made to its caller."""

    batch: SampleBatch
    outcomes: asyncio.Future[NDArray[np.uint8]]
    origin: Origin | None = None


class Ingest:
    """Writes pushes to the store, many at a time."""

    def __init__(self, store: Store, metrics: Metrics, listener: Listener, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._store = store
        self._listener = listener
        self._metrics = metrics
        self._waiting: list[_Waiting] = []
        self._samples_waiting = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def put(self, batch: SampleBatch) -> NDArray[np.uint8]:
        """Stores validated samples.

        Returns:
            uint8[n], the `Outcome` of each.

        Raises:
            CapacityExceededError: Too much is waiting already, or the store is full of links.
            StoreUnavailableError: The store is away; some of the samples may have been stored.
        """
        if not len(batch):
            return np.empty(0, np.uint8)
        if self._samples_waiting + len(batch) > MAX_WAITING:
            raise CapacityExceededError("samples waiting to be stored", limit=MAX_WAITING, retry_after_s=1.0)
        waiting = _Waiting(
            batch, asyncio.get_running_loop().create_future(), self._tracing.here() if self._tracing else None
        )
        self._waiting.append(waiting)
        self._samples_waiting += len(batch)
        self._idle.clear()
        self._arrived.set()
        return await waiting.outcomes

    @property
    def waiting(self) -> int:
        """Samples that are not stored yet."""
        return self._samples_waiting

    async def run(self) -> None:
        """Writes what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._write(self._take())

    async def drain(self) -> None:
        """Returns once nothing waits any more."""
        await self._idle.wait()

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].batch) <= MAX_TOGETHER):
            taken.append(self._waiting.pop(0))
            size += len(taken[-1].batch)
        return taken

    async def _write(self, taken: Sequence[_Waiting]) -> None:
        try:
            # A caller who has gone before the write began is not served; its samples were never acknowledged.
            live = [waiting for waiting in taken if not waiting.outcomes.done()]
            if live and self._tracing:
                with self._tracing.batch("ingest", [waiting.origin for waiting in live], len(live)):
                    await self._store_together(live)
            elif live:
                await self._store_together(live)
        finally:
            self._listener.storing(0)
            self._samples_waiting -= sum(len(waiting.batch) for waiting in taken)
            if not self._samples_waiting:
                self._idle.set()

    async def _store_together(self, live: Sequence[_Waiting]) -> None:
        together = merge([waiting.batch for waiting in live])
        try:
            self._listener.storing(len(together))
            self._metrics.ingest_batch(len(together))
            result = await self._store.put(together)
            self._listener.stored(together, result)
        except CapacityExceededError as error:
            if len(live) == 1:
                _fail(live, error)
                return
            # One caller's new links must not cost the others their samples.
            for waiting in live:
                await self._store_together([waiting])
            return
        except PbaError as error:
            self._metrics.store_failed()
            self._listener.unsure(together)
            _fail(live, error)
            return
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait; the loop goes on
            _log.exception("ingest_failed", samples=len(together))
            self._listener.unsure(together)
            _fail(live, error)
            return
        sizes = [len(waiting.batch) for waiting in live]
        for waiting, part in zip(live, np.split(result.outcomes, np.cumsum(sizes)[:-1]), strict=True):
            if not waiting.outcomes.done():
                waiting.outcomes.set_result(part)


def merge(batches: Sequence[SampleBatch]) -> SampleBatch:
    """One batch with the samples of several, in order; of what they say of a link the newest non-empty text counts."""
    return batches[0] if len(batches) == 1 else _merged(batches)


def named_once(batch: SampleBatch) -> SampleBatch:
    """A batch that names each link once, as `merge` does: what came with no sample of the batch does not count."""
    if len(set(map(_link_id_of, batch.links))) == len(batch.links):
        return batch
    return replace(_merged([batch]), sources=batch.sources)


def _merged(batches: Sequence[SampleBatch]) -> SampleBatch:
    position: dict[str, int] = {}
    infos: list[LinkInfo] = []
    index: list[NDArray[np.int32]] = []
    differing: set[str] = set()
    for batch in batches:
        places = np.empty(len(batch.links), np.int32)
        for i, info in enumerate(batch.links):
            place = position.setdefault(info.link_id, len(infos))
            if place == len(infos):
                infos.append(info)
            elif info != infos[place]:
                differing.add(info.link_id)
            places[i] = place
        index.append(places[batch.link_index])
    for info in _newest(differing, batches) if differing else ():
        infos[position[info.link_id]] = info
    return SampleBatch(
        tuple(infos),
        np.concatenate(index),
        np.concatenate([batch.measured_at_ms for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        np.concatenate([batch.present for batch in batches]),
    )


def _newest(link_ids: set[str], batches: Sequence[SampleBatch]) -> list[LinkInfo]:
    """What batches say of links: of each text the one that came with the newest sample, as if stored one by one."""
    said: dict[str, list[tuple[int, LinkInfo]]] = {link_id: [] for link_id in link_ids}
    for batch in batches:
        newest = np.full(len(batch.links), -1, np.int64)
        np.maximum.at(newest, batch.link_index, batch.measured_at_ms)
        for info, newest_ms in zip(batch.links, newest.tolist(), strict=True):
            if newest_ms >= 0 and info.link_id in said:
                said[info.link_id].append((newest_ms, info))
    found = []
    for link_id, one in said.items():
        info = LinkInfo(link_id)
        for _, newer in sorted(one, key=lambda told: told[0]):  # stable: of the same time the later given counts
            info = _newer(info, newer)
        found.append(info)
    return found


def _newer(old: LinkInfo, new: LinkInfo) -> LinkInfo:
    return LinkInfo(new.link_id, new.node or old.node, new.peer or old.peer, new.region or old.region)


def _fail(live: Sequence[_Waiting], error: Exception) -> None:
    for waiting in live:
        if not waiting.outcomes.done():
            waiting.outcomes.set_exception(error)
