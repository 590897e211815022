"""The same subscription for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from pba_client.errors import PbaClientError
from pba_client.resume import Subscription, worth_retrying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from types import TracebackType

    from pba.v1.prediction_service_pb2 import StreamPredictionsResponse

    from pba_client.aio_transport import AsyncCall
    from pba_client.resume import Retry
    from pba_client.types import WatchUpdate


class AsyncWatch:
    """Iterates over `WatchUpdate`s for ever; a lost connection is opened again and its gap told.

    Ends when it is closed; after a wait that was cancelled, as by a timeout, the next one subscribes again. Raises only
    what trying again would not cure.
    """

    def __init__(
        self,
        open_call: Callable[[], AsyncCall[StreamPredictionsResponse]],
        retry: Retry,
        on_interruption: Callable[[PbaClientError | None, float], None] | None = None,
    ) -> None:
        """Opens nothing yet: the first iteration does; see `Watch`."""
        self._open_call = open_call
        self._retry = retry
        self._on_interruption = on_interruption
        self._subscription = Subscription()
        self._closed = asyncio.Event()
        self._call: AsyncCall[StreamPredictionsResponse] | None = None
        self._updates = self._follow()

    def __aiter__(self) -> AsyncIterator[WatchUpdate]:
        return self

    async def __anext__(self) -> WatchUpdate:
        try:
            return await anext(self._updates)
        except asyncio.CancelledError:
            self._subscription.lost(None)
            self._updates = self._follow()  # a generator that was cancelled is over
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the subscription, also while another task waits for its next update."""
        self._closed.set()
        self._cancel()

    async def _follow(self) -> AsyncGenerator[WatchUpdate]:
        while not self._closed.is_set():
            cause: PbaClientError | None = None
            try:
                self._call = self._open_call()
                async for message in self._call:
                    self._retry.succeeded()
                    yield self._subscription.update(message)
            except PbaClientError as error:
                cause = error
            finally:
                self._cancel()
            if self._closed.is_set():
                return
            if cause is not None and not worth_retrying(cause):
                raise cause
            self._subscription.lost(cause)
            delay_s = self._retry.delay_s(cause)
            if self._on_interruption is not None:
                self._on_interruption(cause, delay_s)
            await self._wait(delay_s)

    async def _wait(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._closed.wait()
        except TimeoutError:
            pass

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
