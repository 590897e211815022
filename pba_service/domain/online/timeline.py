"""Finding the sample nearest to a time, in the series of many links at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The samples nearest to k times; `measured_at_ms` and `values` mean something only where there is one."""

    exists: NDArray[np.bool_]
    measured_at_ms: NDArray[np.int64]
    values: NDArray[np.float32]


class Timeline:
    """The samples of n links up to each link's now; what is later is never found."""

    def __init__(self, series: Sequence[Series], now_ms: NDArray[np.int64]) -> None:
        """Takes the series and int64[n], the time of each link beyond which nothing may be looked at."""
        self._series, self._now_ms = series, now_ms
        self._oldest_ms = np.array([one.times_ms[0] if len(one.times_ms) else _NEVER for one in series], np.int64)
        self._newest_ms = np.array([one.times_ms[-1] if len(one.times_ms) else -1 for one in series], np.int64)

    def nearest(self, link: NDArray[np.intp], wanted_ms: NDArray[np.int64], tolerance_ms: NDArray[np.int64]) -> Found:
        """The sample of some links nearest to a time each, at most a tolerance away.

        Args:
            link: int[k], positions of links.
            wanted_ms: int64[k].
            tolerance_ms: int64[k].
        """
        newest, now = self._newest_ms[link], self._now_ms[link]
        # most often what is wanted is the newest sample itself; then there is nothing to search
        exact = (newest == wanted_ms) & (newest <= now)
        values = np.full((len(link), len(METRICS)), np.nan, np.float32)
        if exact.any():
            values[exact] = np.concatenate([self._series[i].values[-1:] for i in link[exact].tolist()])
        reaches = (self._oldest_ms[link] <= wanted_ms + tolerance_ms) & (newest >= wanted_ms - tolerance_ms)
        rest = np.flatnonzero(reaches & ~exact)
        found = Found(exact, np.where(exact, newest, 0), values)
        if len(rest):
            self._search(found, rest, link[rest], wanted_ms[rest], tolerance_ms[rest])
        return found

    def _search(
        self,
        found: Found,
        rows: NDArray[np.intp],
        link: NDArray[np.intp],
        wanted_ms: NDArray[np.int64],
        tolerance_ms: NDArray[np.int64],
    ) -> None:
        """Fills some rows of what is found by bisection in their links' series, laid end to end."""
        links, position = np.unique(link, return_inverse=True)
        chosen = [self._series[i] for i in links.tolist()]
        times = np.concatenate([one.times_ms for one in chosen])
        lengths = np.array([len(one.times_ms) for one in chosen])
        beyond = np.cumsum(lengths)
        first, beyond, now = (beyond - lengths)[position], beyond[position], self._now_ms[link]
        after = _first_not_before(times, first, beyond, np.minimum(wanted_ms, now))
        best, distance = np.full(len(rows), -1), tolerance_ms + 1
        for candidate in (after - 1, after):
            inside = (candidate >= first) & (candidate < beyond)
            time = times[np.where(inside, candidate, 0)]
            apart = np.abs(time - wanted_ms)
            closer = inside & (time <= now) & (apart < distance)
            best, distance = np.where(closer, candidate, best), np.where(closer, apart, distance)
        met = best >= 0
        found.exists[rows] = met
        found.measured_at_ms[rows] = np.where(met, times[best], 0)
        values = np.concatenate([one.values for one in chosen])
        found.values[rows] = np.where(met[:, None], values[best], np.float32(np.nan))


def _first_not_before(
    times_ms: NDArray[np.int64], first: NDArray[np.intp], beyond: NDArray[np.intp], wanted_ms: NDArray[np.int64]
) -> NDArray[np.intp]:
    """The first position in [first, beyond), a part in increasing order, whose time is not before the wanted one."""
    low, high, last = first, beyond, len(times_ms) - 1
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        before = (times_ms[np.minimum(middle, last)] < wanted_ms) & (middle < high)
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    return low
