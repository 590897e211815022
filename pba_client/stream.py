"""A push stream that resends what was not acknowledged when its connection is lost."""

from __future__ import annotations

import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING, Self

from pba_client import wire
from pba_client.errors import ClientClosedError, PbaClientError, UnavailableError
from pba_client.requests import one_request
from pba_client.resume import worth_retrying
from pba_client.rpcs import STREAM_SAMPLES
from pba_client.types import PushResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from pba.v1.prediction_service_pb2 import PushSamplesRequest, PushSamplesResponse

    from pba_client.resume import Retry
    from pba_client.transport import Call, Transport
    from pba_client.types import Columns, Sample

_GOODBYE_S = 5.0
"""How long the service may take to end a stream after its last acknowledgement."""


class PushStream:
    """Pushes batches over one long-lived stream, each acknowledged once it is stored.

    `push` returns at once, with a future of what became of the batch; it waits only while too many batches are
    unacknowledged. In a callback of such a future neither `push` nor `close` waits, and `flush` cannot. After a lost
    connection every unacknowledged batch is sent again, which stores nothing twice. Leaving the `with` block waits for
    all acknowledgements and raises when the service stayed away for too long.

    Threads may share it.
    """

    def __init__(
        self,
        transport: Transport,
        retry: Retry,
        *,
        max_unacknowledged: int,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet: the first push does.

        Args:
            transport: Carries out the calls.
            retry: When to open the stream again.
            max_unacknowledged: Batches sent ahead of their acknowledgements.
            patience_s: How long to try to reach the service while batches wait.
            clock: Monotonic seconds.
        """
        self._transport = transport
        self._retry = retry
        self._max_unacknowledged = max_unacknowledged
        self._patience_s = patience_s
        self._clock = clock
        self._changed = Condition()
        self._pending: dict[int, tuple[PushSamplesRequest, Future[PushResult]]] = {}
        self._sequence = 0
        self._totals = PushResult()
        self._outbox: SimpleQueue[PushSamplesRequest | None] | None = None
        self._call: Call[PushSamplesResponse] | None = None
        self._failure: PbaClientError | None = None
        self._failing_since_s: float | None = None
        self._closing = False
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @property
    def totals(self) -> PushResult:
        """What became of all acknowledged batches together; counts only."""
        return self._totals

    @property
    def unacknowledged(self) -> int:
        """Batches that were pushed and are not acknowledged yet."""
        return len(self._pending)

    def push(self, samples: Sample | Iterable[Sample] | Columns) -> Future[PushResult]:
        """Sends a batch.

        Args:
            samples: One sample, several, or columns; at most 10,000.

        Returns:
            What became of it, in the future.

        Raises:
            ValueError: The batch is too large.
            PbaClientError: The stream has failed or is closed.
        """
        request = one_request(samples)
        future: Future[PushResult] = Future()
        future.set_running_or_notify_cancel()  # what is on its way cannot be taken back
        with self._changed:
            if not self._in_callback():
                self._changed.wait_for(lambda: len(self._pending) < self._max_unacknowledged or self._over())
            self._raise_if_over()
            self._sequence += 1
            request.sequence = self._sequence
            self._pending[self._sequence] = (request, future)
            if self._outbox is not None:
                self._outbox.put(request)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="pba-push-stream", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def flush(self, timeout_s: float | None = None) -> None:
        """Waits until every batch is acknowledged.

        Raises:
            TimeoutError: They were not in time.
            PbaClientError: The stream has failed.
            RuntimeError: It is called in a callback of a push, which would wait for itself.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._in_callback():
                raise RuntimeError("a callback of a push cannot wait for acknowledgements, which it holds up")
            if not self._changed.wait_for(lambda: not self._pending, timeout_s):
                raise TimeoutError(f"{len(self._pending)} batches are not acknowledged after {timeout_s:g} s")
            if self._failure is not None:
                raise self._failure

    def close(self) -> None:
        """Waits for all acknowledgements and ends the stream; interrupted by Ctrl-C, it ends it as `abort` does.

        Raises:
            PbaClientError: The stream has failed, so that some batches may not be stored.
        """
        try:
            with self._changed:
                self._closing = True
                if self._outbox is not None:
                    self._outbox.put(None)
                self._changed.notify_all()
            if not self._in_callback():
                self.flush()
        except BaseException:  # failed, or interrupted
            self.abort()
            raise
        finally:
            self._join()

    def abort(self) -> None:
        """Ends the stream without waiting; unacknowledged batches may or may not be stored."""
        with self._changed:
            self._closing = True
        self._fail(ClientClosedError("stream"))
        self._join()

    def _in_callback(self) -> bool:
        """Whether this is the thread that takes acknowledgements: nothing would ever end its wait for them."""
        return current_thread() is self._thread

    def _join(self) -> None:
        if self._thread is None or self._in_callback():
            return
        self._thread.join(_GOODBYE_S)
        if self._call is not None:
            self._call.cancel()  # everything is acknowledged, the service just does not end the stream
        self._thread.join()

    def _over(self) -> bool:
        return self._closing or self._failure is not None

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise ClientClosedError("stream")

    def _run(self) -> None:
        """The thread that keeps a connection open and reads its acknowledgements."""
        while self._wait_for_work():
            cause: PbaClientError | None = None
            outbox = self._open_outbox()
            try:
                self._read(self._transport.exchange(STREAM_SAMPLES, iter(outbox.get, None)))
            except PbaClientError as error:
                cause = error
            except Exception as error:  # noqa: BLE001 - such as no more threads: whoever waits shall hear of it
                cause = PbaClientError(f"the stream has failed: {error}")
                cause.__cause__ = error
            finally:
                outbox.put(None)  # ends grpc's thread that sends from it
            with self._changed:
                self._outbox = self._call = None
                failure = self._given_up_after(cause) if self._pending and self._failure is None else None
                if self._pending and failure is None:
                    # woken early only by a failure from outside, such as abort
                    self._changed.wait_for(lambda: self._failure is not None, self._retry.delay_s(cause))
            if failure is not None:
                self._fail(failure)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._over())
            return bool(self._pending) and self._failure is None

    def _open_outbox(self) -> SimpleQueue[PushSamplesRequest | None]:
        """A queue for a new connection that begins with everything unacknowledged."""
        outbox: SimpleQueue[PushSamplesRequest | None] = SimpleQueue()
        with self._changed:
            for request, _ in self._pending.values():
                outbox.put(request)
            if self._closing:
                outbox.put(None)
            self._outbox = outbox
        return outbox

    def _read(self, call: Call[PushSamplesResponse]) -> None:
        with self._changed:
            self._call = call
            if self._failure is not None:
                call.cancel()
        for message in call:
            result = wire.push_result(message)
            with self._changed:
                self._retry.succeeded()
                self._failing_since_s = None
                _, future = self._pending.get(message.sequence, (None, None))
            if future is None:
                continue  # acknowledged before
            # without the lock, for it runs the callbacks; and before the batch leaves, so that flush waits for them
            with suppress(InvalidStateError):  # failed from outside meanwhile
                future.set_result(result)
            with self._changed:
                self._pending.pop(message.sequence, None)
                totals = self._totals.followed_by(result, 0)
                self._totals = PushResult(totals.stored, totals.duplicates, totals.replaced, totals.refused)
                self._changed.notify_all()

    def _given_up_after(self, cause: PbaClientError | None) -> PbaClientError | None:
        """What a lost connection makes of everything pending; None where it is worth another try."""
        now_s = self._clock()
        since_s = self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        if cause is not None and not worth_retrying(cause):
            return cause
        if now_s - since_s >= self._patience_s:
            return cause or UnavailableError("the service keeps ending the stream", code="UNAVAILABLE")
        return None

    def _fail(self, failure: PbaClientError) -> None:
        """Ends everything; called without the lock, for it runs the callbacks."""
        with self._changed:
            failure = self._failure = self._failure or failure
            pending = list(self._pending.values())
            if self._outbox is not None:
                self._outbox.put(None)
            if self._call is not None:
                self._call.cancel()
            self._changed.notify_all()
        for _, future in pending:
            with suppress(InvalidStateError):  # acknowledged at this very moment
                future.set_exception(failure)
        with self._changed:
            self._pending = {}
            self._changed.notify_all()
