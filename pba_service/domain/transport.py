"""What a link is like, turned into AMST transport parameters: pure functions, one formula each.

The rule is the documented one, 10 Mbit/s a stream and more streams for loss and delay, with its corrections taken from
the model of TCP under random loss (Mathis, Semke, Mahdavi, Ott: "The macroscopic behavior of the TCP congestion
avoidance algorithm", 1997): a stream carries `MSS * sqrt(3/2) / (RTT * sqrt(loss))`. That is 22 Mbit/s at
`REFERENCE_LATENCY_MS` and `REFERENCE_LOSS_RATIO`, twice the documented 10, so there the correction is 1; it grows with
RTT and the root of the loss, as the rate of a stream falls, and is never below 1.

`streams_wanted` alone knows that model. Everything after it (buffers, limits, hysteresis, chunks, pacing) takes the
number of streams as given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pba_service.domain.parameters import (
    CongestionControl,
    Limits,
    ParameterReason,
    ParametersAnswer,
    ParametersAsk,
    ParametersSource,
    TransportBounds,
    TransportParameters,
    answer,
)
from pba_service.domain.samples import MAXIMA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CongestionControl",
    "ParameterReason",
    "ParametersAnswer",
    "ParametersAsk",
    "ParametersSource",
    "TransportBounds",
    "TransportParameters",
    "answer",
    "defaults",
    "recommend",
    "streams_wanted",
    "usable",
]

STREAM_MBPS = 10.0
"""The documented share of the bandwidth that one stream is meant to carry."""

REFERENCE_LATENCY_MS = 20.0
REFERENCE_LOSS_RATIO = 0.001
LOSS_FLOOR_RATIO = 0.0001
"""A measured loss below this is taken for this: a minute's probes cannot tell it from none."""

UNKNOWN_LOSS_RATIO = 0.005
"""Taken where the loss was not measured: too many streams cost little, too few cost most of the goodput."""

BUFFER_HEADROOM = 2.0
BUFFER_EXTRA_BYTES = 32 * 1024
WINDOW_SHARE = 1.25 / 1.2
"""A stream's window should be 1.25 times its share of the path; kernels grant 1.2 times the buffer asked for."""

MIN_CHUNK_BYTES = 8 * 1024
MAX_CHUNK_BYTES = 512 * 1024
CHUNKS_PER_BUFFER = 4
PACING_SHARE = 0.95
MIN_PACED_MBPS = 0.1
"""Below this no pace is set: one held so low would keep a transfer from noticing that the link is back."""

HYSTERESIS_SHARE = 0.20
DEFAULT_STREAMS = 8
DEFAULT_BUFFER_BYTES = 256 * 1024


def usable(link_values: NDArray[np.float32]) -> bool:
    """Whether `recommend` can work with a link's values (float32[4]): bandwidth and latency are known."""
    return math.isfinite(link_values[0]) and math.isfinite(link_values[1])


def streams_wanted(bandwidth_mbps: float, latency_ms: float, loss_ratio: float) -> float:
    """Streams that fill a link: `bandwidth / 10 Mbit/s`, times how far a stream's rate falls below the reference.

    The correction is `RTT / 20 ms * sqrt(loss / 0.1 %)` where that is above 1 (Mathis et al. 1997, see above).

    Args:
        bandwidth_mbps: Of the link.
        latency_ms: Round-trip time.
        loss_ratio: 0 to 1; NaN where it was not measured.
    """
    loss = UNKNOWN_LOSS_RATIO if math.isnan(loss_ratio) else max(loss_ratio, LOSS_FLOOR_RATIO)
    correction = latency_ms / REFERENCE_LATENCY_MS * math.sqrt(loss / REFERENCE_LOSS_RATIO)
    return bandwidth_mbps / STREAM_MBPS * max(1.0, correction)


