"""What Prometheus is told of retraining. All replicas tell of the same shared record: take the greatest of them."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from enum import Enum

    from prometheus_client import CollectorRegistry

TRAINED = "trained"
OUTCOMES = (TRAINED, "too_little_data", "failed", "stopped", "refused")


class KnownRun(Protocol):
    """The run that is going on, or the last one."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        ...

    @property
    def phase(self) -> Enum:
        """How far it is."""
        ...

    @property
    def done_ratio(self) -> float:
        """How much of the phase is done."""
        ...


class KnownRecord(Protocol):
    """What is known of retraining."""

    @property
    def run(self) -> KnownRun | None:
        """The run that is going on, or the last one."""
        ...

    @property
    def trained_at_ms(self) -> int:
        """When a run last gave a model."""
        ...

    @property
    def ended(self) -> tuple[tuple[str, int], ...]:
        """Runs that ended, by outcome."""
        ...


class RetrainingMetrics:
    """Counts what this replica saw end, and shows how things are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics; each registry takes one of these."""
        self._completed = Counter("dwcp_pba_retrain_total", "Retrainings that gave a model.", registry=registry)
        self._ended = Counter(
            "dwcp_pba_retrain_runs_total", "Retrainings that ended, by how.", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self._ended.labels(outcome)
        self._running = Gauge(
            "dwcp_pba_retrain_running", "1 for the phase of the retraining that goes on.", ["phase"], registry=registry
        )
        self._done = Gauge(
            "dwcp_pba_retrain_progress_ratio", "How much of that phase is done, 0 to 1.", registry=registry
        )
        self._last = Gauge(
            "dwcp_pba_retrain_last_success_timestamp_seconds",
            "When a retraining last gave a model; 0: never.",
            registry=registry,
        )
        self._due = Gauge(
            "dwcp_pba_retrain_due_timestamp_seconds",
            "When the next retraining is due, whether or not the last ones failed; 0: none is.",
            registry=registry,
        )
        self._interval = Gauge("dwcp_pba_retrain_interval_seconds", "PBA_RETRAIN_INTERVAL; 0: off.", registry=registry)
        self._seen: Counts[str] | None = None

    def look(self, record: KnownRecord, due_at_ms: int, interval_ms: int) -> None:
        """Takes in the shared record as it is now."""
        ended = Counts(dict(record.ended))
        for outcome, more in (ended - (ended if self._seen is None else self._seen)).items():
            self._ended.labels(outcome).inc(more)
            if outcome == TRAINED:
                self._completed.inc(more)
        self._seen = ended
        self._running.clear()
        running = record.run if record.run is not None and record.run.running else None
        if running is not None:
            self._running.labels(str(running.phase.value)).set(1)
        self._done.set(running.done_ratio if running else 0)
        self._last.set(record.trained_at_ms / 1000)
        self._due.set(due_at_ms / 1000)
        self._interval.set(interval_ms / 1000)
