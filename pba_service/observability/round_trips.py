"""What the store's round trips to Redis take, how many are under way, and their spans."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from prometheus_client import Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from pba_service.observability.spans import Tracing

_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_WAITING = frozenset({"XREAD"})
"""What is meant to take long: it waits for news."""


class RoundTrips:
    """Goes around each round trip."""

    def __init__(self, registry: CollectorRegistry, tracing: Tracing | None = None) -> None:
        """Registers the metrics; with `tracing` round trips within a traced call are spans."""
        self._tracing = tracing
        self._seconds = Histogram(
            "dwcp_pba_redis_round_trip_seconds",
            "Time that Redis took to answer, waiting for a connection included; failures count too.",
            ("operation",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._under_way = Gauge(
            "dwcp_pba_redis_round_trips",
            "Round trips to Redis under way; more than the 32 connections of a process wait for one.",
            registry=registry,
        )

    @contextmanager
    def around(self, operation: str) -> Iterator[None]:
        """Around one round trip: the name of a command, or of one of the service's scripts."""
        if operation in _WAITING:
            yield
            return
        started_s = time.perf_counter()
        self._under_way.inc()
        try:
            with self._tracing.round_trip(operation) if self._tracing else nullcontext():
                yield
        finally:
            self._under_way.dec()
            self._seconds.labels(operation).observe(time.perf_counter() - started_s)
