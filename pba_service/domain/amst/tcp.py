"""How fast TCP goes: the model that transport parameters rest on. Rates in Mbit/s, times in seconds, loss 0 to 1.

Three regimes. *Clean*: the path is the limit, and each stream's share of it. *Loss-limited*: a stream's rate falls with
loss and round-trip time, and streams add up. *Buffer-limited*: a stream sends one window a round trip.

Sources:
    [PFTK] Padhye, Firoiu, Towsley, Kurose: "Modeling TCP throughput: a simple model and its empirical validation",
        SIGCOMM 1998, equation 30 (with b = 1, as Linux acknowledges every segment of a stream that has lost some).
    [CUBIC] RFC 9438, section 5.1: average window of CUBIC under random loss, with C = 0.4 and beta = 0.7.
    [BBR] Cardwell et al.: "BBR: congestion-based congestion control", ACM Queue 2016: paced by the measured bottleneck,
        so that random loss below about 20 % leaves the rate alone.
"""

from __future__ import annotations

import math

from pba_service.domain.parameters import CongestionControl

MSS_BYTES = 1448
"""Payload of a full Ethernet segment with time stamps (RFC 7323)."""

PAYLOAD_SHARE = 1448 / 1500
"""Goodput at most, as a share of a rate that counts IP bytes."""

LEAST_LOSS_RATIO = 1e-7
MOST_LOSS_RATIO = 0.5
LEAST_RTT_S = 1e-4
MOST_RTT_S = 3600.0

KERNEL_WINDOW_SHARE = 1.2
"""Window that Linux grants for a byte of socket buffer asked for; measured."""

KNEE = 6.0
"""How sharply streams' rates turn into the path's; measured: streams that could carry 1.5 times the path fill 98 %."""


def pftk_mbps(rtt_s: float, loss_ratio: float) -> float:
    """Rate of a Reno stream under random loss: `8 MSS / (R sqrt(2p/3) + T0 min(1, 3 sqrt(3p/8)) p (1 + 32 p^2))`.

    Source: [PFTK]. T0 is `min(R + 0.2 s, 4 R + 0.03 s)`: Linux waits R + 0.2 s before it retransmits unasked, but on
    short paths a tail loss probe (RFC 8985, section 7) mends most tails sooner; the second term is fitted to the sweep.
    """
    rtt, loss = _rtt(rtt_s), _loss(loss_ratio)
    fast = rtt * math.sqrt(2 * loss / 3)
    slow = min(rtt + 0.2, 4 * rtt + 0.03) * min(1.0, 3 * math.sqrt(3 * loss / 8)) * loss * (1 + 32 * loss**2)
    return 8 * MSS_BYTES / 1e6 / (fast + slow)


def cubic_mbps(rtt_s: float, loss_ratio: float) -> float:
    """Rate of a CUBIC stream under random loss: the geometric mean of Reno's and, where it is faster, CUBIC's law.

    CUBIC's law, a window of `1.054 (R/p)^(3/4)` segments, is [CUBIC] equation 5. It holds where nothing but that loss
    ends an epoch: on deep queues. On shallow ones, overflows end epochs of many seconds as well, and streams came down
    to Reno's rate ([PFTK]); the mean does for both.
    """
    rtt, loss = _rtt(rtt_s), _loss(loss_ratio)
    reno = pftk_mbps(rtt, loss)
    window = 1.054 * (rtt / loss) ** 0.75
    return math.sqrt(reno * max(reno, window * 8 * MSS_BYTES / 1e6 / rtt))


def stream_mbps(control: CongestionControl, rtt_s: float, loss_ratio: float) -> float:
    """Rate of one stream that nothing but loss limits; infinite for BBR ([BBR])."""
    if control is CongestionControl.BBR:
        return math.inf
    return pftk_mbps(rtt_s, loss_ratio) if control is CongestionControl.RENO else cubic_mbps(rtt_s, loss_ratio)


def window_mbps(window_bytes: float, rtt_s: float) -> float:
    """Rate of a stream that sends one window a round trip: `8 W / R` (RFC 9293, section 3.8.6)."""
    return 8 * window_bytes / 1e6 / _rtt(rtt_s)


def product_bytes(bandwidth_mbps: float, rtt_s: float) -> float:
    """The bandwidth-delay product: what a full path holds."""
    return bandwidth_mbps * 1e6 / 8 * rtt_s


def goodput_mbps(
    control: CongestionControl,
    *,
    bandwidth_mbps: float,
    rtt_s: float,
    loss_ratio: float,
    streams: int,
    buffer_bytes: float,
    pacing_mbps: float | None,
) -> float:
    """Goodput of some streams together: what they could carry, held down smoothly by path, pace and lost packets.

    `x / (1 + x^6)^(1/6)` of the path, where x is the streams' own rates over the path's: each the smaller of the loss
    law's and the window's. Where drops are the streams' own, on a clean path, that is 1.
    """
    path = bandwidth_mbps * PAYLOAD_SHARE
    if path <= 0:
        return 0.0
    own = min(
        stream_mbps(control, rtt_s, loss_ratio),
        window_mbps(KERNEL_WINDOW_SHARE * buffer_bytes, rtt_s),
    )
    load = streams * own / path
    reached = path if load > 1e6 else path * load / (1 + load**KNEE) ** (1 / KNEE)  # noqa: PLR2004 - avoids overflow
    if pacing_mbps is not None:
        reached = min(reached, pacing_mbps)
    return reached * (1 - min(loss_ratio, 1.0))


def own_loss_ratio(
    control: CongestionControl, *, bandwidth_mbps: float, rtt_s: float, loss_ratio: float, streams: float
) -> float:
    """Loss that streams cause themselves: what their law needs beyond the path's own to share the path.

    N streams on a path of rate C settle where each goes at C / N; the law (`stream_mbps`) turned round says at which
    loss. The path's loss comes free of charge, the rest they cause by filling the queue. Source: [PFTK] inverted.

    Args:
        control: Their congestion control.
        bandwidth_mbps: Rate of the path.
        rtt_s: Round trip with the queue full.
        loss_ratio: The path's own.
        streams: How many.
    """
    if control is CongestionControl.BBR or bandwidth_mbps <= 0:
        return 0.0
    share = bandwidth_mbps / streams
    low, high = _loss(loss_ratio), MOST_LOSS_RATIO
    if stream_mbps(control, rtt_s, low) <= share:
        return 0.0
    for _ in range(40):  # bisection of a falling function, to far below what is told
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stream_mbps(control, rtt_s, middle) > share else (low, middle)
    return max(low - loss_ratio, 0.0)


def _rtt(rtt_s: float) -> float:
    return min(max(rtt_s, LEAST_RTT_S), MOST_RTT_S)


def _loss(loss_ratio: float) -> float:
    return min(max(loss_ratio, LEAST_LOSS_RATIO), MOST_LOSS_RATIO)
