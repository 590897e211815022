"""Coming back after a lost connection: when to try again, and what a subscription has missed. No I/O."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pba_client import wire
from pba_client.errors import CallCancelledError, ServiceFaultError, TemporaryError
from pba_client.types import Gap, WatchUpdate

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba.v1.prediction_service_pb2 import StreamPredictionsResponse

    from pba_client.errors import PbaClientError
    from pba_client.options import Backoff


class Retry:
    """Decides whether to open a stream again, and after how long."""

    def __init__(self, backoff: Backoff, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._backoff = backoff
        self._uniform = uniform
        self.attempts = 0

    def succeeded(self) -> None:
        """The stream works: the next loss starts from the beginning."""
        self.attempts = 0

    def delay_s(self, cause: PbaClientError | None) -> float:
        """Counts an attempt and says how long to wait before it.

        The wait is random between 0 and a growing bound, so that clients of a restarted service do not come back all
        at once, and never shorter than the service asked for.

        Args:
            cause: What ended the stream; None when the service ended it in good order.
        """
        delay = self._uniform(0.0, self._backoff.bound_s(self.attempts))
        self.attempts += 1
        if cause is not None and cause.retry_after is not None:
            delay += cause.retry_after.total_seconds()
        return delay


def worth_retrying(error: PbaClientError) -> bool:
    """Whether a stream that ended so may work when it is opened again."""
    return isinstance(error, TemporaryError | ServiceFaultError | CallCancelledError)


class Subscription:
    """What a subscription must remember over its connections."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._connected = False
        self._lost_at: datetime | None = None
        self._cause: PbaClientError | None = None
        self._attempts = 0
        self._skipped_before = 0
        self._skipped = 0

    def lost(self, cause: PbaClientError | None) -> None:
        """The connection ended, or could not be opened."""
        if not self._connected:
            return  # what never began was not cut off
        self._attempts += 1
        self._cause = cause if cause is not None else self._cause
        if self._lost_at is None:
            self._lost_at = self._now()
            self._skipped_before += self._skipped
            self._skipped = 0

    def update(self, message: StreamPredictionsResponse) -> WatchUpdate:
        """A message as an update, with the gap before it."""
        gap = None
        if self._lost_at is not None:
            gap = Gap(self._lost_at, self._now(), self._attempts, self._cause)
            self._lost_at, self._cause, self._attempts = None, None, 0
        self._connected = True
        self._skipped = message.skipped_updates
        return WatchUpdate(
            predictions=tuple(wire.prediction(one) for one in message.predictions),
            skipped_updates=self._skipped_before + self._skipped,
            snapshot_complete=message.snapshot_complete,
            gap=gap,
        )
