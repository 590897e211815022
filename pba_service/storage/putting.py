"""A batch of samples as calls of the script that stores them, and its answers as outcomes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage import codec, scripts
from pba_service.storage.codec import StoredDataError
from pba_service.storage.keys import link_key
from pba_service.storage.replies import refuse_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import LinkInfo, SampleBatch
    from pba_service.storage.server import Server

ROWS_PER_CALL = 2_000
"""The most samples that one run of the script stores: a few milliseconds in which the server does nothing else."""

CREATED = 1
"""Flag: the link had no sample before."""

MOVED = 2
"""Flag: the region of the link is another one now."""

UNSURE = 4
"""Flag: samples were dropped that a reader may still count on."""

HEAD = struct.Struct("<BI")
"""Before the outcomes: flags, and how many changes the link's samples had seen before."""

_log = structlog.get_logger(__name__)
_HEAD = np.dtype([("flags", "u1"), ("changes", "<u4")])
_WIRE_BYTES = codec.SAMPLE_WIRE.itemsize
_NOTHING_SAID = bytes(3)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some samples of one link, ordered by time.

    Attributes:
        info: The link.
        link: Its position among the links of the batch.
        first: Position of the first in the order of the plan.
        rows: The samples, as the script takes them.
    """

    info: LinkInfo
    link: int
    first: int
    rows: bytes

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows) // _WIRE_BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch, taken apart.

    Attributes:
        order: int[n], the positions in the batch of the samples worth storing, by link and time.
        pieces: Those samples. A link with very many has several pieces, in order of time.
    """

    order: NDArray[np.intp]
    pieces: tuple[Piece, ...]


def plan(batch: SampleBatch, floor_ms: int) -> Plan:
    """Orders a batch by link and time; samples older than `floor_ms` are left out."""
    order = np.lexsort((batch.measured_at_ms, batch.link_index))  # stable: of equals the later given comes later
    order = order[batch.measured_at_ms[order] >= floor_ms]
    if not len(order):
        return Plan(order, ())
    values = codec.encode_values(batch)
    rows = codec.encode_samples(batch.measured_at_ms[order], values[order]).tobytes()
    link_index = batch.link_index[order]
    starts = np.flatnonzero(np.diff(link_index, prepend=-1))
    ends = np.append(starts[1:], len(order))
    pieces = []
    for link, start, end in zip(link_index[starts].tolist(), starts.tolist(), ends.tolist(), strict=True):
        for first in range(start, end, ROWS_PER_CALL):
            last = min(first + ROWS_PER_CALL, end)
            pieces.append(Piece(batch.links[link], link, first, rows[first * _WIRE_BYTES : last * _WIRE_BYTES]))
    return Plan(order, tuple(pieces))


def rounds(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces that may be stored in any order: no link twice in one round."""
    left = list(pieces)
    while left:
        links: set[str] = set()
        now: list[Piece] = []
        later: list[Piece] = []
        for piece in left:
            (later if piece.info.link_id in links else now).append(piece)
            links.add(piece.info.link_id)
        yield now
        left = later


def places(pieces: Sequence[Piece]) -> NDArray[np.intp]:
    """int[n], the position in the order of the plan of each sample of some pieces, one after another."""
    counts = np.array([len(piece) for piece in pieces])
    firsts = np.array([piece.first for piece in pieces])
    starts = np.cumsum(counts) - counts
    positions: NDArray[np.intp] = np.arange(counts.sum()) + np.repeat(firsts - starts, counts)
    return positions


def heads(replies: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The flags and the numbers of changes of some answers."""
    found = np.frombuffer(b"".join([reply[: HEAD.size] for reply in replies]), _HEAD)
    return found["flags"], found["changes"].astype(np.int64)


async def put(server: Server, pieces: Sequence[Piece], head: tuple[Any, ...]) -> list[bytes]:
    """Stores pieces of different links.

    Args:
        server: Where to.
        pieces: The samples.
        head: What the script wants to know before them.

    Returns:
        For each piece `HEAD` (with the flags `CREATED`, `MOVED`, `UNSURE`) and one byte of outcome a sample.

    Raises:
        StoreUnavailableError: The store is away or slow; some of the pieces may have been stored.
    """
    found = await server.run(scripts.PUT, list(_calls(pieces, head, server.links_per_call)))
    replies: list[bytes] = [reply for part in found for reply in part]
    for i, reply in enumerate(replies):
        try:
            refuse_error(reply)
        except StoredDataError as error:
            _log.warning("stored_data_unreadable", link_id=pieces[i].info.link_id, error=str(error))
            replies[i] = await _put_afresh(server, pieces[i], head)
    return replies


async def _put_afresh(server: Server, piece: Piece, head: tuple[Any, ...]) -> bytes:
    """Stores samples of a link whose keys hold something else; that is removed."""
    base = link_key(piece.info.link_id)
    buckets = set(np.frombuffer(piece.rows, codec.SAMPLE_WIRE)["bucket"].tolist())
    await server.command("UNLINK", base + b":m", base + b":s", *(b"%b:h:%d" % (base, bucket) for bucket in buckets))
    reply: bytes
    [[reply]] = await server.run(scripts.PUT, list(_calls([piece], head, 1)))
    try:
        refuse_error(reply)
    except StoredDataError as error:
        _log.exception("samples_not_stored", link_id=piece.info.link_id)
        raise StoreUnavailableError from error
    return reply


def _said(info: LinkInfo) -> bytes:
    """A link's node, peer and region, as the script takes them."""
    if not (info.node or info.peer or info.region):
        return _NOTHING_SAID
    texts = (info.node.encode(), info.peer.encode(), info.region.encode())
    return b"".join((bytes(map(len, texts)), *texts))


def _calls(
    pieces: Sequence[Piece], head: tuple[Any, ...], links_per_call: int
) -> Iterator[tuple[list[bytes], list[Any]]]:
    """The keys and arguments that store some pieces, in their order."""
    keys: list[bytes] = []
    args: list[Any] = [*head]
    rows = 0
    for piece in pieces:
        if keys and (len(keys) >= links_per_call or rows + len(piece) > ROWS_PER_CALL):
            yield keys, args
            keys, args, rows = [], [*head], 0
        keys.append(link_key(piece.info.link_id))
        args.append(_said(piece.info) + piece.rows)
        rows += len(piece)
    if keys:
        yield keys, args
