"""The same seam for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import grpc
from grpc import aio

from pba_client.errors import CallCancelledError, ClientClosedError, PbaClientError, from_rpc
from pba_client.options import channel_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pba_client.options import Options
    from pba_client.rpcs import RequestT, ResponseT, Rpc

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


class _AioCall(Generic[ItemT]):
    """A streaming call of grpc.aio whose errors are translated."""

    def __init__(self, call: aio.UnaryStreamCall[RequestT, ItemT] | aio.StreamStreamCall[RequestT, ItemT]) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        try:
            async for item in self._call:
                yield item
        except aio.AioRpcError as error:
            raise _client_error(error) from error
        except asyncio.CancelledError:
            # grpc.aio ends a call that was cancelled on this side as if its reader had been cancelled
            reader = asyncio.current_task()
            if reader is not None and reader.cancelling():
                raise
            raise CallCancelledError("the call was cancelled", code="CANCELLED") from None

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
        self._channels: dict[bool, aio.Channel] = {}
        self._closed = False

    async def unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool = True
    ) -> ResponseT:
        """One request, one answer."""
        call = self._channel(health_checked=health_checked).unary_unary(
            rpc.path, rpc.request.SerializeToString, rpc.response.FromString
        )
        try:
            return await call(request, timeout=timeout_s, metadata=self._options.metadata)
        except aio.AioRpcError as error:
            raise _client_error(error) from error

    def download(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> AsyncCall[ResponseT]:
        """One request, a stream of answers."""
        call = self._channel().unary_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        return _AioCall(call(request, timeout=timeout_s, metadata=self._options.metadata))

    def exchange(self, rpc: Rpc[RequestT, ResponseT], requests: AsyncIterator[RequestT]) -> AsyncCall[ResponseT]:
        """A stream of requests, a stream of answers."""
        call = self._channel().stream_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        return _AioCall(call(requests, metadata=self._options.metadata))

    async def close(self) -> None:
        """Ends every call and frees the connections."""
        self._closed = True
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    def _channel(self, *, health_checked: bool = True) -> aio.Channel:
        if self._closed:
            raise ClientClosedError
        if health_checked not in self._channels:
            self._channels[health_checked] = self._open(health_checked=health_checked)
        return self._channels[health_checked]

    def _open(self, *, health_checked: bool) -> aio.Channel:
        arguments = channel_options(self._options, health_checked=health_checked)
        tls = self._options.tls
        if tls is None:
            return aio.insecure_channel(self._target, arguments)
        credentials = grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)
        return aio.secure_channel(self._target, credentials, arguments)
