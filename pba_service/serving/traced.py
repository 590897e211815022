"""Handlers of calls within spans; used only where tracing is on, so that it costs nothing where it is off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

if TYPE_CHECKING:
    from pba_service.observability.spans import Tracing

    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

PREFIX = "/pba."
"""Health checks and reflection are asked all the time, and tell nobody anything."""


def traced(tracing: Tracing, method: str, handler: _Handler) -> _Handler:
    """A guarded handler whose calls are spans, for as long as they last.

    Args:
        tracing: Makes spans.
        method: The method's path.
        handler: Its handler.
    """
    if not method.startswith(PREFIX):
        return handler
    if handler.request_streaming and handler.response_streaming:
        inner, make = handler.stream_stream, grpc.stream_stream_rpc_method_handler
    elif handler.request_streaming:
        inner, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
    elif handler.response_streaming:
        inner, make = handler.unary_stream, grpc.unary_stream_rpc_method_handler
    else:
        inner, make = handler.unary_unary, grpc.unary_unary_rpc_method_handler
    guarded: Any = inner

    async def call(request: Any, context: Any) -> Any:
        with tracing.call(method, _texts(context)) as span:
            code = "OK"
            try:
                return await guarded(request, context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except BaseException:
                code = getattr(context.code(), "name", "UNKNOWN")
                raise
            finally:
                tracing.ended(span, code)

    made: _Handler = make(
        call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )
    return made


def _texts(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