def recommend(
    link_values: NDArray[np.float32], ask: ParametersAsk, bounds: TransportBounds
) -> tuple[TransportParameters, tuple[ParameterReason, ...]]:
    """The documented rule.

    Streams: `streams_wanted`; two for BBR, whose rate random loss does not govern; never fewer than what the largest
    allowed buffer needs to keep the path full, `1.25 * BDP / (1.2 * buffer)`. The caller's present number is kept when
    it is within 20 % of that. Buffer: `2 * BDP / streams + 32 KiB`. Chunk: a quarter of the buffer, 8 to 512 KiB.
    Pace: 95 % of the bandwidth, which keeps queues empty at 2 % of goodput.

    Args:
        link_values: float32[4], bandwidth_mbps, latency_ms, packet_loss_ratio, jitter_ms; NaN where absent.
        ask: What the caller says of itself.
        bounds: What the service recommends at least and at most; a caller's limit below a minimum wins.

    Returns:
        The parameters and why they are so. Without bandwidth or latency these are `defaults`, for `METRIC_ABSENT`.
    """
    if not usable(link_values):
        return defaults(ask, bounds), (ParameterReason.METRIC_ABSENT,)
    bandwidth, latency, loss = (
        float(min(max(value, 0.0), most)) if math.isfinite(value) else math.nan
        for value, most in zip(link_values[:3].tolist(), MAXIMA.tolist(), strict=False)
    )
    limits = Limits.of(ask, bounds)
    delay_product_bytes = bandwidth * 1e6 / 8 * latency / 1000
    needed = WINDOW_SHARE * delay_product_bytes / limits.max_buffer_bytes
    if ask.congestion_control is CongestionControl.BBR:
        for_rate, reasons = 2.0, []
    else:
        for_rate = streams_wanted(bandwidth, latency, loss)
        reasons = _rate_reasons(bandwidth, latency, loss, limits)
    wanted = max(for_rate, needed)
    best = limits.streams(wanted)
    reasons.append(ParameterReason.BANDWIDTH_DELAY_PRODUCT)
    streams = _kept_streams(ask, limits, best)
    if streams is not None:
        reasons.insert(0, ParameterReason.HYSTERESIS)
    else:
        streams = best

    wanted_buffer = BUFFER_HEADROOM * delay_product_bytes / streams + BUFFER_EXTRA_BYTES
    buffer_bytes = limits.buffer_bytes(wanted_buffer, streams)
    reasons += _limit_reasons(wanted, wanted_buffer, streams, ask, bounds)
    pace = PACING_SHARE * bandwidth
    return _parameters(streams, buffer_bytes, pace if pace >= MIN_PACED_MBPS else None), tuple(reasons)


def defaults(ask: ParametersAsk, bounds: TransportBounds) -> TransportParameters:
    """The documented conservative defaults, 8 streams of 256 KiB in chunks of 64 KiB unpaced, within all limits."""
    limits = Limits.of(ask, bounds)
    streams = limits.streams(DEFAULT_STREAMS)
    return _parameters(streams, limits.buffer_bytes(DEFAULT_BUFFER_BYTES, streams), None)


def _parameters(streams: int, buffer_bytes: int, pacing_mbps: float | None) -> TransportParameters:
    chunk = min(max(buffer_bytes // CHUNKS_PER_BUFFER, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES)
    return TransportParameters(streams, buffer_bytes, min(chunk, buffer_bytes), pacing_mbps)


def _kept_streams(ask: ParametersAsk, limits: Limits, best: int) -> int | None:
    """The caller's present streams when they are allowed and within 20 % of the best number."""
    current = ask.current_streams
    if not current or not limits.min_streams <= current <= limits.max_streams:
        return None
    return current if abs(current - best) <= HYSTERESIS_SHARE * best else None


def _rate_reasons(bandwidth: float, latency: float, loss: float, limits: Limits) -> list[ParameterReason]:
    """What moved the number of streams: without the loss, or without the delay, would it be another?"""
    streams = limits.streams(streams_wanted(bandwidth, latency, loss))
    reasons = [ParameterReason.BANDWIDTH]
    if streams != limits.streams(streams_wanted(bandwidth, latency, 0.0)):
        reasons.append(ParameterReason.LOSS)
    if streams != limits.streams(streams_wanted(bandwidth, 0.0, loss)):
        reasons.append(ParameterReason.LATENCY)
    return reasons


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
    over_buffer = ask.max_buffer_bytes is not None and buffer_served > ask.max_buffer_bytes
    over_budget = ask.memory_budget_bytes is not None and max(served, streams) * buffer_served > ask.memory_budget_bytes
    if over_streams or over_buffer or over_budget:
        reasons.append(ParameterReason.CALLER_LIMIT)
    return reasons
