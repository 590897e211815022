"""A batch of samples as calls of the script that stores them, and its answers as outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage import codec, scripts
from pba_service.storage.codec import StoredDataError
from pba_service.storage.keys import link_key, link_keys
from pba_service.storage.replies import refuse_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pba_service.domain.samples import LinkInfo, SampleBatch
    from pba_service.storage.server import Call, Server

ROWS_PER_CALL = 2_000
"""The most samples that one run of the script stores: a few milliseconds in which the server does nothing else."""

LINKS_PER_CALL = 512
"""The most links for which one run of the script stores samples, where one server holds everything."""

CREATED = 1
"""Flag: the link had no sample before."""

MOVED = 2
"""Flag: the region of the link is another one now."""

UNSURE = 4
"""Flag: samples were dropped that a reader may still count on."""

FOREIGN = 255
"""All flags: what lies there is not ours, and nothing was stored."""

_HEAD = np.dtype([("samples", "<u2"), ("lengths", "u1", (3,))])
"""What a link brings, before the samples: how many, and how long its node, peer and region are."""

_FLAGS_BYTES, _CHANGES_BYTES = 1, 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Samples of some links, each link's together and ordered by time.

    Attributes:
        link: int[pieces], the position of each link among those of the batch.
        first: int[pieces], the position of its first sample among the rows.
        count: int[pieces], how many samples it has.
    """

    link: NDArray[np.intp]
    first: NDArray[np.intp]
    count: NDArray[np.intp]

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.link)

    def take(self, which: Any) -> Pieces:
        """Some of them."""
        return Pieces(self.link[which], self.first[which], self.count[which])

    @property
    def places(self) -> NDArray[np.intp]:
        """int[n], the position of each sample among the rows, piece after piece."""
        starts = np.cumsum(self.count) - self.count
        positions: NDArray[np.intp] = np.arange(self.count.sum()) + np.repeat(self.first - starts, self.count)
        return positions


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch, taken apart.

    Attributes:
        links: The links of the batch.
        order: int[n], the positions in the batch of the samples worth storing, by link and time.
        rows: `SAMPLE_WIRE`[n], those samples.
        rounds: What may be stored at the same time, each link in one piece. A link with very many samples has pieces in
            several rounds, in order of time.
    """

    links: tuple[LinkInfo, ...]
    order: NDArray[np.intp]
    rows: NDArray[np.void]
    rounds: tuple[Pieces, ...]

    @property
    def link_ids(self) -> list[str]:
        """The links that have samples."""
        return [self.links[link].link_id for link in self.rounds[0].link.tolist()] if self.rounds else []


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of some pieces.

    Attributes:
        flags: uint8[pieces], `CREATED`, `MOVED`, `UNSURE`.
        changes: int64[pieces], how many changes each link's samples had seen before.
        outcomes: uint8[n], the `Outcome` of each sample, piece after piece.
    """

    flags: NDArray[np.uint8]
    changes: NDArray[np.int64]
    outcomes: NDArray[np.uint8]


def plan(batch: SampleBatch, floor_ms: int) -> Plan:
    """Orders a batch by link and time; samples older than `floor_ms` are left out."""
    if (batch.link_index[1:] > batch.link_index[:-1]).all():  # one sample a link, as most batches are
        order = np.arange(len(batch))
    else:
        order = np.lexsort((batch.measured_at_ms, batch.link_index))  # stable: of equals the later given comes later
    order = order[batch.measured_at_ms[order] >= floor_ms]
    if not len(order):
        return Plan(batch.links, order, np.empty(0, codec.SAMPLE_WIRE), ())
    rows = codec.encode_samples(batch.measured_at_ms[order], codec.encode_values(batch)[order])
    link_index = batch.link_index[order]
    first = np.flatnonzero(np.diff(link_index, prepend=-1))
    pieces = Pieces(link_index[first].astype(np.intp), first, np.diff(first, append=len(order)))
    return Plan(batch.links, order, rows, tuple(_rounds(pieces)))


def _rounds(pieces: Pieces) -> Iterator[Pieces]:
    """Pieces of as many samples as one run stores; no link twice in one round."""
    while len(pieces):
        yield Pieces(pieces.link, pieces.first, np.minimum(pieces.count, ROWS_PER_CALL))
        left = pieces.take(pieces.count > ROWS_PER_CALL)
        pieces = Pieces(left.link, left.first + ROWS_PER_CALL, left.count - ROWS_PER_CALL)


