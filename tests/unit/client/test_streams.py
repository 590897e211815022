"""Push streams against a transport of our own: order, pressure, endings. No network, no waiting."""

import asyncio
import signal
import threading
from concurrent.futures import Future
from queue import Queue

import pytest
from pba.v1 import prediction_service_pb2 as pb

from pba_client import (
    AsyncClient,
    Backoff,
    CallCancelledError,
    Client,
    ClientClosedError,
    Columns,
    Link,
    NotPermittedError,
    Options,
    Parameters,
    PbaClientError,
    Sample,
    Timeouts,
    UnavailableError,
)
from pba_client.rpcs import GET_OPTIMAL_PARAMETERS, PREDICT, PUSH_SAMPLES, STREAM_SAMPLES

QUICK = Backoff(initial_s=1e-6, maximum_s=1e-6)


def samples(count):
    return [Sample("a", bandwidth_mbps=float(i)) for i in range(count)]


class Exchange:
    """One connection of a push stream, acted by the test."""

    def __init__(self, requests):
        self.requests = requests
        self.answers = Queue()

    def __iter__(self):
        while (answer := self.answers.get()) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def cancel(self):
        self.answers.put(CallCancelledError("cancelled", code="CANCELLED"))

    def receive(self):
        request = next(self.requests, None)
        return None if request is None else request.sequence

    def acknowledge(self, sequence):
        self.answers.put(pb.PushSamplesResponse(sequence=sequence, stored=1))

    def end(self, error=None):
        self.answers.put(error)


class FakeTransport:
    """Hands each new connection to the test."""

    def __init__(self):
        self.exchanges = Queue()
        self.calls = []
        self.answers = {}

    def exchange(self, rpc, requests):
        assert rpc is STREAM_SAMPLES
        exchange = Exchange(requests)
        self.exchanges.put(exchange)
        return exchange

    def unary(self, rpc, request, timeout_s, *, health_checked=True):
        self.calls.append((rpc, timeout_s, health_checked))
        answer = self.answers.get((rpc, health_checked), rpc.response())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        pass

    def connection(self):
        return self.exchanges.get(timeout=5)


@pytest.fixture
def transport():
    return FakeTransport()


def client(transport, **options):
    return Client(options=Options(backoff=QUICK, **options), transport=transport)


def test_what_was_not_acknowledged_is_sent_again_in_order(transport):
    stream = client(transport).stream()
    futures = [stream.push(one) for one in samples(3)]
    first = transport.connection()
    assert [first.receive() for _ in range(3)] == [1, 2, 3]
    first.acknowledge(1)
    first.end(UnavailableError("away", code="UNAVAILABLE"))
    second = transport.connection()
    assert [second.receive() for _ in range(2)] == [2, 3]
    fourth = stream.push(samples(1))
    assert second.receive() == 4
    for sequence in (2, 3, 4):
        second.acknowledge(sequence)
    assert [future.result(5).stored for future in [*futures, fourth]] == [1] * 4
    threading.Timer(0, second.end).start()
    stream.close()
    assert second.receive() is None
    assert stream.totals.stored == 4


def test_a_push_waits_while_too_many_are_unacknowledged(transport):
    stream = client(transport, max_unacknowledged=2).stream()
    for one in samples(2):
        stream.push(one)
    third = Future()
    threading.Thread(target=lambda: third.set_result(stream.push(samples(1)))).start()
    connection = transport.connection()
    assert [connection.receive() for _ in range(2)] == [1, 2]
    assert not third.done()
    connection.acknowledge(1)
    assert third.result(5) is not None
    assert connection.receive() == 3
    stream.abort()


def test_a_double_acknowledgement_counts_once(transport):
    stream = client(transport).stream()
    future = stream.push(samples(1))
    connection = transport.connection()
    connection.acknowledge(1)
    connection.acknowledge(1)
    connection.acknowledge(77)
    later = stream.push(samples(1))
    connection.acknowledge(2)
    assert (future.result(5).stored, later.result(5).stored) == (1, 1)
    stream.flush(5)
    assert stream.totals.stored == 2
    stream.abort()


def test_flushing_waits_for_the_callbacks_too(transport):
    stream = client(transport).stream()
    seen = []
    stream.push(samples(1)).add_done_callback(lambda future: seen.append(future.result().stored))
    transport.connection().acknowledge(1)
    stream.flush(5)
    assert seen == [1]
    stream.abort()


def test_a_callback_may_push_the_next_batch_however_many_are_unacknowledged(transport):
    stream = client(transport, max_unacknowledged=1).stream()
    later = Future()
    stream.push(samples(1)).add_done_callback(lambda _: later.set_result(stream.push(samples(1))))
    connection = transport.connection()
    connection.acknowledge(1)
    second = later.result(5)
    assert [connection.receive() for _ in range(2)] == [1, 2]
    connection.acknowledge(2)
    assert second.result(5).stored == 1
    stream.flush(5)
    stream.abort()


def outcome(act):
    """What became of something done in a callback, which would only be logged."""
    seen = Future()

    def callback(_):
        try:
            seen.set_result(act())
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            seen.set_exception(error)

    return seen, callback


