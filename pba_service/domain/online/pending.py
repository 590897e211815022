"""Pending forecasts: which samples they meet, and where the next one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.state import PENDING_SLOTS
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.online.state import States
    from pba_service.domain.samples import Series

PATIENCE = 9
"""A forecast without a sample is given up this many half steps after its target: late samples may still come."""

_SPAN_MS = 2**43  # no pending forecast and no sample of use is further from now than this


@dataclass(frozen=True, slots=True)
class Meetings:
    """Pending forecasts and their samples.

    Attributes:
        link: int[k], the link of each, in order of target within a link.
        slot: int[k], its slot in the ring.
        measured_at_ms: int64[k].
        actual: float32[k, 4].
    """

    link: NDArray[np.intp]
    slot: NDArray[np.intp]
    measured_at_ms: NDArray[np.int64]
    actual: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The series of many links as one ordered array of keys, so that one search serves them all."""

    keys: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    now_ms: NDArray[np.int64]

    @staticmethod
    def of(series: Sequence[Series], now_ms: NDArray[np.int64]) -> Timeline:
        """Lays out the series; of link i nothing after `now_ms[i]` will ever be found."""
        lengths = np.fromiter((len(s.times_ms) for s in series), np.int64, len(series))
        times = np.concatenate([s.times_ms for s in series]) if len(series) else np.empty(0, np.int64)
        values = np.concatenate([s.values for s in series]) if len(series) else np.empty((0, 4), np.float32)
        link = np.repeat(np.arange(len(series)), lengths)
        return Timeline(_keys(link, times - now_ms[link]), times, values, now_ms)

    def nearest(
        self, link: NDArray[np.intp], wanted_ms: NDArray[np.int64], tolerance_ms: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Position of the sample nearest to a time and not after now: int[k], -1 where none is within tolerance."""
        if len(self.keys) == 0:
            return np.full(len(link), -1)
        now = self.now_ms[link]
        after = np.searchsorted(self.keys, _keys(link, wanted_ms - now))
        best = np.full(len(link), -1)
        distance = tolerance_ms.astype(np.int64) + 1
        for position in (after - 1, after):
            inside = np.clip(position, 0, len(self.keys) - 1)
            apart = np.abs(self.times_ms[inside] - wanted_ms)
            own = self.keys[inside] >> 44 == link
            closer = (position == inside) & own & (self.times_ms[inside] <= now) & (apart < distance)
            best = np.where(closer, inside, best)
            distance = np.where(closer, apart, distance)
        return best

    def values_near(self, wanted_ms: NDArray[np.int64], tolerance_ms: NDArray[np.int64]) -> NDArray[np.float32]:
        """The sample of each link nearest to a time of its own: float32[n, 4], NaN where none is within tolerance."""
        if len(self.keys) == 0:
            return np.full((len(wanted_ms), len(METRICS)), np.nan, np.float32)
        found = self.nearest(np.arange(len(wanted_ms)), wanted_ms, tolerance_ms)
        return np.where((found >= 0)[:, None], self.values[found], np.float32(np.nan))


def _keys(link: NDArray[np.intp], relative_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return (link << 44) + np.clip(relative_ms, -_SPAN_MS, _SPAN_MS - 1) + _SPAN_MS


def meet(states: States, timeline: Timeline) -> Meetings:
    """Finds the sample of each pending forecast whose target has come, and gives up those that waited too long.

    The nearest sample is known for good once a sample at or after the target is, which is why a forecast is looked at
    only when its target has passed.
    """
    pending = states["pending"]
    horizon = pending["horizon_ms"].astype(np.int64)
    target = pending["made_at_ms"] + horizon
    now = timeline.now_ms[:, None]
    due = (horizon > 0) & (target <= now)
    link, slot = np.nonzero(due)
    wanted = target[link, slot]
    tolerance = pending["tolerance_ms"][link, slot].astype(np.int64)
    found = timeline.nearest(link, wanted, tolerance)
    met = found >= 0
    lost = ~met & (timeline.now_ms[link] - wanted > PATIENCE * tolerance)
    pending[link[lost], slot[lost]] = np.zeros((), pending.dtype)
    order = np.lexsort((wanted[met], link[met]))
    link, slot, found = (column[met][order] for column in (link, slot, found))
    return Meetings(link, slot, timeline.times_ms[found], timeline.values[found])


def free_slot(
    states: States, made_at_ms: NDArray[np.int64], horizon_ms: NDArray[np.int64], step_ms: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where the next forecast of each link goes, and whether it is kept at all.

    A link predicted again from the same sample, because an older one was corrected or came late, keeps the newer
    forecast in place of the one before. When more forecasts fall into a horizon than the ring holds, only those far
    enough from the last kept one are kept, so that those settled stay evenly spread over time.
    """
    pending = states["pending"]
    used = pending["horizon_ms"] > 0
    newest = np.where(used, pending["made_at_ms"], np.iinfo(np.int64).min // 2).max(axis=1)
    spacing = -(-horizon_ms // (PENDING_SLOTS - 2)) - step_ms // 2
    same = used & (pending["made_at_ms"] == made_at_ms[:, None])
    again = same.any(axis=1)
    slot = np.where(again, np.argmax(same, axis=1), np.argmin(used, axis=1))
    return slot, again | (~used.all(axis=1) & (made_at_ms - newest >= spacing))
