"""Packets of two-way active measurement: STAMP (RFC 8762) with session identifiers (RFC 8972, section 3).

A probe of 44 bytes, or of 112 when authenticated, is answered by a reply of the same size: nobody can make a reflector
send more than it was sent. Authenticated packets end in HMAC-SHA-256 over their first 96 bytes, cut to 16 (RFC 8762,
section 4.4). Times travel as NTP's 64 bits; replies in PTP's format (Z = 1) are read too.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

PLAIN_BYTES = 44
SIGNED_BYTES = 112
_SIGNED_PART = 96
TAG_BYTES = 16

_NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900, NTP's epoch, to 1970."""

_NS = 1_000_000_000
_ERROR_ESTIMATE = (15 << 8) | 1
"""Not synchronised, NTP format, an error of 2^-17 s, 8 microseconds: what reading a clock in user space costs."""

_PTP = 0x4000

_PLAIN_PROBE = struct.Struct(">IQHH28x")
_SIGNED_PROBE = struct.Struct(">I12xQHH68x")
_PLAIN_REPLY = struct.Struct(">IQHHQIQHxxB3x")
_SIGNED_REPLY = struct.Struct(">I12xQHH4xQ8xI12xQH6xB15x")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a sender says: its sequence number, when it sent (ns since 1970 by its clock), its session."""

    sequence: int
    sent_ns: int
    session: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reflector answers.

    Attributes:
        sequence: The reflector's own, counted per session: what it has missed never reached it.
        received_ns: When the probe came, ns since 1970 by the reflector's clock.
        sent_ns: When the reply left, by the same clock.
        probe_sequence: The probe's.
        session: The probe's.
    """

    sequence: int
    received_ns: int
    sent_ns: int
    probe_sequence: int
    session: int


def pack_probe(probe: Probe, key: bytes | None) -> bytes:
    """A probe as bytes, signed where there is a key."""
    layout = _SIGNED_PROBE if key else _PLAIN_PROBE
    packet = layout.pack(probe.sequence & 0xFFFFFFFF, _to_ntp(probe.sent_ns), _ERROR_ESTIMATE, probe.session)
    return packet + tag(key, packet) if key else packet


def parse_probe(packet: bytes, key: bytes | None) -> Probe | None:
    """A probe; None for anything else, above all for what the key did not sign.

    What must be zero in a probe has to be: a reply that passes for a probe could bounce between reflectors for ever.
    """
    fields = _open(packet, key, _PLAIN_PROBE, _SIGNED_PROBE)
    if fields is None or any(packet[28:_SIGNED_PART] if key else packet[16:]):
        return None
    sequence, sent, estimate, session = fields
    return Probe(sequence, _to_ns(sent, estimate), session)


def pack_reply(reply: Reply, request: bytes, ttl: int, key: bytes | None) -> bytes:
    """A reply as bytes, as long as the request.

    Args:
        reply: What to say; the probe's own time is copied from the request untouched.
        request: The probe, as it came and was accepted.
        ttl: The time to live with which the probe arrived.
        key: The key that signed it.
    """
    _, sent, estimate, session = (_SIGNED_PROBE if key else _PLAIN_PROBE).unpack_from(request)
    layout = _SIGNED_REPLY if key else _PLAIN_REPLY
    packet = layout.pack(
        reply.sequence & 0xFFFFFFFF,
        _to_ntp(reply.sent_ns),
        _ERROR_ESTIMATE,
        session,
        _to_ntp(reply.received_ns),
        reply.probe_sequence & 0xFFFFFFFF,
        sent,
        estimate,
        ttl & 0xFF,
    )
    return packet + tag(key, packet) if key else packet


def parse_reply(packet: bytes, key: bytes | None) -> Reply | None:
    """A reply; None for anything else."""
    fields = _open(packet, key, _PLAIN_REPLY, _SIGNED_REPLY)
    if fields is None:
        return None
    sequence, sent, estimate, session, received, probe_sequence, _, _, _ = fields
    return Reply(sequence, _to_ns(received, estimate), _to_ns(sent, estimate), probe_sequence, session)


def tag(key: bytes, signed: bytes) -> bytes:
    """The authentication tag of some bytes."""
    return hmac.digest(key, signed, "sha256")[:TAG_BYTES]


def _open(
    packet: bytes, key: bytes | None, plain: struct.Struct, signed: struct.Struct
) -> tuple[int, int, int, int] | tuple[int, ...] | None:
    if key is None:
        return plain.unpack(packet) if len(packet) == PLAIN_BYTES else None
    if len(packet) != SIGNED_BYTES or not hmac.compare_digest(tag(key, packet[:_SIGNED_PART]), packet[_SIGNED_PART:]):
        return None
    return signed.unpack_from(packet)


def _to_ntp(unix_ns: int) -> int:
    seconds, rest = divmod(unix_ns, _NS)
    return ((seconds + _NTP_EPOCH_S) & 0xFFFFFFFF) << 32 | (rest << 32) // _NS


def _to_ns(stamp: int, estimate: int) -> int:
    seconds, rest = stamp >> 32, stamp & 0xFFFFFFFF
    if estimate & _PTP:
        return seconds * _NS + rest
    # NTP's era 1 begins in 2036 (RFC 5905, section 6): small seconds are of it
    seconds += 0 if seconds & 0x80000000 else 1 << 32
    return (seconds - _NTP_EPOCH_S) * _NS + ((rest * _NS + (1 << 31)) >> 32)
