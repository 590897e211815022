"""Parameters for given conditions: the optimizer proper. Every number has one formula and a reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba_service.domain.amst import tcp
from pba_service.domain.parameters import (
    BandwidthKind,
    CongestionControl,
    Limits,
    ParameterReason,
    ParametersAsk,
    TransportBounds,
    TransportParameters,
)

if TYPE_CHECKING:
    from pba_service.domain.amst.conditions import Conditions

LOSS_HEADROOM = 1.5
"""Streams' own rates together, over the path's: 1.5 fills 98 % of it (`tcp.KNEE`)."""

OWN_LOSS_RATIO = 0.015
"""Loss that streams may cause themselves before there are too many of them; the model is held to half of the goal."""

FEW_STREAMS = 2.0
MORE_STREAMS = 4.0
SEGMENTS_PER_STREAM = 16
"""Where nothing is lost: a second pair of streams while each keeps so many segments under way."""

BUFFER_HEADROOM = 2.0
BUFFER_EXTRA_BYTES = 32 * 1024
BUFFER_LEAST_BYTES = 64 * 1024
WINDOW_HEADROOM = 1.25
"""Streams x window, over the bandwidth-delay product, where the largest buffer decides how many streams there are."""

MIN_CHUNK_BYTES = 8 * 1024
MAX_CHUNK_BYTES = 512 * 1024
CHUNKS_PER_BUFFER = 4
NOT_SENT_BYTES = 64 * 1024
"""TCP_NOTSENT_LOWAT: what waits in a socket cannot be given to a faster stream; shortens the end of a transfer."""

PACING_SHARE = 0.955
"""Of the bandwidth: 98.9 % of the best goodput (payload is 96.5 % of the bytes), and the queue stays empty."""

PACE_PRESSURE = 0.05
PACE_RELEASE = 1.15
"""Where loss holds streams down a pace is released bit by bit: a slowed stream's share would go to nobody."""

MIN_PACED_MBPS = 0.1
"""Below this no pace is set: one held so low would keep a transfer from noticing that the link is back."""

DEFAULT_STREAMS = 8
DEFAULT_BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Advice:
    """Parameters and why they are so, most important reason first."""

    parameters: TransportParameters
    reasons: tuple[ParameterReason, ...]


def optimize(link: Conditions, ask: ParametersAsk, bounds: TransportBounds, *, correction: float = 1.0) -> Advice:
    """The parameters for one set of conditions.

    Streams: `1.5 C / r` where r is what loss leaves a stream (`tcp.stream_mbps`), with the upper ends of bandwidth C,
    delay and loss; not so many that they would cause more than 1.5 % loss themselves (`C / r` at that loss more, with
    the queue full: `tcp.own_loss_ratio` turned round); at least two, and what the largest buffer needs to cover
    `1.25 BDP`. BBR is not held by loss: two, or what the buffer needs.
    Buffer: `2 BDP / N + 32 KiB`, at least 64 KiB. Chunk: a quarter of it, 8 to 512 KiB.
    Pace: 95.5 % of the upper bandwidth where the path is the limit, released as loss becomes it, absent where the
    node's bandwidth is only the goodput it achieved.

    Args:
        link: What is known of the link.
        ask: What the caller says of itself.
        bounds: What the service recommends at least and at most; a caller's limit below a minimum wins.
        correction: Streams over what the model says, as outcomes taught it.
    """
    limits, control = Limits.of(ask, bounds), ask.congestion_control
    product = tcp.product_bytes(link.bandwidth_upper_mbps, link.latency_upper_ms / 1e3)
    for_buffer = WINDOW_HEADROOM * product / (tcp.KERNEL_WINDOW_SHARE * limits.max_buffer_bytes)
    for_loss, most = (
        streams_for_loss(link, control) * correction,
        streams_for_own_loss(link, control) * max(correction, 1.0),
    )
    few = min(max(product / (SEGMENTS_PER_STREAM * tcp.MSS_BYTES), FEW_STREAMS), MORE_STREAMS)
    if control is CongestionControl.BBR:
        few = FEW_STREAMS
    wanted = max(min(for_loss, most), for_buffer, few)
    streams = limits.streams(wanted)
    wanted_buffer = max(BUFFER_HEADROOM * product / streams + BUFFER_EXTRA_BYTES, BUFFER_LEAST_BYTES)
    buffer_bytes = limits.buffer_bytes(wanted_buffer, streams)
    pace = pace_of(link, ask, streams)
    reasons = _reasons(link, ask, for_loss=for_loss, most=most, for_buffer=for_buffer, few=few, correction=correction)
    if pace is not None:
        reasons.append(ParameterReason.PACED)
    reasons += _limit_reasons(wanted, wanted_buffer, streams, ask, bounds)
    return Advice(sized(streams, buffer_bytes, pace), tuple(reasons))


