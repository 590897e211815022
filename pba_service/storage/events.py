"""Predictions as they are committed: a stream in Redis that every replica reads on from where it was.

Not publish and subscribe: in failovers that missed events, sometimes silently and for ever; streams keep them.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage import codec, keys, scripts
from pba_service.storage.codec import StoredDataError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pba_service.domain.forecast import Prediction
    from pba_service.storage.server import Server

RECONCILE_EVERY_S = 30.0

FRESH_S = 3.0
"""An idle stream is read about once a second."""

_ANNOUNCED_AT_ONCE = 500
_OWN_KEPT = 64  # entries
_HEARD_KEPT = 100_000  # links
_OUTCOME = b"o"
"""The field of an entry that says of which link an outcome was stored; entries of predictions lack it."""
_BEGINNING = b"0-0"
_LENGTH = struct.Struct("<I")
_READ_AT_ONCE = 64
_BLOCK_S = 1.0
_BACKOFF_S = (0.05, 1.0)

_log = structlog.get_logger(__name__)


class Own:
    """What this process announces, kept until it reads that itself: it need not be decoded then."""

    def __init__(self) -> None:
        self._announced: OrderedDict[bytes, list[Prediction]] = OrderedDict()

    def announced(self, token: bytes, predictions: list[Prediction]) -> None:
        """These are about to be announced, or some of them."""
        self._announced[token] = predictions
        if len(self._announced) > _OWN_KEPT:
            self._announced.popitem(last=False)

    def read(self, token: bytes, count: int) -> list[Prediction] | None:
        """The predictions of an entry that holds so many; None where it is not known which they are."""
        predictions = self._announced.pop(token, None)
        return predictions if predictions is not None and len(predictions) == count else None


class Heard:
    """Of which links outcomes were stored, by whomever, as far as is known here."""

    def __init__(self, max_links: int = _HEARD_KEPT) -> None:
        """Keeps the counts of so many links."""
        self._max_links = max_links
        self._counts: dict[str, int] = {}
        self._started = 0

    def note(self, link_id: str) -> None:
        """An outcome of a link was stored, or may have been."""
        if len(self._counts) >= self._max_links and link_id not in self._counts:
            self.missed()
        self._counts[link_id] = self.of(link_id) + 1

    def missed(self) -> None:
        """Outcomes of any link may have been stored."""
        self._started = max(self._counts.values(), default=self._started) + 1
        self._counts.clear()

    def of(self, link_id: str) -> int:
        """A number that grows with every outcome of the link."""
        return self._counts.get(link_id, self._started)


async def announce_outcome(server: Server, link_id: str) -> None:
    """Tells all replicas that outcomes of a link changed.

    Where that fails others take it into account with the next prediction.
    """
    try:
        await server.command("XADD", keys.EVENTS, "MAXLEN", "~", scripts.EVENTS_KEPT, "*", _OUTCOME, link_id.encode())
    except StoreUnavailableError:
        _log.warning("outcome_not_announced", link_id=link_id)


async def announce(server: Server, predictions: Sequence[Prediction], own: Own) -> None:
    """Adds predictions to the stream; what cannot be added is left to reconciliation, since it has been written."""
    calls = []
    for first in range(0, len(predictions), _ANNOUNCED_AT_ONCE):
        part = list(predictions[first : first + _ANNOUNCED_AT_ONCE])
        token = secrets.token_bytes(8)
        own.announced(token, part)
        calls.append(([keys.EVENTS], [token, *map(codec.encode_prediction, part)]))
    try:
        await server.run(scripts.ANNOUNCE, calls)
    except StoreUnavailableError:
        _log.warning("predictions_not_announced", predictions=len(predictions))


class Followed:
    """Whether the stream is being read."""

    def __init__(self) -> None:
        self._read_at_s = -math.inf

    @property
    def recently(self) -> bool:
        """Whether it has been read to its end within `FRESH_S`, without a gap since its reader began."""
        return time.monotonic() - self._read_at_s < FRESH_S

    def note(self, *, read: bool) -> None:
        """It has been read to its end, or could not be read and something may be missing."""
        self._read_at_s = time.monotonic() if read else -math.inf


async def follow(
    server: Server,
    everything: Callable[[], AsyncIterator[list[Prediction]]],
    *,
    followed: Followed | None = None,
    own: Own | None = None,
    heard: Heard | None = None,
    reconcile_every_s: float = RECONCILE_EVERY_S,
) -> AsyncIterator[list[Prediction]]:
    """Reads the stream for ever.

    Args:
        server: Where it is.
        everything: Reads the newest predictions of all links, in pages: done after an error, because events may have
            been lost or trimmed meanwhile, where this one is so far behind that some have been trimmed, and now and
            then where writing and announcing are two steps.
        followed: Told how it goes.
        own: What this process announced.
        heard: Told of outcomes.
        reconcile_every_s: How often that is, the last two.

    Yields:
        First an empty list: what is committed from then on will be delivered. Then predictions.
    """
    loop, followed, own = asyncio.get_running_loop(), followed or Followed(), own or Own()
    heard = heard or Heard()
    delay_s, cursor, started, missed = _BACKOFF_S[0], b"", False, False
    reconcile_at = loop.time()
    while True:
        try:
            if not cursor:
                cursor, missed = await _end_of_stream(server), False
                heard.missed()
                if started:
                    async for page in everything():
                        yield page
                    _log.info("announcements_resumed")
                else:
                    started = True
                    yield []
                reconcile_at = loop.time() + reconcile_every_s
            elif (missed or not server.holds_everything) and loop.time() >= reconcile_at:
                missed = False  # what is trimmed while all is read is missed once more
                async for page in everything():
                    yield page
                reconcile_at = loop.time() + reconcile_every_s
            before = cursor
            cursor, predictions, to_the_end = await _read_on(server, cursor, own, heard)
            missed = (not to_the_end and await _misses(server, before, followed, heard)) or missed
            delay_s = _BACKOFF_S[0]
            if predictions:
                yield predictions
            if to_the_end and not missed:
                followed.note(read=True)
        except StoreUnavailableError:
            followed.note(read=False)
            # The server that comes back may be another one, whose stream ends earlier: begin at its end.
            cursor = b""
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _BACKOFF_S[1])


async def _end_of_stream(server: Server) -> bytes:
    newest = await server.command("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
    return newest[0][0] if newest else _BEGINNING


async def _misses(server: Server, cursor: bytes, followed: Followed, heard: Heard) -> bool:
    """Whether entries after this one may have been trimmed: surely not where it is still there."""
    if cursor == _BEGINNING:  # which never was there
        return False
    oldest = await server.command("XRANGE", keys.EVENTS, "-", "+", "COUNT", 1)
    if not oldest or _place(oldest[0][0]) <= _place(cursor):
        return False
    _log.warning("announcements_missed")
    followed.note(read=False)
    heard.missed()
    return True


def _place(entry: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry.split(b"-")))


async def _read_on(server: Server, cursor: bytes, own: Own, heard: Heard) -> tuple[bytes, list[Prediction], bool]:
    """Where to go on, what came, and whether that was all there was."""
    # Well below the deadline, or an idle stream would look like a server that hangs.
    block_ms = int(min(_BLOCK_S, server.timeout_s / 2) * 1_000)
    reply = await server.command("XREAD", "COUNT", _READ_AT_ONCE, "BLOCK", block_ms, "STREAMS", keys.EVENTS, cursor)
    if not reply:
        return cursor, [], True
    [[_, entries]] = reply
    newest: dict[str, Prediction] = {}
    for _, fields in entries:
        if (link_id := fields.get(_OUTCOME)) is not None:
            heard.note(link_id.decode(errors="replace"))
            continue
        for prediction in _predictions(fields, own):
            newest.pop(prediction.link_id, None)
            newest[prediction.link_id] = prediction
    return entries[-1][0], list(newest.values()), len(entries) < _READ_AT_ONCE


def _predictions(fields: dict[bytes, bytes], own: Own) -> list[Prediction]:
    """The predictions of an entry; what cannot be understood is logged and left out."""
    try:
        blobs = _split(fields[b"p"])
        known = own.read(fields[b"t"], len(blobs))
    except (KeyError, struct.error) as error:
        _log.warning("announcement_unreadable", error=f"no entry of the stream: {error}")
        return []
    if known is not None:
        return known
    found = []
    for blob in blobs:
        try:
            found.append(codec.decode_prediction(blob))
        except StoredDataError as error:
            _log.warning("announcement_unreadable", error=str(error))
    return found


def _split(joined: bytes) -> list[bytes]:
    """Blobs that are joined, each with its length before it."""
    blobs, at = [], 0
    while at < len(joined):
        (length,) = _LENGTH.unpack_from(joined, at)
        at += _LENGTH.size + length
        blobs.append(joined[at - length : at])
    return blobs
