"""Tables with an entry for each hour: where a time lies in them, and what they say between two hours.

What an entry says of the four metrics lies together, so that numpy picks it as one word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

HOUR_MS = 3_600_000
HOURS = 24
DAY_MS = HOURS * HOUR_MS
_DAYS, _SATURDAY = 7, 5
_EPOCH_HOUR_OF_WEEK = 3 * HOURS  # 1970-01-01 was a Thursday

_OF_WEEK = np.repeat([0, HOURS], [_SATURDAY * HOURS, (_DAYS - _SATURDAY) * HOURS]) + np.tile(np.arange(HOURS), _DAYS)
"""The entry of each hour of a week that begins on a Monday."""

_AND_NEXT, _AND_NEIGHBOURS = slice(1, 3), slice(0, 4)
"""Of what `OF_DAY` and `OF_WEEK` say of an hour: itself and the next; and those around both."""

_WORD = {2: np.uint64, 4: np.complex128}
"""A type as wide as four numbers, by the bytes of one."""

_HALF, _QUARTER = np.float32(0.5), np.float32(0.25)


def of_day(hour: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hour of day, 0 to 23, of hours since the epoch."""
    return hour % HOURS


def is_weekend(hour: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether hours since the epoch lie on a Saturday or Sunday, UTC."""
    weekend: NDArray[np.bool_] = of_week(hour) >= HOURS
    return weekend


def of_week(hour: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hour of day of hours since the epoch, from Monday to Friday 0 to 23, at weekends 24 to 47."""
    return _OF_WEEK.take((hour + _EPOCH_HOUR_OF_WEEK) % len(_OF_WEEK))


def _calendar(place: Callable[[NDArray[np.int64]], NDArray[np.int64]], period: int) -> NDArray[np.int64]:
    """The entries of the hour before each hour of a period, of itself, and of the two after it: int64[period, 4]."""
    return place(np.arange(period)[:, None] + np.arange(-1, 3))


OF_DAY = _calendar(of_day, HOURS)
"""Tables with an entry for each hour of day."""

OF_WEEK = _calendar(of_week, _DAYS * HOURS)
"""Tables with an entry for each hour of day from Monday to Friday, and one for each at weekends."""


def pace(
    step_ms: NDArray[np.int64], settled: NDArray[np.uint32], memory_days: float, share: NDArray[np.float32] | np.float32
) -> NDArray[np.floating]:
    """How far one value moves its hour, so that each is a mean of so many days, and of all there were before: [n, 4].

    Of a link that is measured less often than once an hour each is a mean of so many values, one of a day at most.

    Args:
        step_ms: int64[n], between one value and the next.
        settled: uint32[n, 4], values before.
        memory_days: Days that an hour is a mean of.
        share: Of the days, those with this hour.
    """
    step = step_ms[:, None].astype(np.float32)
    days = np.minimum(1 + settled * share * step / DAY_MS, np.float32(memory_days))
    return np.minimum(step / HOUR_MS, np.float32(1)) / days


def between(
    table: NDArray[np.floating],
    time_ms: NDArray[np.int64],
    calendar: NDArray[np.int64],
) -> NDArray[np.float32]:
    """What tables say at a time, linear between the middles of the hours.

    Args:
        table: float16 or float32[n, entries, 4].
        time_ms: int64[n, ...], Unix ms.
        calendar: What its entries are: `OF_DAY` or `OF_WEEK`.

    Returns:
        float32[n, ..., 4].
    """
    part, (before, after) = _entries(table, time_ms, calendar, _AND_NEXT)
    return _on_the_way(part, before, after)


def smoothed(
    table: NDArray[np.floating],
    time_ms: NDArray[np.int64],
    calendar: NDArray[np.int64],
) -> NDArray[np.float32]:
    """As `between`, where each hour is half itself and half its two neighbours, which tells less of chance."""
    part, (earlier, before, after, later) = _entries(table, time_ms, calendar, _AND_NEIGHBOURS)
    return _on_the_way(part, _HALF * before + _QUARTER * (earlier + after), _HALF * after + _QUARTER * (before + later))


def move(
    table: NDArray[np.floating],
    amount: NDArray[np.floating],
    time_ms: NDArray[np.int64],
    calendar: NDArray[np.int64],
    farthest: np.float32,
) -> None:
    """Moves what tables say at a time, as far as the two hours around it have to do with it.

    Args:
        table: float[n, entries, 4], changed in place, within +-`farthest`.
        amount: float[n, 4], how far `between` moves at that time.
        time_ms: int64[n], Unix ms.
        calendar: As for `between`.
        farthest: The bound of each entry.
    """
    hour, part = _around(time_ms)
    weight = np.stack([1 - part, part], axis=1)
    weight /= np.square(weight).sum(axis=1, keepdims=True)  # as normalised least mean squares do
    link, entry = np.arange(len(table))[:, None], _near(hour, calendar)[:, _AND_NEXT]
    moved = table[link, entry] + weight[:, :, None] * amount[:, None, :]
    table[link, entry] = moved.clip(-farthest, farthest)


def _around(time_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The hour whose middle comes before each time, and how far on the way to the next middle the time is."""
    hour, within = np.divmod(time_ms - HOUR_MS // 2, HOUR_MS)
    return hour, (within / HOUR_MS).astype(np.float32)


def _entries(
    table: NDArray[np.floating],
    time_ms: NDArray[np.int64],
    calendar: NDArray[np.int64],
    near: slice,
) -> tuple[NDArray[np.float32], Sequence[NDArray[np.float32]]]:
    """How far on the way to the next hour's middle each time is, and what tables hold of some hours from there."""
    hour, part = _around(time_ms)
    link = np.arange(len(table)).reshape(-1, *[1] * time_ms.ndim)
    words: NDArray[Any] = table.view(_WORD[table.itemsize])[..., 0]
    found = words[link, _near(hour, calendar)[..., near]][..., None].view(table.dtype).astype(np.float32, copy=False)
    return part[..., None], list(np.moveaxis(found, -2, 0))


def _near(hour: NDArray[np.int64], calendar: NDArray[np.int64]) -> NDArray[np.int64]:
    return calendar.take(hour % len(calendar), axis=0)


def _on_the_way(
    part: NDArray[np.float32], before: NDArray[np.float32], after: NDArray[np.float32]
) -> NDArray[np.float32]:
    said: NDArray[np.float32] = before + part * (after - before)
    return said
