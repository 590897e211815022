"""Packets that measure bandwidth: a train of equal packets, a question how it arrived, and the report.

They share the probes' port and key. A report is as long as the question, a thousandth of the train.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

from pba_client.agent.stamp import TAG_BYTES, tag

MAGIC = b"PBA\x01"
ASK_BYTES = 64
LEAST_CAR_BYTES = 200
"""Shortest packet of a train; tells it from every other kind by its length."""

MOST_CARS = 4096

_HEAD = struct.Struct(">4sBxHIHH")
_REPORT = struct.Struct(">IQQ12x")


class Kind(IntEnum):
    """Kinds of packets."""

    CAR = 1
    ASK = 2
    REPORT = 3


@dataclass(frozen=True, slots=True)
class Car:
    """A packet of a train, or the question about it: session, train, position and length of the train."""

    kind: Kind
    session: int
    train: int
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a train arrived.

    Attributes:
        session: The sender's session.
        train: The train.
        received: Packets that came.
        span_ns: The median time, by the receiver's kernel, in which half as many packets arrived.
        span_bytes: Bytes of these, with IP and UDP headers.
    """

    session: int
    train: int
    received: int
    span_ns: int
    span_bytes: int

    @property
    def rate_mbps(self) -> float | None:
        """The rate at which it arrived; None where there is none."""
        return self.span_bytes * 8e3 / self.span_ns if self.span_ns > 0 and self.span_bytes > 0 else None


def pack(car: Car, length: int, key: bytes | None) -> bytes:
    """A packet of a train or a question, filled up to a length."""
    head = _HEAD.pack(MAGIC, car.kind, car.session, car.train, car.index, car.count)
    packet = head + (tag(key, head) if key else b"")
    return packet.ljust(length, b"\0")


def parse(packet: bytes, key: bytes | None) -> Car | None:
    """A packet of a train or a question; None for anything else."""
    fields = _head(packet)
    if fields is None:
        return None
    kind, session, train, index, count = fields
    signed = packet[: _HEAD.size]
    if key and not hmac.compare_digest(tag(key, signed), packet[_HEAD.size : _HEAD.size + TAG_BYTES]):
        return None
    if kind == Kind.CAR and len(packet) >= LEAST_CAR_BYTES and index < count <= MOST_CARS:
        return Car(Kind.CAR, session, train, index, count)
    if kind == Kind.ASK and len(packet) == ASK_BYTES:
        return Car(Kind.ASK, session, train, index, count)
    return None


def report(session: int, train: int, arrived_ns: list[int], packet_bytes: int) -> Report:
    """How a train of equal packets arrived.

    The rate is taken from the median over all packets of the time to the one half a train later, not from the first and
    the last: delay that varies makes the first packets of a train early and all that queue up behind a late one late.

    Args:
        session: The sender's session.
        train: The train.
        arrived_ns: When each packet came, in order.
        packet_bytes: Of each, with headers.
    """
    half = len(arrived_ns) // 2
    spans = sorted(later - earlier for earlier, later in zip(arrived_ns, arrived_ns[half:], strict=False))
    span_ns = spans[len(spans) // 2] if half else 0
    return Report(session, train, len(arrived_ns), span_ns, half * packet_bytes)


def pack_report(report: Report, key: bytes | None) -> bytes:
    """A report as bytes."""
    head = _HEAD.pack(MAGIC, Kind.REPORT, report.session, report.train, 0, 0)
    body = head + _REPORT.pack(report.received, report.span_ns, report.span_bytes)
    return body + (tag(key, body) if key else bytes(TAG_BYTES))


def parse_report(packet: bytes, key: bytes | None) -> Report | None:
    """A report; None for anything else."""
    fields = _head(packet)
    if fields is None or fields[0] != Kind.REPORT or len(packet) != _HEAD.size + _REPORT.size + TAG_BYTES:
        return None
    signed = packet[:-TAG_BYTES]
    if key and not hmac.compare_digest(tag(key, signed), packet[-TAG_BYTES:]):
        return None
    return Report(fields[1], fields[2], *_REPORT.unpack_from(packet, _HEAD.size))


def _head(packet: bytes) -> tuple[int, int, int, int, int] | None:
    if len(packet) < _HEAD.size + TAG_BYTES or not packet.startswith(MAGIC):
        return None
    _, kind, session, train, index, count = _HEAD.unpack_from(packet)
    return kind, session, train, index, count
