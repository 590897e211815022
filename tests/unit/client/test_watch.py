"""A watch ends when it is closed, whenever that is."""

import asyncio
import threading

import pytest
from pba.v1 import prediction_service_pb2 as pb

from pba_client import Backoff
from pba_client.aio_watch import AsyncWatch
from pba_client.resume import Retry
from pba_client.watch import Watch


class Quiet:
    """A call on which nothing ever comes."""

    def __init__(self):
        self._cancelled = threading.Event()

    def __iter__(self):
        self._cancelled.wait()
        return iter(())

    def cancel(self):
        self._cancelled.set()


def test_closing_while_the_call_is_being_opened_ends_it():
    opening, may_open, call = threading.Event(), threading.Event(), Quiet()

    def open_call():
        opening.set()
        may_open.wait()
        return call

    watch = Watch(open_call, Retry(Backoff()))
    reader = threading.Thread(target=lambda: list(watch), daemon=True)
    reader.start()
    opening.wait()
    watch.close()
    may_open.set()
    reader.join(10)
    assert not reader.is_alive()


def test_closing_while_nothing_comes_ends_it():
    calls = []

    def open_call():
        calls.append(Quiet())
        opened.set()
        return calls[-1]

    opened = threading.Event()
    watch = Watch(open_call, Retry(Backoff()))
    reader = threading.Thread(target=lambda: list(watch), daemon=True)
    reader.start()
    opened.wait()
    watch.close()
    reader.join(10)
    assert not reader.is_alive()
    assert len(calls) == 1


class Updates:
    """A call for asyncio whose updates the test sends."""

    def __init__(self):
        self.sent = asyncio.Queue()
        self.cancelled = False

    async def __aiter__(self):
        while (update := await self.sent.get()) is not None:
            yield update

    def cancel(self):
        self.cancelled = True
        self.sent.put_nowait(None)


async def test_a_wait_that_was_cancelled_does_not_end_an_asyncio_watch():
    calls = []

    def open_call():
        calls.append(Updates())
        calls[-1].sent.put_nowait(pb.StreamPredictionsResponse(snapshot_complete=True))
        return calls[-1]

    watch = AsyncWatch(open_call, Retry(Backoff()))
    assert (await anext(watch)).gap is None
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await anext(watch)).gap is not None
    assert [call.cancelled for call in calls] == [True, False]
    await watch.aclose()
    assert [update async for update in watch] == []
