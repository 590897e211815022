"""Finding the sample nearest to a time, in a table of many links: what `Timeline` finds, without a look at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.timeline import Found, each_nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.columns import Columns
    from pba_service.domain.online.timeline import Sought


class ColumnTimeline:
    """The samples of n links, each up to the newest of its stretch."""

    def __init__(self, columns: Columns) -> None:
        """Takes the stretches, which end where nothing later may be looked at."""
        self._columns = columns

    def nearest(self, sought: Sought) -> Found:
        """The samples that are looked for; of two as near the earlier."""
        columns, wanted_ms = self._columns[sought.link], sought.wanted_ms
        after = columns.places_after(wanted_ms - 1)
        before = np.maximum(after - 1, columns.first)
        after = np.minimum(after, columns.last)
        times_before, times_after = columns.time_at(before), columns.time_at(after)
        to_before, to_after = np.abs(wanted_ms - times_before), np.abs(times_after - wanted_ms)
        earlier = to_before <= to_after
        exists = np.minimum(to_before, to_after) <= sought.tolerance_ms
        values = columns.value_at(np.where(earlier, before, after))
        if not exists.all():
            values[~exists] = np.nan
        return Found(exists, np.where(earlier, times_before, times_after), values)

    def newest(self) -> NDArray[np.float32]:
        """What was measured just now: float32[n, 4], NaN where a metric was not."""
        return self._columns.value_at(self._columns.last)

    def each_nearest(self, link: int, wanted_ms: int, tolerance_ms: int) -> NDArray[np.float32]:
        """Of each metric of one link the value measured nearest to a time, see `timeline.each_nearest`."""
        series = self._columns.series(link)
        return each_nearest(series, int(series.times_ms[-1]), wanted_ms, tolerance_ms)
