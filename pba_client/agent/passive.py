"""What the node's own transport says of a link: differences between snapshots of its connections' TCP_INFO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pba_client.agent.tally import Share, share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pba_client.agent.sock_diag import Connection

BUSY_SEGMENTS_PER_S = 20
"""Segments a second from which on a link counts as carrying traffic, and is not probed beyond the light rate."""

LEAST_SEGMENTS = 200
"""Segments of an interval, below which retransmissions say nothing of loss."""

LEAST_BUSY_SHARE = 1 / 3
"""Share of the interval's snapshots that must have seen traffic for its round trip, or its rate, to stand for it."""

_FULL_SHARE = 0.9
_LIMITED_SHARE = 0.1
_CARRIED_BY_FULL = 0.8
_PACED_SHARE = 0.9
_QUEUE_SHARE = 0.1
_QUEUE_US = 1000
_HEADERS_BYTES = {4: 52, 16: 72}
"""IP and TCP headers with time stamps, by the length of the address."""


@dataclass(frozen=True, slots=True)
class PassiveStats:
    """What an interval's snapshots say; None where they say nothing.

    Attributes:
        latency_ms: Smoothed round trip, weighted by what was acknowledged meanwhile.
        least_ms: The shortest round trip that the kernel remembers.
        loss: Share of the segments lost while the transport did not fill the path: the path's own loss.
        transport_loss: Share lost at all times, what the transport's own queue dropped included.
        congested: Whether the transport filled the path most of the time, so that losses are its own making.
        bandwidth_mbps: Rate on the wire, headers counted, while nothing but the path held the transport down.
        carried_mbps: Rate on the wire over the whole interval.
        busy: Whether the link carried traffic in enough snapshots.
    """

    latency_ms: float | None
    least_ms: float | None
    loss: Share | None
    transport_loss: Share | None
    congested: bool
    bandwidth_mbps: float | None
    carried_mbps: float
    busy: bool


@dataclass(slots=True)
class _Block:
    """The segments between two snapshots, and how many were lost; `own`: the transport's own queue may have done it."""

    segments: int
    lost: float
    own: bool


@dataclass(slots=True)
class _Sums:
    """Sums over the snapshots of an interval."""

    elapsed_s: float = 0.0
    snapshots: int = 0
    busy_snapshots: int = 0
    wire_bits: float = 0.0
    full_bits: float = 0.0
    full_s: float = 0.0
    full_snapshots: int = 0
    weight: float = 0.0
    rtt_us: float = 0.0
    least_us: int = 0
    blocks: list[_Block] = field(default_factory=list)


