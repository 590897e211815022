"""What the kernel knows of this node's TCP connections: TCP_INFO over netlink (sock_diag(7)), one dump per family.

The layouts are those of linux/inet_diag.h, linux/sock_diag.h and linux/tcp.h. An older kernel's shorter TCP_INFO is
filled up with zeros.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""

_DONE, _ERROR = 3, 2
_ESTABLISHED = 1 << 1
_INFO = 2
"""INET_DIAG_INFO, as an attribute; as a request bit it is 1 << (2 - 1)."""

_REQUEST = struct.Struct("=IHHII BBBxI 48x")
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=4s 2s2s 16s16s I Q 20x")
_ATTRIBUTE = struct.Struct("=HH")
_TCP_INFO = struct.Struct("=8B24I4Q6I4Q2I2Q2I")
_BUFFER_BYTES = 1 << 16
_TIMEOUT_S = 2.0
_UNLIMITED = 1 << 62
_MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in a socket that serves both families (RFC 4291, section 2.5.5.2)."""


class SockDiagError(OSError):
    """The kernel does not answer sock_diag."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An established TCP connection.

    Attributes:
        cookie: The kernel's identity of it, never used twice.
        local_port: This side's port.
        remote: The other side's address, packed.
        remote_port: The other side's port.
        app_limited: The newest delivery rate was held down by the sender's own lack of data.
        mss_bytes: Payload of a full segment, options taken off.
        rtt_us: Smoothed round trip.
        min_rtt_us: The shortest in the last minutes; 0: unknown.
        retransmits: Segments sent again so far.
        spurious: Segments that the receiver says came twice (DSACK).
        data_segments: Segments with data sent so far, those sent again among them.
        bytes_acked: So far.
        busy_us: Time with data under way.
        receiver_limited_us: Part of it held down by the receiver's window.
        buffer_limited_us: Part of it held down by the send buffer.
        delivery_rate_bps: The newest measured rate of delivery, bits per second.
        max_pacing_bps: The pace that the socket was given, bits per second; None: none.
    """

    cookie: int
    local_port: int
    remote: bytes
    remote_port: int
    app_limited: bool
    mss_bytes: int
    rtt_us: int
    min_rtt_us: int
    retransmits: int
    spurious: int
    data_segments: int
    bytes_acked: int
    busy_us: int
    receiver_limited_us: int
    buffer_limited_us: int
    delivery_rate_bps: int
    max_pacing_bps: int | None


class SockDiag:
    """A netlink socket that is asked again and again. It belongs to the network namespace it was opened in."""

    def __init__(self) -> None:
        """Opens the socket.

        Raises:
            OSError: There is no sock_diag here.
        """
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._netlink.settimeout(_TIMEOUT_S)
        self._sequence = 0

    def close(self) -> None:
        """Closes the socket."""
        self._netlink.close()

    def connections(self, remotes: frozenset[bytes]) -> list[Connection]:
        """The established connections to some addresses.

        Args:
            remotes: Packed addresses, 4 or 16 bytes.

        Raises:
            OSError: The kernel does not answer.
        """
        found: list[Connection] = []
        for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            wanted = {address.ljust(16, b"\0"): address for address in remotes if len(address) == length}
            if family == socket.AF_INET6:  # sockets for both families have IPv4 connections, too
                wanted |= {_MAPPED + address: address for address in remotes if len(address) < length}
            if wanted:
                found += self._dump(family, wanted)
        return found

    def _dump(self, family: int, wanted: Mapping[bytes, bytes]) -> Iterator[Connection]:
        self._sequence += 1
        self._netlink.send(
            _REQUEST.pack(
                _REQUEST.size,
                _SOCK_DIAG_BY_FAMILY,
                _DUMP,
                self._sequence,
                0,
                family,
                socket.IPPROTO_TCP,
                1 << (_INFO - 1),
                _ESTABLISHED,
            )
        )
        while True:
            data = self._netlink.recv(_BUFFER_BYTES)
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                body, at = at + _HEADER.size, at + max(-(-size // 4) * 4, _HEADER.size)
                if sequence != self._sequence:
                    continue  # left over from a dump that was given up
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", data, body)[0]
                    raise SockDiagError(code, os.strerror(code))
                connection = _connection(data, body, size - _HEADER.size, wanted)
                if connection is not None:
                    yield connection


def _connection(data: bytes, at: int, size: int, wanted: Mapping[bytes, bytes]) -> Connection | None:
    """One connection of a dump; None for one that is not wanted, or of which the kernel says nothing."""
    _, local_port, remote_port, _, remote, _, cookie = _MESSAGE.unpack_from(data, at)
    if remote not in wanted:
        return None
    end, attribute = at + size, at + _MESSAGE.size
    while attribute + _ATTRIBUTE.size <= end:
        attribute_size, kind = _ATTRIBUTE.unpack_from(data, attribute)
        if kind == _INFO:
            info = data[attribute + _ATTRIBUTE.size : attribute + attribute_size]
            ports = int.from_bytes(local_port), int.from_bytes(remote_port)
            return read_tcp_info(info, cookie, ports, wanted[remote])
        attribute += max(-(-attribute_size // 4) * 4, _ATTRIBUTE.size)
    return None


def read_tcp_info(info: bytes, cookie: int, ports: tuple[int, int], remote: bytes) -> Connection:
    """A struct tcp_info of any age as a connection."""
    fields = _TCP_INFO.unpack(info[: _TCP_INFO.size].ljust(_TCP_INFO.size, b"\0"))
    words = fields[8:32]
    _, max_pacing, bytes_acked, _ = fields[32:36]
    _, _, _, min_rtt, _, data_segments = fields[36:42]
    delivery_rate, busy, receiver_limited, buffer_limited = fields[42:46]
    return Connection(
        cookie=cookie,
        local_port=ports[0],
        remote=remote,
        remote_port=ports[1],
        app_limited=bool(fields[7] & 1),
        mss_bytes=words[2],
        rtt_us=words[15],
        min_rtt_us=0 if min_rtt == 0xFFFFFFFF else min_rtt,  # noqa: PLR2004 - what the kernel says for unknown
        retransmits=words[23],
        spurious=fields[50],
        data_segments=data_segments,
        bytes_acked=bytes_acked,
        busy_us=busy,
        receiver_limited_us=receiver_limited,
        buffer_limited_us=buffer_limited,
        delivery_rate_bps=delivery_rate * 8,
        max_pacing_bps=None if max_pacing >= _UNLIMITED else max_pacing * 8,
    )
