"""Around every call: errors become statuses, unexpected ones tell nothing, and each call is counted and timed."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from pba_service.domain.errors import InvalidRequestError, PbaError, Violation
from pba_service.serving.pushback import refuse
from pba_service.serving.scan import CHECKS, SCANNED_BYTES
from pba_service.serving.status import code_of, internal_status, status_of
from pba_service.serving.traced import traced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from google.rpc.status_pb2 import Status

    from pba_service.observability.spans import Tracing
    from pba_service.serving.admission import Admission, Door
    from pba_service.serving.counted import MethodMetrics, RpcMetrics
    from pba_service.serving.gate import Gate, Visit

    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class Guard:
    """Wraps every handler before it is registered: as an interceptor it would do so anew for every call."""

    def __init__(
        self,
        metrics: RpcMetrics,
        gate: Gate | None = None,
        admission: Admission | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Counts into `metrics`, and lets in whom `gate` and as many as `admission` lets in; None: everybody."""
        self._tracing = tracing
        self._metrics = metrics
        self._admission = admission
        self._gate = gate
        self._log = structlog.get_logger(__name__).bind()  # bound once: a lazy logger is made anew at every line
        self._guarded: dict[str, tuple[_Handler, _Handler, Door | None]] = {}  # one entry per existing method

    def registration(self, server: grpc.aio.Server) -> Registration:
        """What services are added to in place of the server."""
        return Registration(server, self)

    def guarded(self, method: str, handler: _Handler) -> _Handler:
        """The guarded handler for one call of a method."""
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            guarded = self._guard(method, handler)
            if self._tracing is not None:
                guarded = traced(self._tracing, method, guarded)
            door = None if self._admission is None else self._admission.door(method, guarded)
            known = self._guarded[method] = handler, guarded, door
        door = known[2]
        return known[1] if door is None else door.for_call()

    def _guard(self, method: str, handler: _Handler) -> _Handler:
        grpc_type, inner, make = _shape(handler)
        if handler.response_streaming and not inspect.isasyncgenfunction(inner):
            raise TypeError(f"{method}: streaming handlers are asynchronous generators")
        called = self._metrics.method(method, grpc_type)
        if self._gate is not None and not self._gate.is_open(method):
            return self._gated(self._gate, called, handler)
        check: Any = _all_checked if handler.request_streaming else _checked

        async def unary(request: Any, context: Any) -> Any:
            started_s = called.begin()
            try:
                response = await inner(check(request), context)
            except BaseException:
                async with self._watched(called, context, started_s):  # tells errors apart
                    raise
            called.end(started_s, grpc.StatusCode.OK)
            return response

        async def streaming(request: Any, context: Any) -> None:
            # Written here and not yielded, so that a cancelled write closes the handler at once, not when it is
            # collected.
            async with self._watched(called, context), aclosing(inner(check(request), context)) as responses:
                async for response in responses:
                    await context.write(response)

        guarded: _Handler = make(
            streaming if handler.response_streaming else unary,
            request_deserializer=_lenient(handler.request_deserializer, CHECKS.get(method)),
            response_serializer=_ready(handler.response_serializer),
        )
        return guarded

    def _gated(self, gate: Gate, method: MethodMetrics, handler: _Handler) -> _Handler:
        """The same for a method that not everybody may call: nothing is read of a request before its caller is known.

        Generators must not hold the visit: a stream that ends because its caller's time is over may be in a write then.
        """
        _, inner, make = _shape(handler)
        read = _lenient(handler.request_deserializer, CHECKS.get(method.name))
        streams = handler.request_streaming or handler.response_streaming

        async def each(messages: AsyncIterator[bytes], visit: Visit) -> AsyncIterator[Any]:
            async for message in messages:
                request = _checked(read(message))
                await visit.judge(request, patient=True)
                yield request

        async def one(message: bytes, visit: Visit) -> Any:
            request = _checked(read(message))
            await visit.judge(request)
            return request

        async def unary(given: Any, context: Any) -> Any:
            async with self._watched(method, context), gate.visit(method.name, context, streaming=streams) as visit:
                request = each(given, visit) if handler.request_streaming else await one(given, visit)
                return await inner(request, context)

        async def streaming(given: Any, context: Any) -> None:
            async with self._watched(method, context), gate.visit(method.name, context, streaming=streams) as visit:
                request = each(given, visit) if handler.request_streaming else await one(given, visit)
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)

        gated: _Handler = make(
            streaming if handler.response_streaming else unary,
            request_deserializer=None,
            response_serializer=_ready(handler.response_serializer),
        )
        return gated

    @asynccontextmanager
    async def _watched(
        self, method: MethodMetrics, context: Any, started_s: float | None = None
    ) -> AsyncIterator[None]:
        if started_s is None:
            started_s = method.begin()
        code = grpc.StatusCode.OK
        try:
            yield
        except asyncio.CancelledError:
            remaining_s = context.time_remaining()
            late = remaining_s is not None and remaining_s <= 0
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        except grpc.aio.InternalError:
            code = grpc.StatusCode.CANCELLED  # a message could not be written: its reader is gone
            raise
        except PbaError as error:
            status = status_of(error)
            code = code_of(status)
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                await refuse(context, status, getattr(error, "retry_after_s", None))
            await _abort(context, status)
        except Exception:  # noqa: BLE001 - whatever it is, callers must not see it; it is logged and not re-raised
            code = grpc.StatusCode.INTERNAL
            error_id = secrets.token_hex(8)
            self._log.exception("rpc_failed", method=method.name, error_id=error_id)
            await _abort(context, internal_status(error_id))
        finally:
            took_s = method.end(started_s, code)
            self._log.debug("rpc", method=method.name, code=code.name, seconds=took_s, peer=context.peer())


