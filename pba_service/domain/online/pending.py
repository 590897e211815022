"""Pending forecasts: which samples they meet, and where the next one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.state import FREE, PENDING_SLOTS, put_pending
from pba_service.domain.online.timeline import Sought
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.column_timeline import ColumnTimeline
    from pba_service.domain.online.state import States
    from pba_service.domain.online.timeline import Found, Timeline

PATIENCE = 9
"""A forecast without a sample is given up this many half steps after its target: late samples may still come."""

_LOSS = METRICS.index("packet_loss_ratio")


@dataclass(frozen=True, slots=True)
class Meetings:
    """Pending forecasts and their samples.

    Attributes:
        link: int[k], the link of each.
        turn: int[k], its place among those of its link, by target: 0 is the oldest.
        slot: int[k], its slot in the ring.
        measured_at_ms: int64[k], when the nearest sample was measured.
        actual: float32[k, 4].
    """

    link: NDArray[np.intp]
    turn: NDArray[np.intp]
    slot: NDArray[np.intp]
    measured_at_ms: NDArray[np.int64]
    actual: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Due:
    """Pending forecasts whose target has come, by link: the slot of each (int[k]), and the samples they wait for."""

    slot: NDArray[np.intp]
    sought: Sought


def due(states: States, now_ms: NDArray[np.int64]) -> Due:
    """Those that are due."""
    target = states["target_ms"]
    link, slot = (target <= now_ms[:, None]).nonzero()
    tolerance = states["pending"]["tolerance_ms"][link, slot].astype(np.int64)
    return Due(slot, Sought(link, target[link, slot], tolerance))


def meet(
    states: States, timeline: Timeline | ColumnTimeline, now_ms: NDArray[np.int64], waiting: Due, found: Found
) -> Meetings:
    """Which of the forecasts that are due meet the sample that was found; gives up those that waited too long.

    The nearest sample is known for good once a sample at or after the target is, which is why a forecast is looked at
    only when its target has passed. Where that sample lacks a metric that was predicted, another one may carry it: the
    forecast waits for all that could, and then takes of each metric what was measured nearest. Where all packets were
    lost there is nothing to wait for: no round trip came back to be timed.
    """
    slot, sought, met = waiting.slot, waiting.sought, found.exists
    link, wanted, tolerance = sought.link, sought.wanted_ms, sought.tolerance_ms
    missing = np.isnan(found.values) & ~np.isnan(states["pending"]["predicted"][link, slot])
    if met.all() and not np.count_nonzero(missing):
        return Meetings(link, _turns(link, wanted), slot, found.measured_at_ms, found.values)
    lacks = missing.any(axis=1)
    silent = found.values[:, _LOSS] >= 1
    waits = lacks & ~silent & (now_ms[link] - wanted < tolerance)
    for row in np.flatnonzero(met & lacks & ~waits).tolist():
        found.values[row] = timeline.each_nearest(int(link[row]), int(wanted[row]), int(tolerance[row]))
    lost = ~met & (now_ms[link] - wanted > PATIENCE * tolerance)
    release(states, link[lost], slot[lost])
    met = met & ~waits
    return Meetings(link[met], _turns(link[met], wanted[met]), slot[met], found.measured_at_ms[met], found.values[met])


def release(states: States, link: NDArray[np.intp], slot: NDArray[np.intp]) -> None:
    """Frees slots of some links; what they held becomes zeros, which the state's bytes may leave off."""
    states["target_ms"][link, slot] = FREE
    put_pending(states, link, slot)


def _turns(link: NDArray[np.intp], target_ms: NDArray[np.int64]) -> NDArray[np.intp]:
    """The place of each meeting among those of its link, by target; `link` is non-decreasing."""
    another = link[1:] != link[:-1]
    if another.all():
        return np.zeros(len(link), np.intp)
    position, starts = np.arange(len(link)), np.append(True, another)
    order = np.lexsort((target_ms, link))
    turn = np.empty(len(link), np.intp)
    turn[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return turn


def _spacing_ms(horizon_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far apart forecasts are kept at least, on average: so far that the ring holds those of a horizon."""
    spacing: NDArray[np.int64] = -(-horizon_ms // (PENDING_SLOTS - 2))
    return spacing


def kept_every_ms(horizon_ms: NDArray[np.int64], step_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far apart those that are kept, and settled, are made: a step, or several on a fine cadence."""
    every: NDArray[np.int64] = np.maximum(_spacing_ms(horizon_ms), step_ms)
    return every


def free_slot(
    states: States, made_at_ms: NDArray[np.int64], horizon_ms: NDArray[np.int64], step_ms: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where the next forecast of each link goes, and whether it is kept at all; its place becomes the states' newest.

    A link predicted again from the same sample, because an older one was corrected or came late, keeps the newer
    forecast in place of the one before. When more forecasts fall into a horizon than the ring holds, as many are kept
    as it holds, evenly spread over time whatever the cadence: each has a place in a row of places that are so far
    apart, and is made at most half a step from it; the row begins anew where nothing was made for longer than that.
    """
    free = states["target_ms"] == FREE
    slot = free.argmax(axis=1)
    before, slack = states["last_kept_ms"], step_ms // 2
    place = before + _spacing_ms(horizon_ms)
    place = np.where(place < made_at_ms - slack, made_at_ms, place)
    kept = free[np.arange(len(slot)), slot] & (place <= made_at_ms + slack)
    for i in (states["last_made_at_ms"] == made_at_ms).nonzero()[0].tolist():
        same = ~free[i] & (states["made_at_ms"][i] == made_at_ms[i])
        slot[i], kept[i], place[i] = (np.argmax(same), True, before[i]) if same.any() else (slot[i], kept[i], place[i])
    states["last_kept_ms"] = np.where(kept, place, before)
    return slot, kept
