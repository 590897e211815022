"""What an interval came to: each value, how it was obtained, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pba_client.agent.passive import PassiveStats
    from pba_client.agent.session import ProbeStats
    from pba_client.agent.tally import Share


class Source(IntEnum):
    """How a value was obtained."""

    ABSENT = 0
    """It was not measured."""
    TCP = 1
    """From the transport's own connections (TCP_INFO)."""
    PROBE = 2
    """From probes; loss and jitter on the way there alone."""
    PROBE_TWO_WAY = 3
    """From probes, there and back."""
    TRAIN = 4
    """From packet trains."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One sample of one link, and what stands behind it.

    Attributes:
        link_id: The link.
        measured_at_ms: The end of its interval, ms since 1970 by this node's clock.
        bandwidth_mbps: Available bandwidth, headers counted; None, as for the others: not measured.
        latency_ms: Round trip.
        packet_loss_ratio: Share lost.
        jitter_ms: Mean difference between neighbours' transit times.
        sources: How each of the four was obtained, in this order.
        loss: The loss with its bounds.
        transport_loss: What the transport lost in all, its own queue's drops included; told, but not sent.
        base_latency_ms: The shortest round trip: what is above it is queue.
        carried_mbps: What the transport's connections carried over the interval.
    """

    link_id: str
    measured_at_ms: int
    bandwidth_mbps: float | None = None
    latency_ms: float | None = None
    packet_loss_ratio: float | None = None
    jitter_ms: float | None = None
    sources: tuple[Source, Source, Source, Source] = (Source.ABSENT,) * 4
    loss: Share | None = None
    transport_loss: Share | None = None
    base_latency_ms: float | None = None
    carried_mbps: float = 0.0

    @property
    def values(self) -> tuple[float | None, float | None, float | None, float | None]:
        """The four values."""
        return self.bandwidth_mbps, self.latency_ms, self.packet_loss_ratio, self.jitter_ms

    @property
    def empty(self) -> bool:
        """Whether nothing was measured."""
        return all(value is None for value in self.values)


def combine(
    link_id: str, measured_at_ms: int, passive: PassiveStats, probes: ProbeStats, train_mbps: float | None
) -> Measurement:
    """The best that is known of an interval, passive first.

    Bandwidth is the transport's own rate where nothing but the path held it down, else what the train found, and never
    less than what was carried. Loss is taken from whichever saw more packets. While the transport itself fills the path
    its queue drops packets, probes among them, and the path's own loss cannot be told from that: it is absent then. As
    loss of the path it would ask for more streams, which lose more.
    """
    bandwidth, how_bandwidth = passive.bandwidth_mbps, Source.TCP
    if bandwidth is None and train_mbps is not None:
        bandwidth, how_bandwidth = max(train_mbps, passive.carried_mbps), Source.TRAIN
    latency, how_latency = passive.latency_ms, Source.TCP
    if latency is None:
        latency, how_latency = probes.latency_ms, Source.PROBE_TWO_WAY
    loss, how_loss = passive.loss, Source.TCP
    if probes.loss is not None and not passive.congested and (loss is None or probes.loss.trials > loss.trials):
        loss, how_loss = probes.loss, Source.PROBE if probes.one_way else Source.PROBE_TWO_WAY
    ratio = None if loss is None else loss.ratio
    pairs = (
        (bandwidth, how_bandwidth),
        (latency, how_latency),
        (ratio, how_loss),
        (probes.jitter_ms, Source.PROBE),
    )
    first, second, third, fourth = (Source.ABSENT if value is None else how for value, how in pairs)
    least = [one for one in (passive.least_ms, probes.least_ms) if one is not None]
    return Measurement(
        link_id=link_id,
        measured_at_ms=measured_at_ms,
        bandwidth_mbps=bandwidth,
        latency_ms=latency,
        packet_loss_ratio=ratio,
        jitter_ms=probes.jitter_ms,
        sources=(first, second, third, fourth),
        loss=loss,
        transport_loss=passive.transport_loss,
        base_latency_ms=min(least) if least else None,
        carried_mbps=passive.carried_mbps,
    )
