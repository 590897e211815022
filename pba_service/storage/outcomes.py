"""Outcomes of transport parameters as bytes, and as calls of the scripts that keep them."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from pba_service.domain.amst.feedback import TransferOutcome
from pba_service.domain.errors import InvalidRequestError, LinkUnknownError
from pba_service.storage import keys, scripts
from pba_service.storage.codec import StoredDataError
from pba_service.storage.replies import readable, refuse_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.storage.server import Server

KEPT = 64
"""Outcomes kept of a link, the newest."""

_ROW = struct.Struct("<BqqIIddddd")
_VERSION = 1


async def add(server: Server, outcome: TransferOutcome, *, floor_ms: int, retention_ms: int) -> None:
    """Stores an outcome. Raises `LinkUnknownError`."""
    arguments = [floor_ms, retention_ms, KEPT, outcome.ended_at_ms, encode(outcome)]
    [[reply]] = await server.run(scripts.ADD_OUTCOME, [([keys.link_key(outcome.link_id)], arguments)])
    if readable(outcome.link_id, lambda _link_id, flag: flag, reply) is None:
        raise LinkUnknownError(outcome.link_id)


async def read(server: Server, link_id: str, *, floor_ms: int) -> list[TransferOutcome]:
    """The outcomes of a link, oldest first. Raises `LinkUnknownError`."""
    [[reply]] = await server.run(scripts.OUTCOMES, [([keys.link_key(link_id)], [floor_ms])])
    if reply is None:
        raise LinkUnknownError(link_id)
    return readable(link_id, _rows, reply) or []


def encode(outcome: TransferOutcome) -> bytes:
    """An outcome without its link as 65 bytes."""
    return _ROW.pack(
        _VERSION,
        outcome.started_at_ms,
        outcome.ended_at_ms,
        outcome.streams,
        outcome.buffer_bytes,
        math.nan if outcome.pacing_mbps is None else outcome.pacing_mbps,
        outcome.expected_mbps,
        outcome.achieved_mbps,
        outcome.retransmitted_ratio,
        outcome.path_loss_ratio,
    )


def decode(link_id: str, row: bytes) -> TransferOutcome:
    """The outcome that `encode` was given.

    Raises:
        StoredDataError: The bytes are none of its results.
    """
    try:
        version, started, ended, streams, buffer_bytes, pace, *rest = _ROW.unpack(row)
        outcome = TransferOutcome(
            link_id, started, ended, streams, buffer_bytes, None if math.isnan(pace) else pace, *rest
        )
    except (struct.error, InvalidRequestError) as error:
        raise StoredDataError(f"no outcome: {error}") from error
    if version != _VERSION:
        raise StoredDataError(f"no outcome of version {_VERSION}")
    return outcome


def _rows(link_id: str, reply: Sequence[Any]) -> list[TransferOutcome]:
    refuse_error(reply)
    found = (readable(link_id, decode, row) for row in reply[1:])
    return [outcome for outcome in found if outcome is not None]
