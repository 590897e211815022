"""Finding the sample nearest to a time, in the series of many links at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.online.column_timeline import ColumnTimeline
    from pba_service.domain.samples import Series

_AROUND = 3  # samples looked at beside each other: the one expected and its neighbours
_LONG_AGO = np.iinfo(np.int64).min // 2


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The samples nearest to k times; `measured_at_ms` and `values` mean something only where there is one."""

    exists: NDArray[np.bool_]
    measured_at_ms: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """What samples are looked for: of which links (int[k]), nearest to which times, at most how far away (int64[k])."""

    link: NDArray[np.intp]
    wanted_ms: NDArray[np.int64]
    tolerance_ms: NDArray[np.int64]


def nearest_of(timeline: Timeline | ColumnTimeline, one: Sought, other: Sought) -> tuple[Found, Found]:
    """What is found of two kinds of samples: one look for both costs little more than a look for either."""
    found = timeline.nearest(
        Sought(
            np.concatenate([one.link, other.link]),
            np.concatenate([one.wanted_ms, other.wanted_ms]),
            np.concatenate([one.tolerance_ms, other.tolerance_ms]),
        )
    )
    first, rest = slice(len(one.link)), slice(len(one.link), None)
    return (
        Found(found.exists[first], found.measured_at_ms[first], found.values[first]),
        Found(found.exists[rest], found.measured_at_ms[rest], found.values[rest]),
    )


def each_nearest(series: Series, latest_ms: int, wanted_ms: int, tolerance_ms: int) -> NDArray[np.float32]:
    """Of each metric the value measured nearest to a time, at most a tolerance away and not after `latest_ms`.

    Where samples carry some of the metrics only, these may be of different samples. It is `domain.targets.realised` for
    one time, where the cost of a call counts.

    Returns:
        float32[4], NaN where there is none.
    """
    times = series.times_ms
    start = times.searchsorted(wanted_ms - tolerance_ms)
    end = times.searchsorted(min(wanted_ms + tolerance_ms, latest_ms), side="right")
    values = series.values[start:end]
    if not len(values):
        return np.full(len(METRICS), np.nan, np.float32)
    apart = np.abs(times[start:end] - wanted_ms)[:, None]
    chosen = np.where(np.isnan(values), tolerance_ms + 1, apart).argmin(axis=0)
    nearest: NDArray[np.float32] = values[chosen, np.arange(len(METRICS))]
    return nearest


class Timeline:
    """The samples of n links up to each link's now; what is later is never found."""

    def __init__(self, series: Sequence[Series], now_ms: NDArray[np.int64], step_ms: NDArray[np.int64]) -> None:
        """Takes the series, and int64[n] each: the time beyond which nothing may be looked at, and the cadence."""
        self._series, self._now_ms, self._step_ms = series, now_ms, step_ms
        self._times = [one.times_ms for one in series]
        self._last = np.fromiter(map(len, self._times), np.int64, len(series)) - 1
        self._newest_ms = np.array([times[-1] if len(times) else _LONG_AGO for times in self._times], np.int64)

    def nearest(self, sought: Sought) -> Found:
        """The samples that are looked for."""
        link, wanted_ms, tolerance_ms = sought.link, sought.wanted_ms, sought.tolerance_ms
        best, measured = np.full(len(link), -1), np.zeros(len(link), np.int64)
        # where the sample is if none is missing in between
        last, step = self._last[link], self._step_ms[link]
        place = last - (self._newest_ms[link] - wanted_ms + step // 2) // step
        may_be = (last >= 0) & (self._newest_ms[link] >= wanted_ms - tolerance_ms)
        early = np.flatnonzero(may_be & (place < 1))
        oldest = np.array([self._times[i][0] for i in link[early].tolist()], np.int64)
        may_be[early] = oldest <= wanted_ms[early] + tolerance_ms[early]
        guessed = may_be & (last >= _AROUND - 1)
        at = np.clip(place, 1, last - 1)
        sure = self._look_around(best, measured, np.flatnonzero(guessed), link, at, wanted_ms, tolerance_ms)
        for row in np.flatnonzero(may_be & ~sure).tolist():
            best[row], measured[row] = self._search(int(link[row]), int(wanted_ms[row]), int(tolerance_ms[row]))
        return self._found(link, best, measured)

    def newest(self) -> NDArray[np.float32]:
        """What was measured just now: float32[n, 4], NaN where a metric was not."""
        values = np.full((len(self._series), len(METRICS)), np.nan, np.float32)
        current = self._newest_ms == self._now_ms
        for link in range(len(self._series)):
            times = self._times[link]
            at = int(self._last[link]) if current[link] else int(times.searchsorted(self._now_ms[link]))
            if at < len(times) and times[at] == self._now_ms[link]:
                values[link] = self._series[link].values[at]
        return values

    def each_nearest(self, link: int, wanted_ms: int, tolerance_ms: int) -> NDArray[np.float32]:
        """Of each metric of one link the value measured nearest to a time, see `each_nearest`."""
        now_ms = int(self._now_ms[link])
        return each_nearest(self._series[link], now_ms, wanted_ms, tolerance_ms)

    def _found(self, link: NDArray[np.intp], best: NDArray[np.intp], measured: NDArray[np.int64]) -> Found:
        exists = best >= 0
        values = np.full((len(link), len(METRICS)), np.nan, np.float32)
        pairs = zip(link[exists].tolist(), best[exists].tolist(), strict=True)
        rows = [self._series[i].values[at] for i, at in pairs]
        if rows:
            values[exists] = np.concatenate(rows).reshape(-1, len(METRICS))
        return Found(exists, measured, values)

    def _look_around(  # noqa: PLR0917 - columns of one table
        self,
        best: NDArray[np.intp],
        measured: NDArray[np.int64],
        rows: NDArray[np.intp],
        link: NDArray[np.intp],
        at: NDArray[np.intp],
        wanted_ms: NDArray[np.int64],
        tolerance_ms: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Fills some rows with the nearest sample around a position; bool[k], where it is the nearest of all."""
        sure = np.zeros(len(link), np.bool_)
        if not len(rows):
            return sure
        link, at, wanted_ms = link[rows], at[rows], wanted_ms[rows]
        spots = zip(link.tolist(), at.tolist(), strict=True)
        around = np.concatenate([self._times[i][k - 1 : k + 2] for i, k in spots]).reshape(-1, _AROUND)
        now = self._now_ms[link]
        apart = np.abs(around - wanted_ms[:, None])
        apart[around > now[:, None]] = np.iinfo(np.int64).max
        nearest = apart.argmin(axis=1)
        every = np.arange(len(rows))
        met = apart[every, nearest] <= tolerance_ms[rows]
        best[rows] = np.where(met, at - 1 + nearest, -1)
        measured[rows] = around[every, nearest]
        # what is wanted lies among these samples, or they are the series' last
        reached = np.minimum(wanted_ms, now)
        sure[rows] = (around[:, 0] <= reached) & ((around[:, -1] >= reached) | (at == self._last[link] - 1))
        return sure

    def _search(self, link: int, wanted_ms: int, tolerance_ms: int) -> tuple[int, int]:
        """Position and time of one link's sample; (-1, 0) where there is none within tolerance."""
        times = self._times[link]
        end = int(times.searchsorted(self._now_ms[link], side="right"))
        after = int(times[:end].searchsorted(wanted_ms))
        near = [(abs(int(times[at]) - wanted_ms), at) for at in (after - 1, after) if 0 <= at < end]
        distance, at = min(near, default=(tolerance_ms + 1, -1))
        return (at, int(times[at])) if distance <= tolerance_ms else (-1, 0)