def test_a_callback_that_flushes_is_told_that_it_would_wait_for_itself(transport):
    stream = client(transport).stream()
    seen, callback = outcome(stream.flush)
    stream.push(samples(1)).add_done_callback(callback)
    transport.connection().acknowledge(1)
    assert isinstance(seen.exception(5), RuntimeError)
    stream.flush(5)
    stream.abort()


def test_a_callback_may_close_the_stream_which_ends_once_all_is_acknowledged(transport):
    stream = client(transport).stream()
    seen, callback = outcome(stream.close)
    stream.push(samples(1)).add_done_callback(callback)
    second = stream.push(samples(1))
    connection = transport.connection()
    connection.acknowledge(1)
    assert seen.result(5) is None
    assert [connection.receive() for _ in range(3)] == [1, 2, None]
    connection.acknowledge(2)
    assert second.result(5).stored == 1
    connection.end()
    stream.close()


def test_a_callback_may_abort_the_stream(transport):
    stream = client(transport).stream()
    seen, callback = outcome(stream.abort)
    stream.push(samples(1)).add_done_callback(callback)
    second = stream.push(samples(1))
    transport.connection().acknowledge(1)
    assert seen.result(5) is None
    assert isinstance(second.exception(5), ClientClosedError)


def test_a_callback_of_a_failure_may_wait_for_a_thread_that_pushes(transport):
    stream, mine = client(transport).stream(), threading.Lock()
    taken, failing = threading.Event(), threading.Event()

    def push():
        with mine:
            taken.set()
            failing.wait()
            with pytest.raises(NotPermittedError):
                stream.push(samples(1))

    def note():
        failing.set()
        with mine:
            return "noted"

    seen, callback = outcome(note)
    stream.push(samples(1)).add_done_callback(callback)
    threading.Thread(target=push, daemon=True).start()
    taken.wait()
    transport.connection().end(NotPermittedError("not you", code="PERMISSION_DENIED"))
    assert seen.result(5) == "noted"


def test_ctrl_c_while_it_closes_ends_the_stream_at_once(transport):
    stream = client(transport, patience_s=0).stream()
    future = stream.push(samples(1))
    connection, interrupted = transport.connection(), threading.Event()

    def on_signal(_number, _frame):
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def interrupt():
        assert [connection.receive() for _ in range(2)] == [1, None]  # it is being closed
        # Python notices a signal that comes just before it begins to wait only with the next one
        while not interrupted.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            stream.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(future.exception(0), ClientClosedError)


def test_whatever_keeps_a_stream_from_being_opened_reaches_whoever_waits(transport):
    def exchange(rpc, requests):
        raise RuntimeError("can't start new thread")

    transport.exchange = exchange
    stream = client(transport).stream()
    future = stream.push(samples(1))
    assert isinstance(future.exception(5), PbaClientError)
    with pytest.raises(PbaClientError, match="can't start new thread"):
        stream.close()


def test_flushing_has_an_end(transport):
    stream = client(transport).stream()
    stream.push(samples(1))
    with pytest.raises(TimeoutError, match="1 batches"):
        stream.flush(timeout_s=0.01)
    stream.abort()


def test_a_stream_with_nothing_to_send_opens_no_connection(transport):
    with client(transport).stream() as stream:
        stream.flush(1)
    assert transport.exchanges.empty()


def test_a_connection_lost_while_nothing_waits_is_opened_for_the_next_push(transport):
    stream = client(transport).stream()
    stream.push(samples(1))
    first = transport.connection()
    first.acknowledge(1)
    stream.flush(5)
    first.end(UnavailableError("idle for too long", code="UNAVAILABLE"))
    later = stream.push(samples(1))
    second = transport.connection()
    assert second.receive() == 2
    second.acknowledge(2)
    assert later.result(5).stored == 1
    stream.abort()


def test_a_failure_reaches_every_batch_and_whoever_waits(transport):
    stream = client(transport, max_unacknowledged=1).stream()
    first = stream.push(samples(1))
    waiting = Future()

    def push():
        try:
            stream.push(samples(1))
        except NotPermittedError as error:
            waiting.set_result(error)

    threading.Thread(target=push).start()
    transport.connection().end(NotPermittedError("not you", code="PERMISSION_DENIED"))
    assert isinstance(first.exception(5), NotPermittedError)
    assert waiting.result(5).message == "not you"
    with pytest.raises(NotPermittedError):
        stream.close()


def test_batches_that_cannot_be_are_refused_before_they_are_sent(transport):
    stream = client(transport).stream()
    for batch in ([], samples(10_001), Columns([Link("a")], [], [])):
        with pytest.raises(ValueError, match="1 to 10000"):
            stream.push(batch)
    assert transport.exchanges.empty()


def test_deadlines_go_by_what_a_call_moves(transport):
    one = client(transport, timeouts=Timeouts(call_s=1.5, bulk_s=20))
    one.predict("a")
    one.push(samples(1))
    assert transport.calls == [(PREDICT, 1.5, True), (PUSH_SAMPLES, 20, True)]


