"""A watch ends when it is closed, whenever that is."""

import threading

from pba_client import Backoff
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