class PassiveMeter:
    """Adds up one link's snapshots.

    Attributes:
        busy: Whether the link carried traffic between the newest two.
        path_limited: Whether nothing but the path held it down.
        carried_mbps: Its rate on the wire.
    """

    def __init__(self) -> None:
        """Begins with nothing known."""
        self._before: dict[int, Connection] = {}
        self._before_s: float | None = None
        self._sums = _Sums()
        self.busy = False
        self.path_limited = False
        self.carried_mbps = 0.0

    def snapshot(self, connections: Iterable[Connection], now_s: float) -> None:
        """Takes the link's connections as they are now, by a monotonic clock."""
        now = {one.cookie: one for one in connections}
        before, since_s = self._before, self._before_s
        self._before, self._before_s = now, now_s
        if since_s is None or now_s <= since_s:
            return  # the first snapshot is what others are compared with
        span_s = now_s - since_s
        sums = self._sums
        segments = lost = 0
        bits = full_bits = pace_bps = 0.0
        paced = True
        for one in now.values():
            old = before.get(one.cookie)
            # a connection that was not there before has been opened since, and its counters began at 0
            acked = one.bytes_acked - (old.bytes_acked if old else 0)
            sent = max(one.data_segments - (old.data_segments if old else 0), 0)
            again = one.retransmits - (old.retransmits if old else 0)
            spurious = one.spurious - (old.spurious if old else 0)
            lost += again - spurious
            if sent == 0 and acked <= 0:
                continue
            wire = acked * 8 * (one.mss_bytes + _HEADERS_BYTES[len(one.remote)]) / max(one.mss_bytes, 1)
            segments += sent
            bits += wire
            full_bits += wire if _path_limited(one, old, span_s) else 0.0
            paced = paced and one.max_pacing_bps is not None
            pace_bps += one.max_pacing_bps or 0.0
            sums.weight += acked
            sums.rtt_us += one.rtt_us * acked
            if one.min_rtt_us and (not sums.least_us or one.min_rtt_us < sums.least_us):
                sums.least_us = one.min_rtt_us
        sums.elapsed_s += span_s
        sums.snapshots += 1
        sums.wire_bits += bits
        self.carried_mbps = bits / span_s / 1e6
        self.busy = segments >= BUSY_SEGMENTS_PER_S * span_s
        if self.busy:
            sums.busy_snapshots += 1
        own_pace = paced and bits >= _PACED_SHARE * pace_bps * span_s > 0
        was_limited = self.path_limited
        self.path_limited = not own_pace and bits > 0 and full_bits >= _CARRIED_BY_FULL * bits
        if segments:
            # what a full queue dropped is mended a round trip later, so the snapshot after it shows it too
            own = self.path_limited or was_limited
            sums.blocks.append(_Block(segments, float(min(max(lost, 0), segments)), own))
        if lost < 0:
            _forgive(sums.blocks, -lost)
        if self.path_limited:
            sums.full_bits += bits
            sums.full_s += span_s
            sums.full_snapshots += 1

    def take(self) -> PassiveStats:
        """Closes the interval."""
        sums, self._sums = self._sums, _Sums()
        enough = LEAST_BUSY_SHARE * sums.snapshots
        busy = sums.snapshots > 0 and sums.busy_snapshots >= enough
        timed = busy and sums.weight > 0
        full = busy and sums.full_snapshots >= max(enough, 1) and sums.full_s > 0
        return PassiveStats(
            latency_ms=sums.rtt_us / sums.weight / 1e3 if timed else None,
            least_ms=sums.least_us / 1e3 if sums.least_us else None,
            loss=_share_of([one for one in sums.blocks if not one.own]) if busy else None,
            transport_loss=_share_of(sums.blocks) if busy else None,
            congested=busy and 2 * sum(one.own for one in sums.blocks) > sums.snapshots,
            bandwidth_mbps=sums.full_bits / sums.full_s / 1e6 if full else None,
            carried_mbps=sums.wire_bits / sums.elapsed_s / 1e6 if sums.elapsed_s else 0.0,
            busy=busy,
        )


def _forgive(blocks: list[_Block], needless: float) -> None:
    """Takes segments off the newest losses: what was in vain DSACK says a round trip later only."""
    for block in reversed(blocks):
        taken = min(block.lost, needless)
        block.lost -= taken
        needless -= taken
        if needless <= 0:
            return


def _share_of(blocks: list[_Block]) -> Share | None:
    """The share lost over some snapshots; None where they saw too few segments."""
    segments = sum(one.segments for one in blocks)
    if segments < LEAST_SEGMENTS:
        return None
    return share(sum(one.lost for one in blocks), segments, [(one.segments, one.lost) for one in blocks])


def _path_limited(one: Connection, old: Connection | None, span_s: float) -> bool:
    """Whether nothing but the path held a connection down since the snapshot before."""
    busy_us = one.busy_us - (old.busy_us if old else 0)
    held_us = (
        one.receiver_limited_us
        + one.buffer_limited_us
        - (old.receiver_limited_us + old.buffer_limited_us if old else 0)
    )
    # held down by loss alone, a connection leaves the queue empty, and its rate is not the path's
    queues = one.rtt_us - one.min_rtt_us >= max(_QUEUE_SHARE * one.min_rtt_us, _QUEUE_US)
    full = busy_us >= _FULL_SHARE * span_s * 1e6 and held_us <= _LIMITED_SHARE * busy_us
    return full and queues and not one.app_limited
