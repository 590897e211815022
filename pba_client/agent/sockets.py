"""UDP sockets that say when the kernel received a packet."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

_SO_TIMESTAMPNS = 35
"""As asm-generic/socket.h has it; Python's socket module does not name it."""

_SOL_UDP = 17
_UDP_SEGMENT = 103
_IP_RECVTTL = 12
_IPV6_RECVHOPLIMIT = 51
_IPV6_HOPLIMIT = 52
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = 128
_MOST_BYTES = 2048
_SEGMENTS_AT_ONCE = 40
"""Packets that one call may hand to the kernel: below its 64, and below 64 KiB for packets of 1,400 bytes."""

BUFFER_BYTES = 4 << 20
"""Receive buffer asked for, so that a train is not lost on the last metre."""

_MOST_WAITED_NS = 1_000_000_000

Address = tuple[Any, ...]
Control = list[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it came.

    Attributes:
        data: Its payload.
        source: Who sent it, as the socket module says it.
        real_ns: When the kernel received it, ns since 1970.
        monotonic_ns: The same on the monotonic clock.
        ttl: Its time to live.
    """

    data: bytes
    source: Address
    real_ns: int
    monotonic_ns: int
    ttl: int


def open_udp(family: int) -> socket.socket:
    """A UDP socket with receive times, that never blocks."""
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    udp.settimeout(0)
    udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    return udp


def receive(udp: socket.socket) -> Packet | None:
    """The next packet that waits; None when none does.

    Raises:
        ConnectionRefusedError: The peer says that nobody listens there.
        OSError: The network is down.
    """
    try:
        data, control, _, source = udp.recvmsg(_MOST_BYTES, _ANCILLARY_BYTES)
    except BlockingIOError:
        return None
    now_real_ns, now_monotonic_ns = time.time_ns(), time.monotonic_ns()
    real_ns, ttl = _read(control, now_real_ns)
    # how long it lay in the socket; a clock that is set in between must not count
    waited_ns = now_real_ns - real_ns
    if not 0 <= waited_ns <= _MOST_WAITED_NS:
        real_ns, waited_ns = now_real_ns, 0
    return Packet(data, source, real_ns, now_monotonic_ns - waited_ns, ttl)


def _read(control: Control, default_ns: int) -> tuple[int, int]:
    """The kernel's receive time and the time to live among a packet's control messages."""
    real_ns, ttl = default_ns, 0
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack_from(data)
            real_ns = seconds * 1_000_000_000 + rest
        elif (level, kind) in {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)}:
            ttl = int.from_bytes(data[:4], "little")
    return real_ns, ttl


def send_together(udp: socket.socket, packets: list[bytes]) -> None:
    """Sends packets of one length back to back: the kernel cuts them from one piece (UDP GSO), or each goes alone.

    Raises:
        OSError: They cannot be sent.
    """
    length = len(packets[0])
    for start in range(0, len(packets), _SEGMENTS_AT_ONCE):
        part = packets[start : start + _SEGMENTS_AT_ONCE]
        option = (_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", length))
        try:
            udp.sendmsg(part, [option] if len(part) > 1 else [])
        except BlockingIOError:
            return  # the socket's own buffer is full: the rest was never sent, and the report will say so
        except OSError:
            if len(part) == 1:
                raise
            for one in part:  # a kernel or device that cannot cut
                with contextlib.suppress(BlockingIOError):
                    udp.send(one)


def wait_readable(udp: socket.socket, timeout_s: float) -> bool:
    """Waits until a packet is there; False when none came in time."""
    return bool(select.select([udp], [], [], timeout_s)[0])