class Registration:
    """A server to which handlers are added guarded."""

    def __init__(self, server: grpc.aio.Server, guard: Guard) -> None:
        """Adds to `server` what `guard` guards."""
        self._server = server
        self._guard = guard

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds handlers."""
        self._server.add_generic_rpc_handlers([_Guarded(handler, self._guard) for handler in handlers])

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, _Handler]) -> None:
        """Adds nothing, as grpc.aio does: the same handlers come as generic ones as well."""


class _Guarded(grpc.GenericRpcHandler):
    """The handlers of a service, guarded."""

    def __init__(self, inner: grpc.GenericRpcHandler, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        """The guarded handler of a method; None when there is no such method."""
        handler = self._inner.service(handler_call_details)
        return handler and self._guard.guarded(handler_call_details.method, handler)


def _shape(handler: _Handler) -> tuple[str, Any, Any]:
    """The metrics' name for a handler's shape, its function, and what makes a handler of that shape."""
    if handler.request_streaming and handler.response_streaming:
        return "bidi_stream", handler.stream_stream, grpc.stream_stream_rpc_method_handler
    if handler.request_streaming:
        return "client_stream", handler.stream_unary, grpc.stream_unary_rpc_method_handler
    if handler.response_streaming:
        return "server_stream", handler.unary_stream, grpc.unary_stream_rpc_method_handler
    return "unary", handler.unary_unary, grpc.unary_unary_rpc_method_handler


@dataclass(frozen=True, slots=True)
class _Refused:
    """Takes the place of a request that could not be read."""

    error: InvalidRequestError


def _lenient(deserialize: Any, check: Callable[[bytes], None] | None) -> Callable[[bytes], Any]:
    """Left alone, gRPC answers bytes that are no message with UNKNOWN and the text of a Python exception."""

    def read(data: bytes) -> Any:
        try:
            if check is not None and len(data) > SCANNED_BYTES:
                check(data)
            return deserialize(data)
        except InvalidRequestError as error:
            return _Refused(error)
        except DecodeError:
            return _Refused(InvalidRequestError(Violation("request", "is no message that this method can read")))

    return read


def _ready(serialize: Any) -> Callable[[Any], bytes] | None:
    """Lets handlers answer with bytes that are serialised already."""
    if serialize is None:
        return None

    def write(response: Any) -> bytes:
        written: bytes = response if type(response) is bytes else serialize(response)
        return written

    return write


def _checked(request: Any) -> Any:
    if isinstance(request, _Refused):
        raise request.error
    return request


async def _all_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


async def _abort(context: Any, status: Status) -> None:
    await context.abort_with_status(rpc_status.to_status(status))
