"""The guard wraps whatever the interceptors behind it decide, call by call."""

from dataclasses import dataclass

import grpc
import pytest
from prometheus_client import CollectorRegistry

from pba_service.serving.counted import RpcMetrics
from pba_service.serving.interceptors import Guard


@dataclass
class Details:
    method: str
    invocation_metadata: tuple = ()


class Context:
    def peer(self):
        return "test"


@pytest.fixture
def guard():
    return Guard(RpcMetrics(CollectorRegistry()))


def answering(text):
    async def handler(request, context):
        return text

    return grpc.unary_unary_rpc_method_handler(handler, request_deserializer=bytes)


class Handlers(grpc.GenericRpcHandler):
    """One method, whose handler may be changed."""

    def __init__(self, handler):
        self.handler = handler

    def service(self, details):
        return self.handler if details.method == "/a.B/C" else None


class Server:
    def add_generic_rpc_handlers(self, handlers):
        [self.handlers] = handlers


def registered(guard, handler):
    server = Server()
    guard.registration(server).add_generic_rpc_handlers([Handlers(handler)])
    return server.handlers


async def test_what_answers_a_call_is_chosen_anew(guard):
    inner = Handlers(answering("one"))
    server = Server()
    guard.registration(server).add_generic_rpc_handlers([inner])
    handler = server.handlers.service(Details("/a.B/C"))
    assert await handler.unary_unary(b"", Context()) == "one"
    inner.handler = answering("two")
    handler = server.handlers.service(Details("/a.B/C"))
    assert await handler.unary_unary(b"", Context()) == "two"


def test_the_wrapping_of_a_handler_is_kept(guard):
    handlers = registered(guard, answering("x"))
    assert handlers.service(Details("/a.B/C")) is handlers.service(Details("/a.B/C"))


def test_a_method_that_does_not_exist_stays_so(guard):
    assert registered(guard, answering("x")).service(Details("/a.B/D")) is None


def test_a_handler_may_answer_with_bytes_that_are_ready(guard):
    handler = grpc.unary_unary_rpc_method_handler(answering("x").unary_unary, response_serializer=str.encode)
    write = guard.guarded("/a.B/C", handler).response_serializer
    assert (write("text"), write(b"ready")) == (b"text", b"ready")


async def test_a_streaming_handler_must_be_a_generator(guard):
    """A coroutine that writes by itself would slip through the guard's hands when a write is cancelled."""

    async def writing(request, context):
        await context.write(b"")

    with pytest.raises(TypeError, match="generators"):
        guard.guarded("/a.B/C", grpc.unary_stream_rpc_method_handler(writing))


async def test_leaving_a_stream_in_the_middle_of_a_write_closes_its_handler_first(guard):
    closed = []

    async def responses(request, context):
        try:
            yield b"1"
        finally:
            closed.append(True)

    class Broken(Context):
        async def write(self, message):
            raise grpc.aio.InternalError

    handler = guard.guarded("/a.B/C", grpc.unary_stream_rpc_method_handler(responses))
    call = handler.unary_stream(b"", Broken())
    with pytest.raises(grpc.aio.InternalError) as caught:
        await call
    assert closed
    assert caught.value.__traceback__  # which keeps the frames, so that no collection did it
