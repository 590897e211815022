"""A scripted service on a real server, and options that wait briefly."""

import threading
from concurrent.futures import Future

import pytest

from pba_client import Backoff, Options, Timeouts
from tests.integration.client.scripted_service import AioServer, ServerThread


@pytest.fixture
def server():
    thread = ServerThread()
    yield thread
    thread.close()


@pytest.fixture
async def aio_server():
    running = AioServer()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def options():
    return Options(
        timeouts=Timeouts(call_s=30, bulk_s=30), backoff=Backoff(initial_s=0.02, maximum_s=0.1), patience_s=30
    )


@pytest.fixture
def within():
    """Reads from a blocking source in a thread, so that a test that would hang fails instead."""

    def read(function, timeout_s=10):
        future = Future()

        def run():
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - whatever it was, the test shall see it
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future.result(timeout_s)

    return read
