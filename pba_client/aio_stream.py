"""The same push stream for asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from pba.v1.prediction_service_pb2 import PushSamplesRequest

from pba_client import wire
from pba_client.errors import ClientClosedError, PbaClientError, UnavailableError
from pba_client.requests import one_request
from pba_client.resume import worth_retrying
from pba_client.rpcs import STREAM_SAMPLES
from pba_client.types import PushResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import TracebackType

    from pba.v1.prediction_service_pb2 import PushSamplesResponse

    from pba_client.aio_transport import AsyncCall, AsyncTransport
    from pba_client.resume import Retry
    from pba_client.types import Columns, Sample

_GOODBYE_S = 5.0
"""How long the service may take to end a stream after its last acknowledgement."""

Outbox = asyncio.Queue[PushSamplesRequest | None]


class AsyncPushStream:
    """Pushes batches over one long-lived stream, each acknowledged once it is stored; see `PushStream`."""

    def __init__(
        self,
        transport: AsyncTransport,
        retry: Retry,
        *,
        max_unacknowledged: int,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet: the first push does; see `PushStream`."""
        self._transport = transport
        self._retry = retry
        self._max_unacknowledged = max_unacknowledged
        self._patience_s = patience_s
        self._clock = clock
        self._changed = asyncio.Condition()
        self._pending: dict[int, tuple[PushSamplesRequest, asyncio.Future[PushResult]]] = {}
        self._sequence = 0
        self._totals = PushResult()
        self._outbox: Outbox | None = None
        self._call: AsyncCall[PushSamplesResponse] | None = None
        self._failure: PbaClientError | None = None
        self._failing_since_s: float | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.abort()

    @property
    def totals(self) -> PushResult:
        """What became of all acknowledged batches together; counts only."""
        return self._totals

    @property
    def unacknowledged(self) -> int:
        """Batches that were pushed and are not acknowledged yet."""
        return len(self._pending)

    async def push(self, samples: Sample | Iterable[Sample] | Columns) -> asyncio.Future[PushResult]:
        """Sends a batch; waits only while too many are unacknowledged.

        Args:
            samples: One sample, several, or columns; at most 10,000.

        Returns:
            What became of it, in the future.

        Raises:
            ValueError: The batch is too large.
            PbaClientError: The stream has failed or is closed.
        """
        request = one_request(samples)
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._pending) < self._max_unacknowledged or self._over())
            self._raise_if_over()
            future: asyncio.Future[PushResult] = asyncio.get_running_loop().create_future()
            self._sequence += 1
            request.sequence = self._sequence
            self._pending[self._sequence] = (request, future)
            if self._outbox is not None:
                self._outbox.put_nowait(request)
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="pba-push-stream")
            self._changed.notify_all()
        return future

    async def flush(self) -> None:
        """Waits until every batch is acknowledged.

        Raises:
            PbaClientError: The stream has failed.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not self._pending or self._failure is not None)
            if self._failure is not None:
                raise self._failure

    async def close(self) -> None:
        """Waits for all acknowledgements and ends the stream; cancelled, it ends it as `abort` does.

        Raises:
            PbaClientError: The stream has failed, so that some batches may not be stored.
        """
        async with self._changed:
            self._closing = True
            if self._outbox is not None:
                self._outbox.put_nowait(None)
            self._changed.notify_all()
        try:
            await self.flush()
        except asyncio.CancelledError:
            await self.abort()
            raise
        finally:
            await self._join()

    async def abort(self) -> None:
        """Ends the stream without waiting; unacknowledged batches may or may not be stored."""
        async with self._changed:
            self._closing = True
            self._fail(ClientClosedError("stream"))
        await self._join()

    async def _join(self) -> None:
        if self._task is None:
            return
        # a service that does not end the stream is left; whoever cancels this wait leaves it as well
        await asyncio.wait([self._task], timeout=_GOODBYE_S)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _over(self) -> bool:
        return self._closing or self._failure is not None

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise ClientClosedError("stream")

    async def _run(self) -> None:
        """The task that keeps a connection open and reads its acknowledgements."""
        while await self._wait_for_work():
            cause: PbaClientError | None = None
            outbox = self._open_outbox()
            try:
                self._call = self._transport.exchange(STREAM_SAMPLES, _drain(outbox))
                await self._read(self._call)
            except PbaClientError as error:
                cause = error
            except Exception as error:  # noqa: BLE001 - such as another loop's channel: whoever waits shall hear of it
                cause = PbaClientError(f"the stream has failed: {error}")
                cause.__cause__ = error
            finally:
                outbox.put_nowait(None)  # ends grpc's task that sends from it
                self._outbox = self._call = None
            async with self._changed:
                over = not self._pending or self._over_after(cause)
            if not over:
                await self._pause(self._retry.delay_s(cause))

    async def _pause(self, delay_s: float) -> None:
        """Waits before the next attempt; woken early only by a failure from outside, such as abort."""
        try:
            async with asyncio.timeout(delay_s), self._changed:
                await self._changed.wait_for(lambda: self._failure is not None)
        except TimeoutError:
            pass

    async def _wait_for_work(self) -> bool:
        async with self._changed:
            await self._changed.wait_for(lambda: self._pending or self._over())
            return bool(self._pending) and self._failure is None

    def _open_outbox(self) -> Outbox:
        """A queue for a new connection that begins with everything unacknowledged."""
        outbox: Outbox = asyncio.Queue()
        for request, _ in self._pending.values():
            outbox.put_nowait(request)
        if self._closing:
            outbox.put_nowait(None)
        self._outbox = outbox
        return outbox

    async def _read(self, call: AsyncCall[PushSamplesResponse]) -> None:
        async for message in call:
            result = wire.push_result(message)
            async with self._changed:
                self._retry.succeeded()
                self._failing_since_s = None
                _, future = self._pending.pop(message.sequence, (None, None))
                if future is None:
                    continue  # acknowledged before
                totals = self._totals.followed_by(result, 0)
                self._totals = PushResult(totals.stored, totals.duplicates, totals.replaced, totals.refused)
                if not future.done():  # whoever waited may have been cancelled
                    future.set_result(result)
                self._changed.notify_all()

    def _over_after(self, cause: PbaClientError | None) -> bool:
        """Whether a lost connection is the end; then everything pending has failed."""
        if self._failure is None:
            now_s = self._clock()
            since_s = self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
            if cause is not None and not worth_retrying(cause):
                self._fail(cause)
            elif now_s - since_s >= self._patience_s:
                self._fail(cause or UnavailableError("the service keeps ending the stream", code="UNAVAILABLE"))
        return self._failure is not None

    def _fail(self, failure: PbaClientError) -> None:
        """Ends everything; called with the lock held."""
        self._failure = self._failure or failure
        pending, self._pending = list(self._pending.values()), {}
        for _, future in pending:
            if not future.done():
                future.set_exception(self._failure)
                future.exception()  # flush and close tell it too, so it need not be asked for
        if self._call is not None:
            self._call.cancel()
        self._changed.notify_all()


async def _drain(outbox: Outbox) -> AsyncIterator[PushSamplesRequest]:
    while (request := await outbox.get()) is not None:
        yield request
