"""A link's learned state together with what else must be written in the same moment, as one blob.

The store keeps one opaque blob for each link and writes it by compare-and-set. The online state comes first and is all
there is where nothing else is going on; named sections follow, and the bytes end with how to find them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIALS = b"TRIA"
"""Pairs of forecasts that wait for their target (`domain.trials`)."""

DRIFT = b"DRFT"
"""What the link's ways were and whether something is wrong with it (`domain.drift`)."""

_MAGIC = b"PBAparts"
_SECTION = struct.Struct("<4sI")
_TAIL = struct.Struct("<II8s")


def join(online: bytes, sections: Mapping[bytes, bytes]) -> bytes:
    """One blob.

    Args:
        online: The online state.
        sections: By name, each of four bytes; empty ones are left out.
    """
    pieces, body_bytes = [online], 0
    for name, content in sections.items():
        if content:
            pieces += (_SECTION.pack(name, len(content)), content)
            body_bytes += _SECTION.size + len(content)
    if not body_bytes:
        return online
    pieces.append(_TAIL.pack(len(online), body_bytes, _MAGIC))
    return b"".join(pieces)


def split(blob: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The online state and the sections that `join` was given; any other blob is an online state alone."""
    if len(blob) < _TAIL.size or not blob.endswith(_MAGIC):
        return blob, {}
    online_bytes, body_bytes, _ = _TAIL.unpack_from(blob, len(blob) - _TAIL.size)
    if online_bytes + body_bytes + _TAIL.size != len(blob):
        return blob, {}
    sections, at, end = {}, online_bytes, online_bytes + body_bytes
    while at + _SECTION.size <= end:
        name, length = _SECTION.unpack_from(blob, at)
        at += _SECTION.size
        sections[name] = blob[at : min(at + length, end)]
        at += length
    return blob[:online_bytes], sections
