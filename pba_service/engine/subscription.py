"""One subscriber: a slot for each link that holds the newest value not yet given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

from pba_service.domain.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pba_service.domain.forecast import Prediction
    from pba_service.engine.subscriptions import Subscriptions

MAX_PREDICTIONS_PER_UPDATE = 500
"""About 120 KB on the wire: large enough to be cheap, small enough to interleave with other calls."""

SNAPSHOT_PAGE_LINKS = 500
"""Links read from the store at a time while a snapshot is made."""


REGION_RETRY_S = 0.5
"""How long to wait before the regions of links are asked for again while the store is away."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Chooses links: any of the given ways that names a link chooses it."""

    link_ids: frozenset[str] = frozenset()
    prefix: str = ""
    region: str = ""
    all: bool = False

    def names(self, link_id: str) -> bool:
        """Whether the link is chosen whatever its region."""
        return self.all or link_id in self.link_ids or bool(self.prefix and link_id.startswith(self.prefix))


@dataclass(frozen=True, slots=True)
class Update:
    """What a subscriber gets at a time.

    Attributes:
        predictions: The newest value of each link that changed, at most `MAX_PREDICTIONS_PER_UPDATE`. All subscribers
            of a link get the same object, so that what is made of it can be shared.
        skipped_updates: Updates that newer ones overtook before they were taken, since the subscription began.
        snapshot_complete: Whether the newest prediction of each link chosen at the beginning has been given by now.
    """

    predictions: list[Prediction]
    skipped_updates: int
    snapshot_complete: bool


