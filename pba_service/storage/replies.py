"""The answers of the scripts in the domain's nouns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from pba_service.domain.samples import LinkInfo
from pba_service.engine.ports import LinkState, LinkSummary, Snapshot
from pba_service.storage import codec
from pba_service.storage.codec import BUCKET_MS, StoredDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.samples import Series

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some buckets of a link, where to go on (None: nowhere), and when its newest sample was measured."""

    buckets: Sequence[tuple[int, bytes]]
    next_ms: int | None
    newest_ms: int


def readable(link_id: str, decode: Callable[[str, Any], _T], reply: Any) -> _T | None:
    """What a reply about a link says; None where it says nothing, or what cannot be understood, which is logged."""
    if reply is None:
        return None
    try:
        refuse_error(reply)
        return decode(link_id, reply)
    except StoredDataError as error:
        _log.warning("stored_data_unreadable", link_id=link_id, error=str(error))
        return None


def refuse_error(reply: Any) -> None:
    """Raises `StoredDataError` if a reply is a script's error for one link."""
    if isinstance(reply, bytes) and reply[:1] == b"!":
        raise StoredDataError(reply[1:].decode(errors="replace"))


def snapshot(link_id: str, reply: Sequence[Any]) -> Snapshot:
    """The answer of `READ`."""
    version, blob, newest, changes, oldest_ms, besides, *stretches = reply
    pairs = list(zip(stretches[0::2], stretches[1::2], strict=True))
    return Snapshot(
        link_id,
        codec.decode_samples(pairs[besides:]),
        LinkState(_integer(version), blob or b""),
        readable(link_id, prediction, newest),
        codec.decode_samples(pairs[:besides]),
        int(changes),
        int(oldest_ms),
    )


def stretch(_link_id: str, reply: Sequence[Any]) -> Stretch:
    """The answer of `RANGE`."""
    next_bucket, *rows, newest_ms = reply
    buckets = list(zip(rows[0::2], rows[1::2], strict=True))
    return Stretch(buckets, None if next_bucket < 0 else next_bucket * BUCKET_MS, int(newest_ms))


def samples(_link_id: str, buckets: Sequence[tuple[int, bytes]]) -> Series:
    """The samples of a stretch."""
    return codec.decode_samples(buckets)


def summary(link_id: str, reply: Sequence[Any]) -> LinkSummary:
    """The answer of `SUMMARISE`."""
    count, node, peer, region, bucket, row, newest = reply
    info = LinkInfo(link_id, *(text.decode(errors="replace") if text else "" for text in (node, peer, region)))
    return LinkSummary(info, count, codec.decode_samples([(bucket, row)]), readable(link_id, prediction, newest))


def ledger(_link_id: str, reply: tuple[int, bytes, Any]) -> list[LedgerEntry]:
    """The answer of `LEDGER`, with the day before it."""
    day, rows, *versions = reply
    names = {
        _integer(number): name.decode(errors="replace") for name, number in zip(*[iter(versions)] * 2, strict=True)
    }
    return codec.decode_ledger(day, rows, names)


def prediction(link_id: str, reply: bytes) -> Prediction:
    """A stored prediction."""
    refuse_error(reply)
    decoded = codec.decode_prediction(reply)
    if decoded.link_id != link_id:
        raise StoredDataError(f"a prediction of {decoded.link_id!r}")
    return decoded


def _integer(text: bytes | None) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise StoredDataError(f"{text!r} is no version") from error
