"""What is asked of the service, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400.0
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Demand:
    """A number of links and what becomes of each sample.

    Attributes:
        links: How many.
        interval_s: Between two samples of a link.
        together: Samples in one message: 1 where each node reports its own link, more for gateways.
        updates: Updates delivered to subscribers for each prediction.
        predicts: Calls of `Predict` for each sample.
        parameters: Calls of `GetOptimalParameters` for each sample.
        streams: Streams of predictions that are open.
        sticky: Whether the samples of a link keep coming to the same process, as on a long-lived stream or connection;
            otherwise each may come to any.
        retention_s: How long samples are kept.
        max_samples: And how many of a link at most.
        ledger_s: How long forecasts are kept.
        sweep_s: Between two rounds through all links (`PBA_UPDATE_INTERVAL`).
        workers: Processes of a replica.
        fill: How much of a core, of a primary's memory and of a network card may be in use.
        primary_bytes: Memory of one Redis primary.
        card_mbps: What the network card of a replica or a primary carries each way.
    """

    links: int
    interval_s: float = 60.0
    together: float = 1.0
    updates: float = 1.0
    predicts: float = 0.0
    parameters: float = 1.0
    streams: int = 0
    sticky: bool = False
    retention_s: float = 30 * DAY_S
    max_samples: int = 10_000
    ledger_s: float = 7 * DAY_S
    sweep_s: float = 60.0
    workers: int = 1
    fill: float = 0.6
    primary_bytes: float = 32 * GIB
    card_mbps: float = 10_000.0

    def __post_init__(self) -> None:
        if min(self.links, self.interval_s, self.together, self.max_samples, self.sweep_s, self.workers) <= 0:
            raise ValueError("links, interval, samples in a message and at most, sweep and workers are above 0")
        if min(self.updates, self.predicts, self.parameters, self.streams, self.retention_s, self.ledger_s) < 0:
            raise ValueError("what is asked of the service and for how long it is kept is at least 0")
        if not 0 < self.fill < 1 or min(self.primary_bytes, self.card_mbps) <= 0:
            raise ValueError("the fill is between 0 and 1; memory and network of a machine are above 0")

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.links / self.interval_s

    @property
    def samples_kept(self) -> float:
        """Of a link, once its history is full."""
        return min(self.max_samples, max(self.retention_s / self.interval_s, 1))

    @property
    def forecasts_kept(self) -> float:
        """Of a link."""
        return max(self.ledger_s / self.interval_s, 1)
