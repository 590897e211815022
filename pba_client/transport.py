"""The seam between a client and the network, and its only real implementation, over grpc.

A test gives a client a transport of its own and needs no network. Whatever a transport raises is a `PbaClientError`:
grpc's own exceptions end here.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import grpc

from pba_client.credentials import Credentials, channel_credentials
from pba_client.errors import ClientClosedError, PbaClientError, from_rpc
from pba_client.options import channel_options
from pba_client.tracing import with_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pba_client.options import Options, Tls
    from pba_client.rpcs import RequestT, ResponseT, Rpc

Metadata = tuple[tuple[str, str], ...]

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class Call(Protocol[ItemT_co]):
    """A running call that answers with a stream."""

    def __iter__(self) -> Iterator[ItemT_co]:
        """The answers."""
        ...

    def cancel(self) -> None:
        """Gives the call up; harmless when it has ended."""
        ...


class Transport(Protocol):
    """Carries out calls. Every failure is a `PbaClientError`."""

    def unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool = True
    ) -> ResponseT:
        """One request, one answer.

        Args:
            rpc: The call.
            request: The request.
            timeout_s: Its deadline.
            health_checked: False to ask also a service that says that it is not serving.
        """
        ...

    def download(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float | None) -> Call[ResponseT]:
        """One request, a stream of answers; None: without a deadline."""
        ...

    def exchange(self, rpc: Rpc[RequestT, ResponseT], requests: Iterator[RequestT]) -> Call[ResponseT]:
        """A stream of requests, a stream of answers."""
        ...

    def close(self) -> None:
        """Ends every call and frees the connections."""
        ...


@contextmanager
def _translated(credentials: Credentials, shown: Metadata) -> Iterator[None]:
    """Turns what grpc raises for a call that showed `shown` into this package's errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise credentials.of_stream(_client_error(error), shown) from error


def _client_error(error: grpc.RpcError) -> PbaClientError:
    # every error that grpc raises from a call is a grpc.Call as well, which its types do not say
    call = cast("grpc.Call", error)
    trailers = [(entry[0], entry[1]) for entry in call.trailing_metadata() or ()]
    return from_rpc(call.code(), call.details(), trailers)


class _GrpcIterator(Protocol[ItemT_co]):
    """What grpc's types say of a streaming call."""

    def __iter__(self) -> Iterator[ItemT_co]: ...

    def cancel(self) -> object: ...


class _GrpcCall(Generic[ItemT]):
    """A streaming call of grpc whose errors are translated."""

    def __init__(self, call: _GrpcIterator[ItemT], credentials: Credentials, shown: Metadata) -> None:
        self._call = call
        self._credentials = credentials
        self._shown = shown

    def __iter__(self) -> Iterator[ItemT]:
        with _translated(self._credentials, self._shown):
            yield from self._call

    def cancel(self) -> None:
        self._call.cancel()


class GrpcTransport:
    """Calls over grpc channels. Threads may share it."""

    def __init__(self, target: str, options: Options) -> None:
        """Opens no connection yet: the first call does.

        Args:
            target: Such as 127.0.0.1:50051 or dns:///pba.example:50051.
            options: How to connect.
        """
        self._target = target
        self._options = options
        self._credentials = Credentials(target, options)
        self._lock = Lock()
        self._channels: dict[bool, grpc.Channel] = {}
        self._generation = 0
        self._retired: list[grpc.Channel] = []
        self._closed = False

    def unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool = True
    ) -> ResponseT:
        """One request, one answer."""
        with self._closing_told():
            return self._unary(rpc, request, timeout_s, health_checked=health_checked)

    def _unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float, *, health_checked: bool
    ) -> ResponseT:
        call = self._channel(health_checked=health_checked).unary_unary(
            rpc.path, rpc.request.SerializeToString, rpc.response.FromString
        )
        shown = self._credentials.metadata()
        try:
            return call(request, timeout=timeout_s, metadata=with_trace(shown))
        except grpc.RpcError as error:
            failure = _client_error(error)
            if not self._credentials.outdated(failure, shown):
                raise failure from error
        # nothing was done for the older token
        shown = self._credentials.metadata()
        with _translated(self._credentials, shown):
            return call(request, timeout=timeout_s, metadata=with_trace(shown))

    def download(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_s: float | None) -> Call[ResponseT]:
        """One request, a stream of answers."""
        call = self._channel().unary_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        shown = self._credentials.metadata()
        with self._closing_told():
            return _GrpcCall(call(request, timeout=timeout_s, metadata=with_trace(shown)), self._credentials, shown)

    def exchange(self, rpc: Rpc[RequestT, ResponseT], requests: Iterator[RequestT]) -> Call[ResponseT]:
        """A stream of requests, a stream of answers."""
        call = self._channel().stream_stream(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        shown = self._credentials.metadata()
        with self._closing_told():
            return _GrpcCall(call(requests, metadata=with_trace(shown)), self._credentials, shown)

    @contextmanager
    def _closing_told(self) -> Iterator[None]:
        """A channel that another thread closes before the call is on it raises no error of a call."""
        try:
            yield
        except ValueError:
            if self._closed:
                raise ClientClosedError from None
            raise

    def close(self) -> None:
        """Ends every call and frees the connections."""
        with self._lock:
            self._closed = True
            channels, self._channels, self._retired = [*self._channels.values(), *self._retired], {}, []
        for channel in channels:
            channel.close()

    def _channel(self, *, health_checked: bool = True) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise ClientClosedError
            generation, tls = self._credentials.tls()
            outdated = self._retire(generation)
            if health_checked not in self._channels:
                self._channels[health_checked] = self._open(tls, health_checked=health_checked)
            channel = self._channels[health_checked]
        for one in outdated:
            one.close()
        return channel

    def _retire(self, generation: int) -> list[grpc.Channel]:
        """Leaves channels of older certificates to the calls that are on them; the channels before those, to close."""
        if generation == self._generation:
            return []
        self._generation = generation
        outdated, self._retired = self._retired, list(self._channels.values())
        self._channels = {}
        return outdated

    def _open(self, tls: Tls | None, *, health_checked: bool) -> grpc.Channel:
        arguments = channel_options(self._options, health_checked=health_checked)
        if tls is None:
            return grpc.insecure_channel(self._target, arguments)
        return grpc.secure_channel(self._target, channel_credentials(tls), arguments)
