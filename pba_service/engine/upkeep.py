"""What the service does on its own: follows announcements, and sweeps for links left behind."""

from __future__ import annotations

import asyncio
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import PbaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pba_service.engine.lastknown import LastKnown
    from pba_service.engine.population import Population
    from pba_service.engine.ports import LinkSummary, Store
    from pba_service.engine.refresh import Refresher
    from pba_service.engine.subscriptions import Subscriptions
    from pba_service.observability.metrics import Metrics

PAGE_LINKS = 500

_log = structlog.get_logger(__name__)


async def pulse(
    metrics: Metrics,
    queues: Mapping[str, Callable[[], int]] = MappingProxyType({}),
    interval_s: float = 0.5,
    memory_s: float = 15.0,
) -> None:
    """Measures how late the event loop is, and counts its tasks and what waits in queues, until cancelled.

    A late loop delays every call.

    Args:
        metrics: Told of the worst of the last `memory_s`.
        queues: By name, what says how long a queue is.
        interval_s: Between two measurements.
        memory_s: See there; at least the interval of those who scrape.
    """
    loop = asyncio.get_running_loop()
    kept = max(1, round(memory_s / interval_s))
    recent: deque[float] = deque(maxlen=kept)
    lengths: dict[str, deque[int]] = {name: deque(maxlen=kept) for name in queues}
    while True:
        due_s = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        recent.append(max(0.0, loop.time() - due_s))
        metrics.loop_lag(max(recent))
        metrics.tasks(len(asyncio.all_tasks()))
        for name, length in queues.items():
            lengths[name].append(length())
            metrics.queue(name, max(lengths[name]))


async def follow(
    store: Store, subscriptions: Subscriptions, metrics: Metrics, last_known: LastKnown | None = None
) -> None:
    """Gives predictions of all replicas to this one's subscribers and memory, until cancelled."""
    async for predictions in store.announcements():
        if last_known is not None:
            last_known.learn(predictions)
        subscriptions.publish(predictions)
        metrics.subscribers(len(subscriptions))


async def recall(store: Store, last_known: LastKnown) -> None:
    """Learns the newest prediction of every link once, where another process sweeps; then waits until cancelled."""
    async for link in all_links(store):
        last_known.recall([link.newest_prediction])
    await asyncio.Event().wait()


async def sweep(
    store: Store,
    refresher: Refresher,
    metrics: Metrics,
    interval_s: float,
    *,
    last_known: LastKnown | None = None,
    population: Population | None = None,
) -> None:
    """Marks links whose newest prediction does not know their newest sample, round after round, until cancelled.

    Pushes mark their links themselves; a sweep finds what a replica had marked when it died.
    """
    while True:
        try:
            behind = await sweep_once(store, refresher, metrics, last_known, population)
        except PbaError as error:
            _log.warning("sweep_failed", reason=str(error))
        else:
            _log.debug("swept", behind=behind)
        await asyncio.sleep(interval_s)


async def sweep_once(
    store: Store,
    refresher: Refresher,
    metrics: Metrics,
    last_known: LastKnown | None = None,
    population: Population | None = None,
) -> int:
    """One round of `sweep`; returns how many links were marked. Links that have expired lose their metrics.

    `last_known` learns all predictions, among them those from before this replica's start; `population` counts them.
    """
    marked = 0
    gone = metrics.labelled_links()
    if population is not None:
        population.begin_round()
    async for link in all_links(store):
        link_id = link.info.link_id
        if last_known is not None:
            last_known.recall([link.newest_prediction])
        if population is not None and link.newest_prediction is not None:
            population.look(link.newest_prediction)
        gone.discard(link_id)
        metrics.link_sample_count(link_id, link.sample_count)
        if len(link.newest_sample):
            newest_ms = int(link.newest_sample.times_ms[-1])
            metrics.link_current(link_id, newest_ms, link.newest_sample.values[-1])
            if link.newest_prediction is None or link.newest_prediction.made_at_ms != newest_ms:
                refresher.look_again([link_id])
                marked += 1
    for link_id in gone:
        metrics.link_forgotten(link_id)
    if population is not None:
        population.end_round()
    return marked


async def all_links(store: Store) -> AsyncIterator[LinkSummary]:
    """Every known link, ordered by id."""
    after = ""
    while page := await store.links(prefix="", region="", after=after, limit=PAGE_LINKS):
        for link in page:
            yield link
        after = page[-1].info.link_id
