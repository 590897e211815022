"""The newest prediction of each link that this replica has heard of: to answer at once, and while the store is away."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pba_service.domain.errors import HistoryTooShortError, PbaError, StoreUnavailableError
from pba_service.domain.window import MIN_SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pba_service.domain.drift import Condition
    from pba_service.domain.forecast import Prediction
    from pba_service.domain.samples import LinkInfo
    from pba_service.engine.ports import Clock, LinkSummary
    from pba_service.engine.subscriptions import Directory

MAX_LINKS = 100_000
"""Links remembered, about 1 KB each; those that were not heard of for longest make room."""


class StoreWatch(Protocol):
    """What is known of the store without asking it."""

    @property
    def away(self) -> bool:
        """Whether calls of it would be refused, or are probes."""
        ...

    @property
    def answered_at_ms(self) -> int:
        """When it last answered, in ms since the epoch; 0: never."""
        ...


class NeverAway:
    """The watch of a store that is always asked."""

    away = False
    answered_at_ms = 0


class LastKnown:
    """Newest predictions, told to this replica by the store as long as that answered.

    A link of which nothing came for a while is no less known: every prediction of every replica is announced, so what
    is remembered was the newest until the store stopped answering. That moment is what an answer is marked with.

    Args:
        watch: Says whether and since when the store is away.
        max_age_ms: How long after the store's last answer predictions are still given; 0: never.
        max_links: Links remembered.
    """

    def __init__(self, watch: StoreWatch, *, max_age_ms: int, max_links: int = MAX_LINKS) -> None:
        self._watch = watch
        self._max_age_ms = max_age_ms
        self._max_links = max_links
        self._newest: OrderedDict[str, Prediction] = OrderedDict()

    @property
    def store_away(self) -> bool:
        """Whether the store need not be asked."""
        return self._watch.away

    def recall(self, predictions: Iterable[Prediction | None]) -> None:
        """Remembers predictions that were read from the store, where nothing as new is known.

        Of the same sample what is known may be newer: a correction can have been announced since they were read.
        """
        self.learn(one for one in predictions if one and not self._knows(one))

    def _knows(self, prediction: Prediction) -> bool:
        known = self._newest.get(prediction.link_id)
        return known is not None and known.made_at_ms >= prediction.made_at_ms

    def learn(self, predictions: Iterable[Prediction | None]) -> None:
        """Remembers predictions as they are announced.

        One that says what is known already changes nothing: what rests on the known one, such as plans of parameters,
        holds on when all of them are read again.
        """
        for prediction in predictions:
            if prediction is None:
                continue
            known = self._newest.get(prediction.link_id)
            if known is None or known.made_at_ms <= prediction.made_at_ms:
                if known is None or not _same(known, prediction):
                    self._newest[prediction.link_id] = prediction
                self._newest.move_to_end(prediction.link_id)
        while len(self._newest) > self._max_links:
            self._newest.popitem(last=False)

    def newest(self, link_id: str) -> Prediction | None:
        """What was heard of a link last."""
        return self._newest.get(link_id)

    def answer(self, link_ids: Sequence[str], now_ms: int, error: StoreUnavailableError) -> list[Prediction | PbaError]:
        """What can be said of each link without the store.

        Args:
            link_ids: The links.
            now_ms: The time.
            error: Why the store could not be asked.

        Returns:
            For each its prediction, marked, or `error` where nothing is known of it.

        Raises:
            StoreUnavailableError: `error`, when the store has been away for too long or none of the links is known.
        """
        since_ms = self._watch.answered_at_ms
        known = [self._newest.get(link_id) for link_id in link_ids]
        if now_ms - since_ms > self._max_age_ms or not any(known):
            raise error
        return [_judged(prediction, now_ms, since_ms) if prediction else error for prediction in known]


def _same(known: Prediction, told: Prediction) -> bool:
    """Whether two predictions of a link are the same, as far as that is quickly told; where it is not, they are not."""
    return known is told or (
        known.made_at_ms == told.made_at_ms
        and known.model_version == told.model_version
        and known.confidence == told.confidence
        and known.condition == told.condition
        and known.values.tobytes() == told.values.tobytes()
        and known.quantiles.tobytes() == told.quantiles.tobytes()
    )


def _judged(prediction: Prediction, now_ms: int, since_ms: int) -> Prediction | PbaError:
    if prediction.target_ms < now_ms:
        step_s = prediction.step_ms / 1000
        return HistoryTooShortError(prediction.link_id, have=0, need=MIN_SLOTS, retry_after_s=MIN_SLOTS * step_s)
    return replace(prediction, stale_since_ms=since_ms)


class SilentLinks:
    """Predictions of links that have fallen silent, which say so.

    The same object is told until one more sample is missing, so that what rests on it need not be made anew.
    """

    def __init__(self, max_links: int = MAX_LINKS) -> None:
        """Remembers so many links."""
        self._max_links = max_links
        self._told: dict[str, tuple[Prediction, int, Prediction]] = {}

    def told(self, prediction: Prediction, quiet: Condition) -> Prediction:
        """The prediction with the condition, or with the one told before where as many whole samples were missing."""
        missing = int(quiet.strength)
        known = self._told.get(prediction.link_id)
        if known is not None and known[0] is prediction and known[1] == missing:
            return known[2]
        if known is None and len(self._told) >= self._max_links:
            self._told.clear()
        made = replace(prediction, condition=quiet)
        self._told[prediction.link_id] = prediction, missing, made
        return made


class PatientDirectory:
    """What subscriptions read, with predictions from memory while the store is away.

    Args:
        directory: The store's part.
        last_known: The memory.
        clock: Wall-clock time.
    """

    def __init__(self, directory: Directory, last_known: LastKnown, clock: Clock) -> None:
        self._directory = directory
        self._last_known = last_known
        self._clock = clock

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link; from memory they are marked."""
        try:
            return await self._directory.newest(link_ids)
        except StoreUnavailableError as error:
            known = self._last_known.answer(link_ids, self._clock(), error)
            return [None if isinstance(one, PbaError) else one for one in known]

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`. Raises `StoreUnavailableError`."""
        return await self._directory.links(prefix=prefix, region=region, after=after, limit=limit)

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link. Raises `StoreUnavailableError`."""
        return await self._directory.link_infos(link_ids)
