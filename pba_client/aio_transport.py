"""The same seam for asyncio."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from grpc import aio

from pba_client.credentials import Credentials, channel_credentials
from pba_client.errors import CallCancelledError, ClientClosedError, PbaClientError, from_rpc
from pba_client.options import channel_options
from pba_client.tracing import with_trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pba_client.options import Options, Tls
    from pba_client.rpcs import RequestT, ResponseT, Rpc
    from pba_client.transport import Metadata

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class AsyncCall(Protocol[ItemT_co]):
    """A running call that answers with a stream."""

    def __aiter__(self) -> AsyncIterator[ItemT_co]:
        """The answers."""
        ...

    def cancel(self) -> None:
        """Gives the call up; harmless when it has ended."""
        ...


class AsyncTransport(Protocol):
    """Carries out calls. Every failure is a `PbaClientError`; cancellation stays cancellation."""

    async def unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool = True
    ) -> ResponseT:
        """One request, one answer; see `Transport.unary`."""
        ...

    def download(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> AsyncCall[ResponseT]:
        """One request, a stream of answers; None: without a deadline."""
        ...

    def exchange(self, rpc: Rpc[RequestT, ResponseT], requests: AsyncIterator[RequestT]) -> AsyncCall[ResponseT]:
        """A stream of requests, a stream of answers."""
        ...

    async def close(self) -> None:
        """Ends every call and frees the connections."""
        ...


def _client_error(error: aio.AioRpcError) -> PbaClientError:
    trailers = [(key, value) for key, value in error.trailing_metadata() or ()]
    return from_rpc(error.code(), error.details(), trailers)


@contextmanager
def _cancellation_told_apart() -> Iterator[None]:
    """A call that was cancelled on this side, as by closing its channel, fails; its caller's cancellation stays one."""
    try:
        yield
    except asyncio.CancelledError:
        # grpc.aio ends such a call as if its caller had been cancelled
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
        raise CallCancelledError("the call was cancelled", code="CANCELLED") from None


class _AioCall(Generic[ItemT]):
    """A streaming call of grpc.aio whose errors are translated."""

    def __init__(
        self,
        call: aio.UnaryStreamCall[RequestT, ItemT] | aio.StreamStreamCall[RequestT, ItemT],
        credentials: Credentials,
        shown: Metadata,
    ) -> None:
        self._call = call
        self._credentials = credentials
        self._shown = shown

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        try:
            with _cancellation_told_apart():
                async for item in self._call:
                    yield item
        except aio.AioRpcError as error:
            raise self._credentials.of_stream(_client_error(error), self._shown) from error

    def cancel(self) -> None:
        self._call.cancel()


class AioTransport:
    """Calls over grpc.aio channels, which belong to the event loop that makes the first call."""

    def __init__(self, target: str, options: Options) -> None:
        """Opens no connection yet: the first call does.

        Args:
            target: Such as 127.0.0.1:50051 or dns:///pba.example:50051.
            options: How to connect.
        """
        self._target = target
        self._options = options
        self._credentials = Credentials(target, options)
        self._channels: dict[bool, aio.Channel] = {}
        self._generation = 0
        self._retired: list[aio.Channel] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool = True
    ) -> ResponseT:
        """One request, one answer."""
        call = self._channel(health_checked=health_checked).unary_unary(
            rpc.path, rpc.request.SerializeToString, rpc.response.FromString
        )
        shown = self._credentials.metadata()
        try:
            with _cancellation_told_apart():
                return await call(request, timeout=timeout_s, metadata=with_trace(shown))
        except aio.AioRpcError as error:
            failure = _client_error(error)
            if not self._credentials.outdated(failure, shown):
                raise failure from error
        try:  # nothing was done for the older token
            with _cancellation_told_apart():
                return await call(request, timeout=timeout_s, metadata=with_trace(self._credentials.metadata()))
        except aio.AioRpcError as error:
            raise _client_error(error) from error

    def download(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> AsyncCall[ResponseT]:
        """One request, a stream of answers."""
        call = self._channel().unary_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        shown = self._credentials.metadata()
        return _AioCall(call(request, timeout=timeout_s, metadata=with_trace(shown)), self._credentials, shown)

    def exchange(self, rpc: Rpc[RequestT, ResponseT], requests: AsyncIterator[RequestT]) -> AsyncCall[ResponseT]:
        """A stream of requests, a stream of answers."""
        call = self._channel().stream_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        shown = self._credentials.metadata()
        return _AioCall(call(requests, metadata=with_trace(shown)), self._credentials, shown)

    async def close(self) -> None:
        """Ends every call and frees the connections."""
        self._closed = True
        channels, self._channels, self._retired = [*self._channels.values(), *self._retired], {}, []
        for channel in channels:
            await channel.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _channel(self, *, health_checked: bool = True) -> aio.Channel:
        if self._closed:
            raise ClientClosedError
        generation, tls = self._credentials.tls()
        self._retire(generation)
        if health_checked not in self._channels:
            self._channels[health_checked] = self._open(tls, health_checked=health_checked)
        return self._channels[health_checked]

    def _retire(self, generation: int) -> None:
        """Leaves channels of older certificates to the calls that are on them, and closes the channels before those."""
        if generation == self._generation:
            return
        self._generation = generation
        for channel in self._retired:
            closing = asyncio.create_task(channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._retired, self._channels = list(self._channels.values()), {}

    def _open(self, tls: Tls | None, *, health_checked: bool) -> aio.Channel:
        arguments = channel_options(self._options, health_checked=health_checked)
        if tls is None:
            return aio.insecure_channel(self._target, arguments)
        return aio.secure_channel(self._target, channel_credentials(tls), arguments)
