"""Commits as calls of the script that writes them."""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Any

from pba_service.storage import codec, keys, scripts
from pba_service.storage.events import announce
from pba_service.storage.replies import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.engine.ports import Commit
    from pba_service.storage.events import Own
    from pba_service.storage.server import Server

_LEDGER_HEAD = struct.Struct("<IH")
"""Before a ledger row: its day, and the length of the model version that follows."""


async def commit(
    server: Server, commits: Sequence[Commit], own: Own, *, floor_ms: int, now_ms: int, ledger_retention_ms: int
) -> list[bool]:
    """Writes commits; returns for each whether it was written.

    On a Cluster the stream of events lives on another node than most links. So predictions are announced after they
    have been written, and a crash in between leaves one unannounced until followers reconcile.

    Raises:
        StoreUnavailableError: The store is away or slow; some of the commits may have been written.
    """
    events = [keys.EVENTS] if server.holds_everything else []
    calls = []
    for first in range(0, len(commits), server.links_per_call):
        group = commits[first : first + server.links_per_call]
        token = secrets.token_bytes(8)  # tells a command that redis-py sends again from another writer's
        if events:
            own.announced(token, [one.prediction for one in group if one.prediction])
        args: list[Any] = [len(group), floor_ms, now_ms, ledger_retention_ms, token]
        for one in group:
            args += _arguments(one, floor_ms)
        calls.append(([*(keys.link_key(one.link_id) for one in group), *events], args))
    found = [reply for part in await server.run(scripts.COMMIT, calls) for reply in part]
    written = [bool(readable(one.link_id, _flag, reply)) for one, reply in zip(commits, found, strict=True)]
    if not events:
        predictions = [one.prediction for one, done in zip(commits, written, strict=True) if done and one.prediction]
        await announce(server, predictions, own)
    return written


def _arguments(commit: Commit, floor_ms: int) -> tuple[int, int, bytes, bytes, bytes]:
    prediction = commit.prediction
    alive = prediction is not None and prediction.made_at_ms >= floor_ms  # it was made from a sample of that time
    more = [b"\1" if alive else b"\0"]
    for entry in commit.ledger:
        day, row = codec.encode_ledger_entry(entry)
        model = entry.model_version.encode()
        more += (_LEDGER_HEAD.pack(day, len(model)), model, row)
    encoded = codec.encode_prediction(prediction) if prediction else b""
    return commit.read_version, commit.read_version + 1, commit.blob, encoded, b"".join(more)


def _flag(_link_id: str, reply: int) -> int:
    return reply