class Subscription:
    """One subscriber. A context manager: leaving it frees its place."""

    def __init__(self, hub: Subscriptions, selector: Selector, min_interval_s: float) -> None:
        self.selector = selector
        self._hub = hub
        self._min_interval_s = min_interval_s
        self._slots: dict[str, Prediction] = {}
        self._unplaced: dict[str, tuple[Prediction, int]] = {}  # with the number of values it overtook
        self._given_ms: dict[str, int] = {}
        self._snapshot_complete = False
        self._skipped = 0
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self)

    @property
    def waiting(self) -> int:
        """Links whose newest value was not taken yet."""
        return len(self._slots)

    def wake(self) -> None:
        """Makes `updates` look again."""
        self._changed.set()

    def offer(self, prediction: Prediction) -> None:
        """Puts a new value into the slot of its link, over one that was not taken yet."""
        waiting = self._slots.get(prediction.link_id)
        if waiting is prediction:  # chosen in two ways
            return
        unplaced = self._unplaced.pop(prediction.link_id, None)
        self._skip((waiting is not None) + (0 if unplaced is None else 1 + unplaced[1]))
        self._slots[prediction.link_id] = prediction
        self._changed.set()

    def offer_together(self, predictions: dict[str, Prediction], overtaken: int) -> None:
        """Puts new values into the slots of their links: all at once, for one who follows every link.

        Args:
            predictions: The newest by link.
            overtaken: Values that came with them and were overtaken by them.
        """
        if not predictions:
            return
        self._skip(overtaken)
        if self._slots:
            self._skip(len(self._slots.keys() & predictions.keys()))
            self._slots.update(predictions)
        else:
            self._slots = predictions.copy()
        self._changed.set()

    def _skip(self, count: int) -> None:
        if count:
            self._skipped += count
            self._hub.on_skipped(count)

    def offer_unplaced(self, prediction: Prediction) -> None:
        """Keeps a new value until the region of its link is known."""
        if self.selector.names(prediction.link_id):
            return
        overtaken = self._unplaced.get(prediction.link_id)
        self._unplaced[prediction.link_id] = prediction, 1 + overtaken[1] if overtaken else 0
        self._changed.set()

    async def updates(self) -> AsyncGenerator[Update, None]:
        """First the newest prediction of each chosen link, then updates, until the hub is closed.

        Raises:
            StoreUnavailableError: The snapshot could not be read.
        """
        async for page in self._snapshot():
            self._offer_snapshot(page)
            while len(self._slots) > MAX_PREDICTIONS_PER_UPDATE:
                yield self._take()
        while len(self._slots) > MAX_PREDICTIONS_PER_UPDATE:
            yield self._take()
        self._snapshot_complete = True
        self._given_ms.clear()
        due_s = self._hub.clock() + self._min_interval_s
        yield self._take()
        while not self._hub.closed.is_set() or self._slots or self._unplaced:
            await self._pause(due_s - self._hub.clock())
            await self._changed.wait()
            self._changed.clear()
            await self._place()
            due_s = self._hub.clock() + self._min_interval_s
            remaining = len(self._slots)  # what comes during the writing of these waits for the next turn
            while remaining > 0:
                update = self._take()
                remaining -= len(update.predictions)
                yield update

    def _take(self) -> Update:
        if len(self._slots) <= MAX_PREDICTIONS_PER_UPDATE:
            predictions = list(self._slots.values())
            self._slots.clear()
        else:
            links = list(islice(self._slots, MAX_PREDICTIONS_PER_UPDATE))
            predictions = [self._slots.pop(link_id) for link_id in links]
        if not self._snapshot_complete:
            self._given_ms.update((p.link_id, p.made_at_ms) for p in predictions)
        return Update(predictions, self._skipped, self._snapshot_complete)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not longer than until the hub is closed."""
        if seconds <= 0:
            return
        waits = (asyncio.ensure_future(self._hub.sleep(seconds)), asyncio.ensure_future(self._hub.closed.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _snapshot(self) -> AsyncIterator[list[Prediction]]:
        """The newest predictions of the chosen links, page by page; a link may come twice."""
        chosen = self.selector
        ids = [] if chosen.all else sorted(chosen.link_ids)
        for start in range(0, len(ids), SNAPSHOT_PAGE_LINKS):
            page = await self._hub.directory.newest(ids[start : start + SNAPSHOT_PAGE_LINKS])
            yield [prediction for prediction in page if prediction]
        if chosen.all:
            filters = [("", "")]
        else:
            filters = [(prefix, "") for prefix in (chosen.prefix,) if prefix]
            filters += [("", region) for region in (chosen.region,) if region]
        for prefix, region in filters:
            after = ""
            while True:
                links = await self._hub.directory.links(
                    prefix=prefix, region=region, after=after, limit=SNAPSHOT_PAGE_LINKS
                )
                for link in links:
                    self._hub.regions.learn(link.info)
                yield [link.newest_prediction for link in links if link.newest_prediction]
                if len(links) < SNAPSHOT_PAGE_LINKS:
                    break
                after = links[-1].info.link_id

    def _offer_snapshot(self, page: list[Prediction]) -> None:
        """Takes over what is newer than all that updates have brought since the subscription began."""
        for prediction in page:
            link_id, made_at_ms = prediction.link_id, prediction.made_at_ms
            waiting = self._slots.get(link_id)
            if waiting is not None and waiting.made_at_ms >= made_at_ms:
                continue
            if self._given_ms.get(link_id, -1) >= made_at_ms:
                continue
            unplaced = self._unplaced.get(link_id)
            if unplaced is not None and unplaced[0].made_at_ms < made_at_ms:
                del self._unplaced[link_id]
            self._hub.advance(prediction)
            self._slots[link_id] = prediction

    async def _place(self) -> None:
        """Moves those waiting for their link's region into slots when it is the chosen one."""
        if not self._unplaced:
            return
        waiting, self._unplaced = self._unplaced, {}
        try:
            regions = await self._hub.regions.of(list(waiting))
        except StoreUnavailableError:
            if self._hub.closed.is_set():
                return
            # The stream outlives it: these are placed once the store answers again, unless newer ones come first.
            self._put_back(waiting)
            await self._pause(REGION_RETRY_S)
            self._changed.set()
            return
        for (link_id, (prediction, overtaken)), region in zip(waiting.items(), regions, strict=True):
            if region != self.selector.region:
                continue
            self._skip(overtaken)
            if link_id in self._slots or link_id in self._unplaced:  # a newer one came during the look-up
                self._skip(1)
            else:
                self._slots[link_id] = prediction

    def _put_back(self, waiting: dict[str, tuple[Prediction, int]]) -> None:
        """Has values wait on whose regions could not be looked up, unless newer ones came during the look-up."""
        for link_id, (prediction, overtaken) in waiting.items():
            if link_id in self._slots:  # another reader has learnt the region meanwhile
                self._skip(1 + overtaken)
            elif link_id in self._unplaced:
                newer, more = self._unplaced[link_id]
                self._unplaced[link_id] = newer, more + 1 + overtaken
            else:
                self._unplaced[link_id] = prediction, overtaken