async def put(server: Server, plan: Plan, pieces: Pieces, head: tuple[Any, ...]) -> Stored:
    """Stores pieces of different links.

    Args:
        server: Where to.
        plan: What they are pieces of.
        pieces: The samples.
        head: What the script wants to know before them.

    Raises:
        StoreUnavailableError: The store is away or slow; some of the pieces may have been stored.
    """
    parts = _parts(pieces.count, LINKS_PER_CALL if server.holds_everything else 1)
    calls = (_call(plan, pieces.take(part), head) for part in parts)
    answers = await server.run(scripts.PUT, calls, together=1 if server.holds_everything else None)
    stored = _read(b"".join([records for records, *_ in answers]), pieces.count)
    foreign = np.flatnonzero(stored.flags == FOREIGN)
    faults = [fault for _, *faults in answers for fault in faults]
    starts = np.cumsum(pieces.count) - pieces.count
    for place, fault in zip(foreign.tolist(), faults, strict=True):
        one, start = pieces.take([place]), starts[place]
        _log.warning("stored_data_unreadable", link_id=_link_id(plan, one), error=fault[1:].decode(errors="replace"))
        afresh = await _put_afresh(server, plan, one, head)
        stored.flags[place], stored.changes[place] = afresh.flags[0], afresh.changes[0]
        stored.outcomes[start : start + pieces.count[place]] = afresh.outcomes
    return stored


async def _put_afresh(server: Server, plan: Plan, piece: Pieces, head: tuple[Any, ...]) -> Stored:
    """Stores samples of a link whose keys hold something else; that is removed."""
    link_id = _link_id(plan, piece)
    base = link_key(link_id)
    buckets = set(plan.rows["bucket"][piece.places].tolist())
    await server.command("UNLINK", base + b":m", base + b":s", *(b"%b:h:%d" % (base, bucket) for bucket in buckets))
    [[records, *faults]] = await server.run(scripts.PUT, [_call(plan, piece, head)])
    for fault in faults:
        try:
            refuse_error(fault)
        except StoredDataError as error:
            _log.exception("samples_not_stored", link_id=link_id)
            raise StoreUnavailableError from error
    return _read(records, piece.count)


def _link_id(plan: Plan, piece: Pieces) -> str:
    return plan.links[int(piece.link[0])].link_id


def _parts(count: NDArray[np.intp], links: int) -> Iterator[slice]:
    """Pieces, given their numbers of samples, in order, as one run of the script stores them."""
    end = np.cumsum(count)
    first = 0
    while first < len(count):
        before = int(end[first - 1]) if first else 0
        fitting = int(np.searchsorted(end, before + ROWS_PER_CALL, "right"))
        last = max(min(fitting, first + links), first + 1)
        yield slice(first, last)
        first = last


def _call(plan: Plan, pieces: Pieces, head: tuple[Any, ...]) -> Call:
    """The keys and arguments that store some pieces, in their order."""
    infos = [plan.links[link] for link in pieces.link.tolist()]
    heads = np.zeros(len(pieces), _HEAD)
    heads["samples"] = pieces.count
    texts = [text for info in infos for text in (info.node, info.peer, info.region)]
    said = "".join(texts)
    if said:
        encoded = texts if said.isascii() else [text.encode() for text in texts]
        heads["lengths"] = np.fromiter(map(len, encoded), np.uint8, len(texts)).reshape(-1, 3)
    rows = plan.rows[pieces.places].tobytes()
    return link_keys([info.link_id for info in infos]), [*head, heads.tobytes(), rows, said.encode()]


def _read(records: bytes, count: NDArray[np.intp]) -> Stored:
    """The records that the script answers for pieces with so many samples."""
    found = np.frombuffer(records, np.uint8)
    sizes = _FLAGS_BYTES + _CHANGES_BYTES + count
    starts = np.cumsum(sizes) - sizes
    head = starts[:, None] + np.arange(_FLAGS_BYTES + _CHANGES_BYTES)
    rest = np.ones(len(found), np.bool_)
    rest[head] = False
    changes = np.ascontiguousarray(found[head[:, _FLAGS_BYTES:]]).view("<u4").reshape(-1).astype(np.int64)
    return Stored(found[starts], changes, found[rest])
