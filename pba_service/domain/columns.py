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
        times_ms: int64[rows, places], contiguous, increasing within a stretch.
        values: float32[rows, places, 4], contiguous, in the order of `METRICS`, NaN where not measured.
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
        return self.time_at(self.last)

    @property
    def oldest_ms(self) -> NDArray[np.int64]:
        """int64[n], when the oldest sample of each stretch was measured."""
        return self.time_at(self.first)

    def time_at(self, place: NDArray[np.intp]) -> NDArray[np.int64]:
        """When the sample at one place of each stretch was measured: int64[n] from int[n]."""
        time_ms: NDArray[np.int64] = self.times_ms.reshape(-1).take(self.row * self.times_ms.shape[1] + place)
        return time_ms

    def value_at(self, place: NDArray[np.intp]) -> NDArray[np.float32]:
        """The sample at one place of each stretch: float32[n, 4] from int[n]."""
        return self.values_at(place[:, None])[:, 0]

    def times_at(self, place: NDArray[np.intp]) -> NDArray[np.int64]:
        """When the samples at some places of each stretch were measured: int64[n, k] from int[n, k]."""
        return self.times_ms.reshape(-1).take(self._flat(place))

    def values_at(self, place: NDArray[np.intp]) -> NDArray[np.float32]:
        """The samples at some places of each stretch: float32[n, k, 4] from int[n, k]."""
        return self.values.reshape(-1, len(METRICS)).take(self._flat(place), axis=0)

    def _flat(self, place: NDArray[np.intp]) -> NDArray[np.intp]:
        """Places counted through all rows: taking those is several times as fast as by row and place."""
        flat: NDArray[np.intp] = self.row[:, None] * self.times_ms.shape[1] + place
        return flat

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

    def places_after(self, wanted_ms: NDArray[np.int64]) -> NDArray[np.intp]:
        """The first place of each stretch whose sample is later than a time; the place after the last if none is.

        Where no sample is missing, it is as far from the newest sample, or from the oldest, as the time is: that is
        looked at first, and searched for where it does not hold.

        Args:
            wanted_ms: int64[n].
        """
        newest_ms = self.newest_ms
        step = np.maximum(newest_ms - self.time_at(np.maximum(self.last - 1, self.first)), 1)
        places, right = _checked(self, (wanted_ms - newest_ms) // step + self.last + 1, wanted_ms)
        for guessed in (_from_oldest, _bisected):
            if right.all():
                break
            left = np.flatnonzero(~right)
            some, wanted = self[left], wanted_ms[left]
            places[left], right[left] = _checked(some, guessed(some, wanted, step[left]), wanted)
        return places


def _from_oldest(columns: Columns, wanted_ms: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.intp]:
    place: NDArray[np.intp] = (wanted_ms - columns.oldest_ms) // step + columns.first + 1
    return place


def _bisected(columns: Columns, wanted_ms: NDArray[np.int64], _step: NDArray[np.int64]) -> NDArray[np.intp]:
    low, high = columns.first, columns.last + 1
    for _ in range(int((high - low).max()).bit_length()):
        middle = (low + high) >> 1
        # a search that is over looks at some place once more, which must exist
        later = columns.time_at(np.minimum(middle, columns.last)) > wanted_ms
        open_ = low < high
        high = np.where(open_ & later, middle, high)
        low = np.where(open_ & ~later, middle + 1, low)
    return low


def _checked(
    columns: Columns, guess: NDArray[np.intp], wanted_ms: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """A guess at the first later place of each stretch, kept within it, and whether it is right."""
    first, last = columns.first, columns.last
    guess = np.minimum(np.maximum(guess, first), last + 1)
    right = (guess == first) | (columns.time_at(np.maximum(guess - 1, first)) <= wanted_ms)
    right &= (guess > last) | (columns.time_at(np.minimum(guess, last)) > wanted_ms)
    return guess, right
