"""A look at the bytes of a large request before they become objects.

8 MiB can hold four million empty samples. Parsed they take half a gigabyte and hold up every other call for seconds, to
be refused then for being too many. So the entries of large messages are counted first, which stops at the bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.serving.batches import MAX_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCANNED_BYTES = 512 * 1024
"""Smaller messages parse in well under 0.1 s whatever they hold."""

MAX_FIELDS = 100_000
"""More than columns take whose numbers are not packed, which is allowed."""

_SAMPLES, _COLUMNS, _LINKS, _WINDOW = 2, 3, 1, 2  # field numbers, in PushSamplesRequest, SampleColumns, PredictRequest
_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)  # wire types
_VARINT_BITS = 70  # at most ten bytes of seven bits
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4, _GROUP: 0, _GROUP_END: 0}
"""Groups are unknown to the contract, but parsers read over them: what is in one counts like what is around it."""


def check_batch(data: bytes) -> None:
    """Raises `InvalidRequestError` when a `PushSamplesRequest` has too many samples or links."""
    fields = samples = links = 0
    for number, begin, end in _fields(data, 0, len(data)):
        fields += 1
        samples += number == _SAMPLES
        for inner, _, _ in _fields(data, begin, end) if number == _COLUMNS else ():
            fields += 1
            links += inner == _LINKS  # counted over all columns: given twice, they are merged
            _bound("columns.links", links, MAX_SAMPLES)
            _bound("request", fields, MAX_FIELDS)
        _bound("samples", samples, MAX_SAMPLES)
        _bound("request", fields, MAX_FIELDS)


def check_predict(data: bytes) -> None:
    """Raises `InvalidRequestError` when the window of a `PredictRequest` has too many samples."""
    samples = 0
    for fields, (number, _, _) in enumerate(_fields(data, 0, len(data)), start=1):
        samples += number == _WINDOW
        _bound("window", samples, MAX_SAMPLES)
        _bound("request", fields, MAX_FIELDS)


CHECKS: dict[str, Callable[[bytes], None]] = {
    "/pba.v1.PredictionService/PushSamples": check_batch,
    "/pba.v1.PredictionService/StreamSamples": check_batch,
    "/pba.v1.PredictionService/Predict": check_predict,
}
"""By method; what is missing here has no repeated messages in its request."""


def _bound(field: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidRequestError(Violation(field, f"has more than {most} entries"))


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The (number, begin, end) of each field; ends at what is no message, which the parser refuses."""
    while position < end:
        key, position = _varint(data, position, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == _LENGTH:
            length, begin = _varint(data, position, end)
            position = begin + length
        elif wire_type == _VARINT:
            begin = position
            _, position = _varint(data, position, end)
        elif wire_type in _FIXED_BYTES:
            begin = position
            position += _FIXED_BYTES[wire_type]
        else:
            return
        if position > end:
            return
        yield number, begin, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at a position and the position after it; one that is none is taken to end the data."""
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, position
    return 0, end
