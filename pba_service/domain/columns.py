"""Many links' samples in one table, so that windows and look-ups cost one pass over all of them, not one per link.

A table has a row of places per link, filled in order of time from some place on. What is looked at of it is chosen by
`Columns`: which row, and from which place to which. The same row may be chosen several times, up to different samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Stretches of rows of a table, each of at least one sample.

    Attributes:
        times_ms: int64[rows, places], increasing within a stretch.
        values: float32[rows, places, 4] in the order of `METRICS`, NaN where not measured.
        row: int[n], the row of each stretch.
        first: int[n], the place of its oldest sample.
        last: int[n], the place of its newest sample.
    """

    times_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    row: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def __len__(self) -> int:
        """Number of stretches."""
        return len(self.row)

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> Columns:
        """Some of the stretches."""
        return Columns(self.times_ms, self.values, self.row[chosen], self.first[chosen], self.last[chosen])

    def up_to(self, chosen: NDArray[np.intp], last: NDArray[np.intp]) -> Columns:
        """Some of the stretches, each ending at another place."""
        return Columns(self.times_ms, self.values, self.row[chosen], self.first[chosen], last)

    def series(self, position: int) -> Series:
        """One stretch by itself."""
        row, first, last = int(self.row[position]), int(self.first[position]), int(self.last[position])
        return Series(self.times_ms[row, first : last + 1], self.values[row, first : last + 1])

    @property
    def newest_ms(self) -> NDArray[np.int64]:
        """int64[n], when the newest sample of each stretch was measured."""
        times: NDArray[np.int64] = self.times_ms[self.row, self.last]
        return times

    @property
    def oldest_ms(self) -> NDArray[np.int64]:
        """int64[n], when the oldest sample of each stretch was measured."""
        times: NDArray[np.int64] = self.times_ms[self.row, self.first]
        return times

    @staticmethod
    def of(series: Sequence[Series]) -> Columns:
        """A table of its own for some series, each of at least one sample."""
        count = np.fromiter(map(len, series), np.intp, len(series))
        places = int(count.max(initial=1))
        times = np.zeros((len(series), places), np.int64)
        values = np.empty((len(series), places, len(METRICS)), np.float32)
        for row, one in enumerate(series):
            times[row, : len(one)], values[row, : len(one)] = one.times_ms, one.values
        rows = np.arange(len(series))
        return Columns(times, values, rows, np.zeros_like(rows), count - 1)

    def places_after(self, wanted_ms: NDArray[np.int64], position: NDArray[np.intp]) -> NDArray[np.intp]:
        """The first place of some stretches whose sample is later than a time; the place after the last if none is.

        Args:
            wanted_ms: int64[k].
            position: int[k], which stretch is searched for each.
        """
        row = self.row[position]
        low, high = self.first[position], self.last[position] + 1
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            # a search that is over looks at some place once more, which must exist
            later = self.times_ms[row, np.minimum(middle, self.times_ms.shape[1] - 1)] > wanted_ms
            open_ = low < high
            high = np.where(open_ & later, middle, high)
            low = np.where(open_ & ~later, middle + 1, low)
        return low
