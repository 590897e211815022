"""Rate, errors and duration of calls, under the names of go-grpc-prometheus that existing dashboards know.

Counted in plain numbers, and made into metrics when they are asked for: prometheus_client's own counters and histograms
took more of a call than answering it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

import grpc
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry, Metric

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OK = grpc.StatusCode.OK


class MethodMetrics:
    """The metrics of one method. Written from one thread and read from another, in which some may be a moment older.

    Attributes:
        name: Its path.
        labels: Values of its labels.
        started: Calls that began.
        durations: How many calls took so long, by bucket; the last is of those beyond the longest.
        seconds: How long all took together.
    """

    __slots__ = ("_clock", "_ok", "_others", "durations", "labels", "name", "seconds", "started")

    def __init__(self, name: str, grpc_type: str, clock: Callable[[], float]) -> None:
        self.name, self._clock = name, clock
        service, _, method = name.strip("/").rpartition("/")
        self.labels = (grpc_type, service, method)
        self.started = self._ok = 0
        self._others = {code: 0 for code in grpc.StatusCode if code is not _OK}
        self.durations = [0] * (len(_BUCKETS_S) + 1)
        self.seconds = 0.0

    @property
    def handled(self) -> dict[grpc.StatusCode, int]:
        """Calls that ended, by status code."""
        return {_OK: self._ok, **self._others}

    def begin(self) -> float:
        """Counts a call; its start, for `end`."""
        self.started += 1
        return self._clock()

    def end(self, started_s: float, code: grpc.StatusCode) -> float:
        """Counts the end of a call; how long it took in seconds."""
        took_s = self._clock() - started_s
        if code is _OK:  # by itself: to look a code up, Python code computes its hash
            self._ok += 1
        else:
            self._others[code] += 1
        self.durations[bisect_left(_BUCKETS_S, took_s)] += 1
        self.seconds += took_s
        return took_s


class RpcMetrics(Collector):
    """The metrics of all methods that were called."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.perf_counter) -> None:
        """Registers the metrics; `clock` gives monotonic seconds."""
        self._clock = clock
        self._methods: dict[str, MethodMetrics] = {}
        registry.register(self)

    def method(self, name: str, grpc_type: str) -> MethodMetrics:
        """The metrics of a method, told from now on."""
        known = self._methods.get(name)
        if known is None:
            known = self._methods[name] = MethodMetrics(name, grpc_type, self._clock)
        return known

    def collect(self) -> Iterable[Metric]:
        """The three families."""
        methods = list(self._methods.values())
        started = CounterMetricFamily("grpc_server_started", "Calls started.", labels=_LABELS)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls finished, by status code.", labels=(*_LABELS, "grpc_code")
        )
        took = HistogramMetricFamily(
            "grpc_server_handling_seconds", "Time from the start of a call to its end.", labels=_LABELS
        )
        ends = [*map(floatToGoString, _BUCKETS_S), "+Inf"]
        for method in methods:
            started.add_metric(method.labels, method.started)
            for code, count in method.handled.items():
                handled.add_metric((*method.labels, code.name), count)
            counts = map(float, accumulate(method.durations))
            took.add_metric(method.labels, list(zip(ends, counts, strict=True)), method.seconds)
        yield from (started, handled, took)