def test_parameters_are_asked_for_again_where_health_is_not_looked_at(transport):
    transport.answers[GET_OPTIMAL_PARAMETERS, True] = UnavailableError("not serving", code="UNAVAILABLE")
    assert isinstance(client(transport).parameters("a"), Parameters)
    assert [checked for _, _, checked in transport.calls] == [True, False]
    transport.answers[GET_OPTIMAL_PARAMETERS, False] = UnavailableError("gone", code="UNAVAILABLE")
    with pytest.raises(UnavailableError, match="gone"):
        client(transport).parameters("a")


class AsyncExchange:
    """One connection of an asyncio push stream, acted by the test."""

    def __init__(self, requests):
        self.requests = requests
        self.answers = asyncio.Queue()

    async def __aiter__(self):
        while (answer := await self.answers.get()) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def cancel(self):
        self.end(CallCancelledError("cancelled", code="CANCELLED"))

    async def receive(self):
        request = await anext(self.requests, None)
        return None if request is None else request.sequence

    def acknowledge(self, sequence):
        self.end(pb.PushSamplesResponse(sequence=sequence, stored=1))

    def end(self, error=None):
        self.answers.put_nowait(error)


class AsyncFakeTransport:
    """Hands each new connection to the test."""

    def __init__(self):
        self.exchanges = asyncio.Queue()

    def exchange(self, rpc, requests):
        assert rpc is STREAM_SAMPLES
        exchange = AsyncExchange(requests)
        self.exchanges.put_nowait(exchange)
        return exchange

    async def connection(self):
        async with asyncio.timeout(5):
            return await self.exchanges.get()


def aio_stream(transport, **options):
    return AsyncClient(options=Options(backoff=QUICK, **options), transport=transport).stream()


@pytest.mark.parametrize("end", [UnavailableError("away", code="UNAVAILABLE"), None], ids=["broken", "in good order"])
async def test_an_asyncio_stream_sends_again_in_order_what_was_not_acknowledged(end):
    transport = AsyncFakeTransport()
    stream = aio_stream(transport)
    futures = [await stream.push(one) for one in samples(3)]
    first = await transport.connection()
    assert [await first.receive() for _ in range(3)] == [1, 2, 3]
    first.acknowledge(1)
    first.end(end)
    second = await transport.connection()
    assert [await second.receive() for _ in range(2)] == [2, 3]
    futures.append(await stream.push(samples(1)))
    assert await second.receive() == 4
    for sequence in (2, 2, 3, 77, 4):
        second.acknowledge(sequence)
    second.end()
    async with asyncio.timeout(5):
        assert [(await future).stored for future in futures] == [1] * 4
        await stream.close()
    assert await second.receive() is None
    assert stream.totals.stored == 4


async def test_an_asyncio_stream_lost_while_nothing_waits_is_opened_for_the_next_push():
    transport = AsyncFakeTransport()
    stream = aio_stream(transport)
    for sequence in (1, 2):
        future = await stream.push(samples(1))
        connection = await transport.connection()
        assert await connection.receive() == sequence
        connection.acknowledge(sequence)
        connection.end(UnavailableError("idle for too long", code="UNAVAILABLE"))
        async with asyncio.timeout(5):
            assert (await future).stored == 1
            assert await connection.receive() is None
    await stream.abort()


async def test_a_push_to_an_asyncio_stream_waits_while_too_many_are_unacknowledged():
    transport = AsyncFakeTransport()
    stream = aio_stream(transport, max_unacknowledged=2)
    for one in samples(2):
        await stream.push(one)
    third = asyncio.create_task(stream.push(samples(1)))
    connection = await transport.connection()
    assert [await connection.receive() for _ in range(2)] == [1, 2]
    assert not third.done()
    connection.acknowledge(1)
    async with asyncio.timeout(5):
        await third
        assert await connection.receive() == 3
        await stream.abort()


@pytest.mark.parametrize(
    "error",
    [NotPermittedError("not you", code="PERMISSION_DENIED"), RuntimeError("not you")],
    ids=["told", "unforeseen"],
)
async def test_a_failure_of_an_asyncio_stream_reaches_every_batch_and_whoever_waits(error):
    transport = AsyncFakeTransport()
    stream = aio_stream(transport, max_unacknowledged=1)
    first = await stream.push(samples(1))
    waiting = asyncio.create_task(stream.push(samples(1)))
    (await transport.connection()).end(error)
    async with asyncio.timeout(5):
        for one in (first, waiting, stream.flush(), stream.push(samples(1)), stream.close()):
            with pytest.raises(PbaClientError, match="not you"):
                await one


async def test_whatever_keeps_an_asyncio_stream_from_being_opened_reaches_whoever_waits():
    class Refusing:
        def exchange(self, rpc, requests):
            raise RuntimeError("can't start new thread")

    stream = aio_stream(Refusing())
    async with asyncio.timeout(5):
        for one in (await stream.push(samples(1)), stream.close()):
            with pytest.raises(PbaClientError, match="can't start new thread"):
                await one
