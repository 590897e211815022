"""Lets in as many calls as can be answered in time, and refuses the others at once, before anything is read of them.

What is refused costs a few lines of Python and one frame on the wire. Each method that answers once has a limit of its
own, which follows how long its calls take (`limiter`); of each method that streams so many streams may be open.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health
from grpc_status import rpc_status
from prometheus_client import Counter, Gauge

from pba_service.domain.errors import CapacityExceededError
from pba_service.serving.limiter import Limiter, LimitOptions
from pba_service.serving.pushback import with_pushback
from pba_service.serving.status import status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

RETRY_AFTER_S = 1.0
"""What a refused caller is told to wait at least."""

_FREE = (f"/{health.SERVICE_NAME}/", "/grpc.reflection.")
"""Never refused: a server that is busy is alive, and has to say so."""


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """How much is let in.

    Attributes:
        limit: How limits of calls under way are found.
        streams: Streams of one method that may be open at a time.
        heavy_streams: The same for methods that read much for each caller, by name.
    """

    limit: LimitOptions = field(default_factory=LimitOptions)
    streams: int = 20_000
    heavy_streams: dict[str, int] = field(default_factory=lambda: {"GetHistory": 64, "GetLedger": 64})


class Admission:
    """The way in to all methods. Not thread-safe: everything happens on one event loop."""

    def __init__(
        self,
        options: AdmissionOptions,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begins with nothing under way.

        Args:
            options: How much is let in.
            registry: Where the metrics go.
            clock: Monotonic seconds.
        """
        self._options = options
        self._clock = clock
        self._refused = Counter(
            "dwcp_pba_calls_refused", "Calls refused because too many are under way.", ("method",), registry=registry
        )
        self._limit = Gauge(
            "dwcp_pba_calls_limit", "Calls or streams that may be under way at a time.", ("method",), registry=registry
        )

    def door(self, method: str, handler: _Handler) -> Door | None:
        """The way in to a method's handler; None: it is always open."""
        if method.startswith(_FREE):
            return None
        name, options = method.rpartition("/")[2], self._options.limit
        if handler.request_streaming or handler.response_streaming:
            most = self._options.heavy_streams.get(name, self._options.streams)
            options = LimitOptions(least=most, most=most, first=most)
        limiter = Limiter(options, self._clock)
        self._limit.labels(name).set_function(lambda: limiter.limit)
        return Door(handler, limiter, self._clock, self._refused.labels(name))


class Door:
    """The way in to one method.

    Attributes:
        handler: What is behind it.
        limiter: How many may be inside.
        refused: Counts those who may not.
        streams: Whether its calls last.
        counted: The handler, whose calls are counted.
        refusal: A handler that refuses. It has the shape of a stream, whatever the method's: such a one is called
            before a request is read, which saves half of the time that a refusal takes.
    """

    def __init__(self, handler: _Handler, limiter: Limiter, clock: Callable[[], float], refused: Counter) -> None:
        self.handler, self.limiter, self.refused = handler, limiter, refused
        self.streams = bool(handler.request_streaming or handler.response_streaming)
        self._clock = clock
        self.counted = self._streaming() if self.streams else self._unary()
        self.refusal: _Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def for_call(self) -> _Handler:
        """For one call: the handler, or one that refuses without reading the request."""
        if self.limiter.is_full():
            self.refused.inc()
            return self.refusal
        return self.counted

    def _unary(self) -> _Handler:
        handler, limiter, clock = self.handler, self.limiter, self._clock
        called: Any = handler.unary_unary
        read: Any = handler.request_deserializer or bytes

        async def unary(data: bytes, context: Any) -> Any:
            if not limiter.enter():  # several were given this handler before the first of them began
                self.refused.inc()
                await self._refuse(data, context)
            started_s, took_s = clock(), None
            try:
                answer = await called(read(data), context)
                took_s = clock() - started_s
            finally:
                limiter.leave(took_s)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            unary, request_deserializer=None, response_serializer=handler.response_serializer
        )

    def _streaming(self) -> _Handler:
        handler, limiter = self.handler, self.limiter
        called: Any
        make: Any
        if handler.request_streaming and handler.response_streaming:
            called, make = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        elif handler.request_streaming:
            called, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
        else:
            called, make = handler.unary_stream, grpc.unary_stream_rpc_method_handler

        async def streaming(request: Any, context: Any) -> Any:
            if not limiter.enter():
                self.refused.inc()
                await self._refuse(request, context)
            try:
                return await called(request, context)
            finally:
                limiter.leave(None)

        counted: _Handler = make(
            streaming,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return counted

    async def _refuse(self, _request: Any, context: Any) -> None:
        limit = self.limiter.limit
        error = CapacityExceededError("calls under way", limit=limit, retry_after_s=RETRY_AFTER_S)
        await context.abort_with_status(with_pushback(_refusal(error), RETRY_AFTER_S, context.time_remaining()))


def _refusal(error: CapacityExceededError) -> grpc.Status:
    known = _REFUSALS.get(error.limit)
    if known is None:
        if len(_REFUSALS) > _REFUSALS_KEPT:
            _REFUSALS.clear()
        known = _REFUSALS[error.limit] = rpc_status.to_status(status_of(error))
    return known


_REFUSALS_KEPT = 4_096
_REFUSALS: dict[int, grpc.Status] = {}
"""By limit: making one takes longer than sending it."""
