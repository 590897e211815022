"""How the supervisor learns the workers' metrics: each answers on a unix socket of its own with all of them as text."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from pba_service.observability.told import END
from pba_service.workers.merge import add, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from prometheus_client import CollectorRegistry, Metric

TIMEOUT_S = 2.0
"""How long a worker may take to answer; then what it said last counts."""

_log = structlog.get_logger(__name__)


class Workers(Collector):
    """What all workers tell, as one process would.

    Args:
        sockets: Where each worker answers, by its place.
        max_links: Links that get series of their own.
        ask: Reads what answers on a socket. Raises `OSError`.
        own: What the supervisor tells of itself; it is added to the workers'.
    """

    def __init__(
        self,
        sockets: list[Path],
        max_links: int,
        ask: Callable[[Path], str] | None = None,
        own: CollectorRegistry | None = None,
    ) -> None:
        self._sockets, self._max_links, self._ask, self._own = sockets, max_links, ask or read, own
        self._last: dict[int, list[Metric]] = {}
        self._ended: list[Metric] = []
        self._lock = threading.Lock()  # two scrapers may ask at once, each in a thread of its own

    def ended(self, place: int) -> None:
        """A worker is no more: what it counted stays."""
        with self._lock:
            self._ended = add(self._ended, self._last.pop(place, []))

    def collect(self) -> Iterable[Metric]:
        """Asks all workers."""
        with self._lock:
            for place, where in enumerate(self._sockets):
                try:
                    self._last[place] = list(text_string_to_metric_families(self._ask(where)))
                except OSError as error:
                    _log.warning("worker_metrics_stale", worker=place, reason=str(error))
            processes = [self._last.get(place, []) for place in range(len(self._sockets))]
            own = [] if self._own is None else list(self._own.collect())
            return [*merge([*processes, own], self._ended, self._max_links), _calls(processes)]

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there will be is not known before a worker is asked."""
        return []


def _calls(processes: list[list[Metric]]) -> Metric:
    """How calls spread over the workers that run now."""
    family = CounterMetricFamily("dwcp_pba_worker_calls", "Calls started, by worker.", labels=["worker"])
    for place, metrics in enumerate(processes):
        started = (metric.samples for metric in metrics if metric.name == "grpc_server_started")
        family.add_metric([str(place)], sum(sample.value for samples in started for sample in samples))
    return family


def read(where: Path) -> str:
    """All that is said on a socket. Raises `OSError`, also where it was not said to its end."""
    parts = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(where))
        while part := connection.recv(1 << 16):
            parts.append(part)
    said = b"".join(parts)
    if not said.endswith(END):
        raise ConnectionError("it ended in the midst of its metrics")
    return said.decode()