def streams_for_loss(link: Conditions, control: CongestionControl) -> float:
    """Streams whose own rates add up to 1.5 times the path's, at the upper ends of what is expected."""
    rate = tcp.stream_mbps(control, link.latency_upper_ms / 1e3, link.loss_upper_ratio)
    return LOSS_HEADROOM * link.bandwidth_upper_mbps / rate


def streams_for_own_loss(link: Conditions, control: CongestionControl) -> float:
    """Streams that just cause `OWN_LOSS_RATIO` themselves on a path of the expected bandwidth with its queue full."""
    rate = tcp.stream_mbps(control, link.full_rtt_s, link.loss_ratio + OWN_LOSS_RATIO)
    return link.bandwidth_mbps / rate


def defaults(ask: ParametersAsk, bounds: TransportBounds) -> TransportParameters:
    """The documented conservative defaults, 8 streams of 256 KiB in chunks of 64 KiB unpaced, within all limits."""
    limits = Limits.of(ask, bounds)
    streams = limits.streams(DEFAULT_STREAMS)
    return sized(streams, limits.buffer_bytes(DEFAULT_BUFFER_BYTES, streams), None)


def sized(streams: int, buffer_bytes: int, pacing_mbps: float | None) -> TransportParameters:
    """Parameters with the sizes that follow from the buffer."""
    chunk = min(max(buffer_bytes // CHUNKS_PER_BUFFER, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES)
    return TransportParameters(
        streams=streams,
        buffer_bytes=buffer_bytes,
        chunk_bytes=min(chunk, buffer_bytes),
        pacing_mbps=pacing_mbps,
        not_sent_bytes=min(NOT_SENT_BYTES, buffer_bytes),
    )


def pace_share(link: Conditions, control: CongestionControl, streams: int) -> float | None:
    """Share of the bandwidth to pace at; None where loss and not the path holds the streams.

    Pressure is the path's rate over what the streams could carry at the expected loss: near 0 on a clean path.
    """
    pressure = link.bandwidth_mbps / (streams * tcp.stream_mbps(control, link.latency_ms / 1e3, link.loss_ratio))
    share = PACING_SHARE * (1 + max(pressure - PACE_PRESSURE, 0.0))
    return share if share < PACE_RELEASE else None


def pace_of(link: Conditions, ask: ParametersAsk, streams: int) -> float | None:
    """The pace of so many streams together; None where there should be none."""
    share = pace_share(link, ask.congestion_control, streams)
    if share is None or ask.bandwidth_kind is BandwidthKind.GOODPUT:
        return None
    pace = share * link.bandwidth_upper_mbps
    return pace if pace >= MIN_PACED_MBPS else None


def _reasons(
    link: Conditions,
    ask: ParametersAsk,
    *,
    for_loss: float,
    most: float,
    for_buffer: float,
    few: float,
    correction: float,
) -> list[ParameterReason]:
    """What decided the number of streams, then what decided the buffers."""
    reasons = []
    if ask.congestion_control is CongestionControl.BBR:
        reasons.append(ParameterReason.CONGESTION_CONTROL)
    held = max(min(for_loss, most), for_buffer, few)
    if held == for_buffer > few:
        reasons.append(ParameterReason.BUFFER_LIMIT)
    elif held > few:
        reasons += [ParameterReason.LOSS, ParameterReason.LATENCY]
        if link.loss_unsure:
            reasons.append(ParameterReason.LOSS_RESOLUTION)
        if most < for_loss:
            reasons.append(ParameterReason.RETRANSMISSIONS)
    else:
        reasons.append(ParameterReason.BANDWIDTH)
    if not math.isclose(correction, 1.0, rel_tol=0.01):
        reasons.append(ParameterReason.OUTCOMES)
    return [*reasons, ParameterReason.BANDWIDTH_DELAY_PRODUCT]


def _limit_reasons(
    wanted_streams: float, wanted_buffer: float, streams: int, ask: ParametersAsk, bounds: TransportBounds
) -> list[ParameterReason]:
    """Whose limits changed the outcome."""
    reasons = []
    outside_streams = not bounds.min_streams <= math.ceil(wanted_streams) <= bounds.max_streams
    if outside_streams or not bounds.min_buffer_bytes <= wanted_buffer <= bounds.max_buffer_bytes:
        reasons.append(ParameterReason.SERVICE_LIMIT)
    served = max(min(wanted_streams, bounds.max_streams), bounds.min_streams)
    buffer_served = max(min(wanted_buffer, bounds.max_buffer_bytes), bounds.min_buffer_bytes)
    over_streams = ask.max_streams is not None and served > ask.max_streams
    over_buffer = any(
        most is not None and buffer_served > most for most in (ask.max_buffer_bytes, ask.receive_buffer_bytes)
    )
    over_budget = ask.memory_budget_bytes is not None and max(served, streams) * buffer_served > ask.memory_budget_bytes
    if over_streams or over_buffer or over_budget:
        reasons.append(ParameterReason.CALLER_LIMIT)
    return reasons
