"""Transport parameters without the service: documented rules on the node's own newest measurements.

Streams: 1.5 times the bandwidth over what loss leaves one stream (Padhye et al., "Modeling TCP throughput", SIGCOMM
1998, equation 30 with b = 1), no more than leave each 4 segments of the bandwidth-delay product and its queue, at least
2. Buffers: twice the product over the streams, and 32 KiB. No pace: one that nobody renews would outlive its evidence.
Where nothing was measured: 8 streams of 256 KiB, as the service says for unknown links.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba_client.agent.tally import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_client.agent.config import LinkConfig
    from pba_client.agent.measurement import Measurement

RECENT = 10
"""Samples whose medians count."""

_MSS_BYTES = 1448
_HEADROOM = 1.5
_SEGMENTS_EACH = 4
_QUEUE_BYTES = 24_000
_QUEUE_SHARE = 0.25
_MOST_UNSEEN_LOSS = 0.005
_LEAST_LOSS = 1e-6
_KIB = 1024
_LEAST_STREAMS, _MOST_STREAMS = 2, 256
_LEAST_BUFFER, _MOST_BUFFER = 64 * _KIB, 1024 * _KIB
_NOT_SENT_BYTES = 64 * _KIB


@dataclass(frozen=True, slots=True)
class LocalParameters:
    """What the rules say, and on what."""

    streams: int
    buffer_bytes: int
    chunk_bytes: int
    not_sent_bytes: int
    explanation: str


def local_parameters(recent: Sequence[Measurement], link: LinkConfig) -> LocalParameters:
    """Parameters from a link's newest measurements, oldest first."""
    recent = recent[-RECENT:]
    bandwidth = median(one.bandwidth_mbps for one in recent if one.bandwidth_mbps is not None)
    latency = median(one.latency_ms for one in recent if one.latency_ms is not None)
    if not bandwidth or not latency:
        return _sized(8, 256 * _KIB, link, "no bandwidth or latency was measured: 8 streams of 256 KiB")
    loss = median(_reckoned(one) for one in recent)
    round_trip_s, product = latency / 1e3, bandwidth * 125 * latency
    each_mbps = _stream_mbps(round_trip_s, max(loss or _MOST_UNSEEN_LOSS, _LEAST_LOSS))
    most = (product * (1 + _QUEUE_SHARE) + _QUEUE_BYTES) / (_SEGMENTS_EACH * _MSS_BYTES)
    streams = math.ceil(min(_HEADROOM * bandwidth / each_mbps, most, _MOST_STREAMS))
    streams = min(max(streams, _LEAST_STREAMS), link.max_streams or _MOST_STREAMS)
    why = f"medians of {len(recent)} samples: {bandwidth:.4g} Mbit/s, {latency:.4g} ms, loss {loss or 0:.2%}"
    return _sized(streams, 2 * product / streams + 32 * _KIB, link, why)


def _reckoned(one: Measurement) -> float:
    """A sample's loss; what a few probes cannot have seen counts as far as it could be, at most half a percent."""
    if one.loss is None:
        return _MOST_UNSEEN_LOSS if one.packet_loss_ratio is None else one.packet_loss_ratio
    unseen = min(3 / max(one.loss.trials, 1), _MOST_UNSEEN_LOSS)
    return max(one.loss.ratio, unseen)


def _stream_mbps(round_trip_s: float, loss: float) -> float:
    fast = round_trip_s * math.sqrt(2 * loss / 3)
    slow = (round_trip_s + 0.2) * min(1.0, 3 * math.sqrt(3 * loss / 8)) * loss * (1 + 32 * loss**2)
    return 8 * _MSS_BYTES / 1e6 / (fast + slow)


def _sized(streams: int, buffer_bytes: float, link: LinkConfig, why: str) -> LocalParameters:
    streams = min(streams, link.max_streams or streams)
    buffer = round(min(max(buffer_bytes, _LEAST_BUFFER), _MOST_BUFFER, link.max_buffer_bytes or _MOST_BUFFER))
    chunk = min(max(buffer // 4, 8 * _KIB), 512 * _KIB)
    return LocalParameters(streams, buffer, chunk, _NOT_SENT_BYTES, why)
