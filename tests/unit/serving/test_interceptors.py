"""The guard wraps whatever the interceptors behind it decide, call by call."""

from dataclasses import dataclass

import grpc
import pytest
from prometheus_client import CollectorRegistry

from pba_service.serving.interceptors import Guard, RpcMetrics


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


async def test_an_interceptor_behind_may_judge_each_call(guard):
    """One that looks at metadata hands out another handler for a call it refuses."""
    admitted, refused = answering("admitted"), answering("refused")

    async def judge(details):
        return admitted if details.invocation_metadata else refused

    async def call(*metadata):
        handler = await guard.intercept_service(judge, Details("/a.B/C", metadata))
        return await handler.unary_unary(b"", Context())

    assert [await call("token"), await call(), await call("token")] == ["admitted", "refused", "admitted"]


async def test_the_wrapping_of_a_handler_is_kept(guard):
    handler = answering("x")

    async def same(details):
        return handler

    first = await guard.intercept_service(same, Details("/a.B/C"))
    assert await guard.intercept_service(same, Details("/a.B/C")) is first


async def test_a_method_that_does_not_exist_stays_so(guard):
    async def nothing(details):
        return None

    assert await guard.intercept_service(nothing, Details("/a.B/C")) is None


async def test_a_streaming_handler_must_be_a_generator(guard):
    """A coroutine that writes by itself would slip through the guard's hands when a write is cancelled."""

    async def writing(request, context):
        await context.write(b"")

    async def continuation(details):
        return grpc.unary_stream_rpc_method_handler(writing)

    with pytest.raises(TypeError, match="generators"):
        await guard.intercept_service(continuation, Details("/a.B/C"))


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

    async def continuation(details):
        return grpc.unary_stream_rpc_method_handler(responses)

    handler = await guard.intercept_service(continuation, Details("/a.B/C"))
    call = handler.unary_stream(b"", Broken())
    with pytest.raises(grpc.aio.InternalError) as caught:
        await call
    assert closed
    assert caught.value.__traceback__  # which keeps the frames, so that no collection did it
