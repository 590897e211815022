"""Live predictions for subscribers: one slot per link and subscriber that holds the newest value not yet given.

A subscriber that reads slowly loses the values in between, and is told how many; nobody queues. A subscriber is
registered before its snapshot is read, so that no update falls between the two, and a value is never followed by an
older one of the same link.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from pba_service.domain.errors import CapacityExceededError
from pba_service.engine.regions import Regions
from pba_service.engine.subscription import Selector, Subscription, Update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.samples import LinkInfo
    from pba_service.engine.ports import LinkSummary

__all__ = ["Directory", "Selector", "Subscription", "Subscriptions", "Update"]

ORDER_MEMORY_S = 60.0
"""How long an update may be late and still be recognised as older than one already seen."""


class Directory(Protocol):
    """The part of the store that subscriptions read."""

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        ...

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`, ordered by id, at most `limit`."""
        ...

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link."""
        ...


class Subscriptions:
    """All subscribers of one process. Not thread-safe: everything happens on one event loop."""

    def __init__(
        self,
        directory: Directory,
        *,
        max_subscribers: int = 1000,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_skipped: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Creates an empty hub.

        Args:
            directory: Where snapshots and regions are read.
            max_subscribers: One more is refused.
            clock: Monotonic seconds.
            sleep: Waits for some of those seconds.
            on_skipped: Told of updates that a subscriber was too slow for.
        """
        self.directory = directory
        self.regions = Regions(directory.link_infos, clock)
        self.clock = clock
        self.sleep = sleep
        self.on_skipped = on_skipped
        self.closed = asyncio.Event()
        self._max_subscribers = max_subscribers
        self._subscribers: set[Subscription] = set()
        self._all: set[Subscription] = set()
        self._by_id: dict[str, set[Subscription]] = {}
        self._by_prefix: dict[str, set[Subscription]] = {}
        self._by_region: dict[str, set[Subscription]] = {}
        self._prefix_lengths: tuple[int, ...] = ()
        self._seen: dict[str, tuple[int, float]] = {}

    def longest_wait(self) -> int:
        """The links whose newest value the slowest subscriber has not taken yet."""
        return max((subscriber.waiting for subscriber in self._subscribers), default=0)

    def __len__(self) -> int:
        """Number of subscribers."""
        return len(self._subscribers)

    def subscribe(self, selector: Selector, *, min_interval_s: float = 0.0) -> Subscription:
        """A new subscription, to be used as a context manager.

        Args:
            selector: The links.
            min_interval_s: Least time between updates. What changes meanwhile comes together; more links than fit
                one update come in several that follow each other directly, and so does the snapshot.

        Raises:
            CapacityExceededError: There are as many subscribers as the process admits.
        """
        if len(self._subscribers) >= self._max_subscribers:
            raise CapacityExceededError("subscribers of one server", limit=self._max_subscribers)
        subscription = Subscription(self, selector, min_interval_s)
        self._subscribers.add(subscription)
        for index, key in self._places(selector):
            index.setdefault(key, set()).add(subscription)
        if selector.all:
            self._all.add(subscription)
        self._prefix_lengths = tuple({len(prefix) for prefix in self._by_prefix})
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Forgets a subscriber; a second time does nothing."""
        if subscription not in self._subscribers:
            return
        self._subscribers.discard(subscription)
        self._all.discard(subscription)
        for index, key in self._places(subscription.selector):
            index[key].discard(subscription)
            if not index[key]:
                del index[key]
        self._prefix_lengths = tuple({len(prefix) for prefix in self._by_prefix})
        if not self._subscribers:
            self._seen.clear()

    def _places(self, selector: Selector) -> Iterable[tuple[dict[str, set[Subscription]], str]]:
        """The indices and keys under which a subscriber is found; a subscriber of all links is in none of them."""
        if selector.all:
            return
        for link_id in selector.link_ids:
            yield self._by_id, link_id
        if selector.prefix:
            yield self._by_prefix, selector.prefix
        if selector.region:
            yield self._by_region, selector.region

    def publish(self, predictions: Iterable[Prediction]) -> None:
        """Gives new predictions to those who chose their links. Costs time for each interested subscriber only."""
        if not self._subscribers or self.closed.is_set():
            return
        fresh = [prediction for prediction in predictions if self.advance(prediction)]
        if self._all:
            together = {prediction.link_id: prediction for prediction in fresh}
            for subscription in self._all:
                subscription.offer_together(together, len(fresh) - len(together))
        if len(self._subscribers) > len(self._all):
            for prediction in fresh:
                self._deliver(prediction)

    def _deliver(self, prediction: Prediction) -> None:
        link_id = prediction.link_id
        for subscription in self._by_id.get(link_id, ()):
            subscription.offer(prediction)
        for length in self._prefix_lengths:
            for subscription in self._by_prefix.get(link_id[:length], ()):
                subscription.offer(prediction)
        if not self._by_region:
            return
        region = self.regions.known(link_id)
        if region is not None:
            for subscription in self._by_region.get(region, ()):
                subscription.offer(prediction)
            return
        for group in self._by_region.values():
            for subscription in group:
                subscription.offer_unplaced(prediction)

    def advance(self, prediction: Prediction) -> bool:
        """Notes that a prediction was seen; False when a newer one of its link was seen within `ORDER_MEMORY_S`."""
        now = self.clock()
        while self._seen:
            link_id = next(iter(self._seen))
            if self._seen[link_id][1] > now - ORDER_MEMORY_S:
                break
            del self._seen[link_id]
        made_at_ms, _ = self._seen.get(prediction.link_id, (prediction.made_at_ms, now))
        if prediction.made_at_ms < made_at_ms:
            return False
        self._seen.pop(prediction.link_id, None)  # so that the oldest seen stays in front
        self._seen[prediction.link_id] = (prediction.made_at_ms, now)
        return True

    def close(self) -> None:
        """Ends all subscriptions once they have given what they hold; later ones end at once. Idempotent."""
        self.closed.set()
        for subscription in self._subscribers:
            subscription.wake()
