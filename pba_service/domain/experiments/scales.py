"""What errors of a link are measured in: the usual error of "no change", per metric.

As in MASE (Hyndman and Koehler 2006, "Another look at measures of forecast accuracy"), but at the forecasts' own
horizon. Within a period the scale stays what it was before the period began: nothing that the forecasts are judged by
may decide how much they count for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEMORY = 0.995
"""What each target leaves of those before."""

LEAST_TARGETS = 10
"""Targets of a link and metric before its errors are measured at all."""

LEAST = np.array([0.01, 0.05, 1e-4, 0.02], np.float32)
"""The least usual error of each metric (Mbit/s, ms, ratio, ms): below it links count as perfectly steady."""

LEAST_SHARE = np.float32(1e-3)
"""The same as a share of the value."""

LINKS_KEPT = 200_000
_FIRST_ROWS = 64


class Scales:
    """The scales of many links. What is forgotten is learnt again within a period."""

    def __init__(self, links_kept: int = LINKS_KEPT) -> None:
        """Remembers so many links; with more, all begin anew."""
        self._links_kept = links_kept
        self._row: dict[str, int] = {}
        self._clear(_FIRST_ROWS)

    def measure(
        self,
        link_ids: Sequence[str],
        periods: NDArray[np.int64],
        last: NDArray[np.float32],
        actual: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """The scale of each target, and learns from it; a link's targets come in order of time.

        Args:
            link_ids: n links.
            periods: int64[n], the targets' periods.
            last: float32[n, 4], the newest values when the forecasts were made.
            actual: float32[n, 4], what came.

        Returns:
            float32[n, 4], positive; NaN where too little is known.
        """
        rows = self._rows(link_ids)
        error = np.abs(actual - last).astype(np.float64)
        scale = np.empty(last.shape, np.float32)
        for now in _turns(rows):
            at = rows[now]
            begun = now[periods[now] > self._period[at]]
            self._freeze(rows[begun], periods[begun])
            scale[now] = self._frozen[at]
            known = np.isfinite(error[now])
            self._total[at] = np.where(known, MEMORY * self._total[at] + np.nan_to_num(error[now]), self._total[at])
            self._count[at] = np.where(known, MEMORY * self._count[at] + 1, self._count[at])
        least = np.fmax(LEAST, LEAST_SHARE * np.abs(np.nan_to_num(last)))
        measured: NDArray[np.float32] = np.maximum(scale, least)  # NaN stays NaN
        return measured

    def _freeze(self, rows: NDArray[np.intp], periods: NDArray[np.int64]) -> None:
        enough = self._count[rows] >= LEAST_TARGETS
        mean = self._total[rows] / np.maximum(self._count[rows], 1)
        self._frozen[rows] = np.where(enough, mean, np.nan)
        self._period[rows] = periods

    def _rows(self, link_ids: Sequence[str]) -> NDArray[np.intp]:
        new = set(link_ids) - self._row.keys()
        if new and len(self._row) + len(new) > self._links_kept:
            self._row.clear()
            new = set(link_ids)
            self._clear(max(_FIRST_ROWS, len(new)))
        for link_id in new:
            self._row[link_id] = len(self._row)
        if len(self._row) > len(self._period):
            self._grow(2 * len(self._row))
        return np.array([self._row[link_id] for link_id in link_ids], np.intp)

    def _clear(self, size: int) -> None:
        self._period = np.full(size, -1, np.int64)
        self._frozen = np.full((size, len(METRICS)), np.nan, np.float32)
        self._total = np.zeros((size, len(METRICS)))
        self._count = np.zeros((size, len(METRICS)))

    def _grow(self, size: int) -> None:
        kept = len(self._period)
        period, frozen, total, count = self._period, self._frozen, self._total, self._count
        self._clear(size)
        self._period[:kept], self._frozen[:kept] = period, frozen
        self._total[:kept], self._count[:kept] = total, count


def _turns(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Positions in groups in which each row is once, the first of each row first."""
    order = np.argsort(rows, kind="stable")
    position = np.arange(len(rows))
    starts = np.append(True, rows[order][1:] != rows[order][:-1])[: len(rows)]
    turn = np.empty(len(rows), np.intp)
    turn[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return [np.flatnonzero(turn == k) for k in range(int(turn.max(initial=-1)) + 1)]
