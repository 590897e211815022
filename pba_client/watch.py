"""A subscription to predictions that outlives its connections."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Self

from pba_client.errors import PbaClientError
from pba_client.resume import Subscription, worth_retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from pba.v1.prediction_service_pb2 import StreamPredictionsResponse

    from pba_client.resume import Retry
    from pba_client.transport import Call
    from pba_client.types import WatchUpdate


class Watch:
    """Iterates over `WatchUpdate`s for ever; a lost connection is opened again and its gap told.

    Ends when it is closed, which any thread may do. Raises only what trying again would not cure.
    """

    def __init__(
        self,
        open_call: Callable[[], Call[StreamPredictionsResponse]],
        retry: Retry,
        on_interruption: Callable[[PbaClientError | None, float], None] | None = None,
    ) -> None:
        """Opens nothing yet: the first iteration does.

        Args:
            open_call: Opens the stream.
            retry: When to open it again.
            on_interruption: Told of each loss, its cause (None: ended in good order) and the seconds until the next
                attempt.
        """
        self._open_call = open_call
        self._retry = retry
        self._on_interruption = on_interruption
        self._subscription = Subscription()
        self._closed = Event()
        self._call: Call[StreamPredictionsResponse] | None = None
        self._updates = self._follow()

    def __iter__(self) -> Iterator[WatchUpdate]:
        return self

    def __next__(self) -> WatchUpdate:
        return next(self._updates)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription."""
        self._closed.set()
        call = self._call  # the thread that iterates may let go of it at any moment
        if call is not None:
            call.cancel()

    def _follow(self) -> Generator[WatchUpdate]:
        while not self._closed.is_set():
            cause: PbaClientError | None = None
            try:
                self._call = self._open_call()
                if self._closed.is_set():  # meanwhile, when there was no call yet to cancel
                    return
                for message in self._call:
                    self._retry.succeeded()
                    yield self._subscription.update(message)
            except PbaClientError as error:
                cause = error
            finally:
                self._cancel()
            if self._closed.is_set():
                return
            if cause is not None and not worth_retrying(cause):
                raise cause
            self._subscription.lost(cause)
            delay_s = self._retry.delay_s(cause)
            if self._on_interruption is not None:
                self._on_interruption(cause, delay_s)
            self._closed.wait(delay_s)

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
