"""What is known of the followed links, kept up to date from the service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba_client import TemporaryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import timedelta

    from pba_client import AsyncClient, LinkSummary, Parameters, PbaClientError, Prediction, Sample

POLL_S = 2.0
PARALLEL_CALLS = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """The links to follow: any that one of the ways names; all when none is given."""

    link_ids: tuple[str, ...] = ()
    prefix: str = ""
    region: str = ""

    @property
    def all_links(self) -> bool:
        """Whether every link is followed."""
        return not (self.link_ids or self.prefix or self.region)


@dataclass(slots=True)
class LinkState:
    """The newest of everything about a link."""

    link_id: str
    sample: Sample | None = None
    sample_count: int = 0
    prediction: Prediction | None = None
    parameters: Parameters | None = None


class Board:
    """The newest state of a number of links, and of the connection."""

    def __init__(self, client: AsyncClient, selection: Selection, rows: int) -> None:
        """Asks nothing yet.

        Args:
            client: Asks the service.
            selection: The links to follow.
            rows: Most links kept.
        """
        self._client = client
        self._selection = selection
        self._rows = rows
        self._calls = asyncio.Semaphore(PARALLEL_CALLS)
        self._links: dict[str, LinkState] = {}
        self.more_links = False
        self.trouble = ""

    def shown(self) -> list[LinkState]:
        """The links in order."""
        return [self._links[name] for name in sorted(self._links)]

    async def follow(
        self, on_update: Callable[[list[LinkState]], None] = lambda _: None, min_interval: timedelta | None = None
    ) -> None:
        """Follows predictions for ever.

        Args:
            on_update: Told of links with a new prediction, once the sample and parameters that go with it are there.
            min_interval: At most one update in this time.
        """
        watch = self._client.watch(
            *self._selection.link_ids,
            prefix=self._selection.prefix,
            region=self._selection.region,
            all_links=self._selection.all_links,
            min_interval=min_interval,
            on_interruption=self._interrupted,
        )
        async with watch:
            async for update in watch:
                self.trouble = ""
                changed = []
                for prediction in update.predictions:
                    state = self._state(prediction.link_id)
                    if state is not None:
                        state.prediction = prediction
                        changed.append(state)
                await self._refresh(changed)
                on_update(changed)

    async def poll(self) -> None:
        """Looks for links, their newest samples and parameters, for ever: some have no prediction to follow."""
        while True:
            try:
                await self.look()
            except TemporaryError as error:
                self._interrupted(error, POLL_S)
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Looks once."""
        changed = []
        async for summary in self._summaries():
            state = self._state(summary.link_id)
            if state is None:
                break
            if self._note(state, summary):
                changed.append(state)
        await asyncio.gather(*(self._ask_parameters(state) for state in changed))

    def _state(self, link_id: str) -> LinkState | None:
        """The state of a link; None when there is no row for it."""
        if link_id not in self._links:
            if len(self._links) >= self._rows:
                self.more_links = True
                return None
            self._links[link_id] = LinkState(link_id)
        return self._links[link_id]

    def _note(self, state: LinkState, summary: LinkSummary) -> bool:
        """Takes over what a summary says; returns whether anything is new."""
        new = state.sample != summary.newest_sample
        state.sample, state.sample_count = summary.newest_sample, summary.sample_count
        if summary.newest_prediction is not None:
            state.prediction = summary.newest_prediction
        return new or state.parameters is None

    async def _summaries(self) -> AsyncIterator[LinkSummary]:
        chosen = self._selection
        if not chosen.link_ids:
            async for summary in self._client.links(prefix=chosen.prefix, region=chosen.region):
                yield summary
        for link_id in chosen.link_ids:
            found = await self._summary(link_id)
            if found is not None:
                yield found

    async def _summary(self, link_id: str) -> LinkSummary | None:
        async for summary in self._client.links(prefix=link_id):
            # links come in order, so the one with this very id is the first that begins so
            return summary if summary.link_id == link_id else None
        return None

    async def _refresh(self, states: Iterable[LinkState]) -> None:
        """Asks for what goes with a new prediction."""
        await asyncio.gather(*(self._ask(state) for state in states))

    async def _ask(self, state: LinkState) -> None:
        async with self._calls:
            try:
                summary = await self._summary(state.link_id)
            except TemporaryError:
                return  # the loss of the stream itself is told, and this is asked again soon
        if summary is not None:
            self._note(state, summary)
        await self._ask_parameters(state)

    async def _ask_parameters(self, state: LinkState) -> None:
        async with self._calls:
            try:
                state.parameters = await self._client.parameters(state.link_id)
            except TemporaryError:
                return

    def _interrupted(self, cause: PbaClientError | None, _delay_s: float) -> None:
        reason = cause.message if cause is not None else "the service ended the stream"
        self.trouble = f"{reason}; trying again"
