"""What a forecast that met its sample teaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from pba_service.domain.forecast import LedgerEntry, hits
from pba_service.domain.online import codes, combine, confidence, cycle, hourly, intervals, pull
from pba_service.domain.online.experts import LAST, MEAN_100
from pba_service.domain.online.pending import kept_every_ms, release
from pba_service.domain.online.state import pending_of, put_learnt, take_learnt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.pending import Meetings
    from pba_service.domain.online.state import States

SCALE_MEMORY = np.float32(0.05)
SCALE_BURN_IN = np.float32(5)
"""Settled forecasts that the first guess of the scale counts for."""

SCALE_GROWTH = np.float32(30)
"""One error raises the scale as if it were at most this many times the scale."""


class _When(TypedDict):
    target_ms: NDArray[np.int64]
    step_ms: NDArray[np.int64]
    settled: NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """Forecasts that met their sample, as columns.

    Attributes:
        link: int[k], the link of each.
        made_at_ms, target_ms, measured_at_ms: int64[k].
        predicted, actual: float32[k, 4].
        confidence: float32[k].
        version: bytes[k], the model's.
        last: float32[k, 4], the newest values when the forecast was made, as remembered.
        inside: bool[k, 4], whether `actual` lay in the 90 % interval.
    """

    link: NDArray[np.intp]
    made_at_ms: NDArray[np.int64]
    target_ms: NDArray[np.int64]
    measured_at_ms: NDArray[np.int64]
    predicted: NDArray[np.float32]
    actual: NDArray[np.float32]
    confidence: NDArray[np.float32]
    version: NDArray[np.bytes_]
    last: NDArray[np.float32]
    inside: NDArray[np.bool_]

    def entries(self) -> list[LedgerEntry]:
        """The ledger entry of each."""
        versions = self.version.tolist()
        texts = {name: name.decode(errors="ignore") for name in set(versions)}
        times = (column.tolist() for column in (self.made_at_ms, self.target_ms, self.measured_at_ms))
        names = map(texts.__getitem__, versions)
        said = (self.predicted, self.actual, self.confidence.tolist(), names, self.last, self.inside)
        return list(map(LedgerEntry, *times, *said))


def settle(states: States, meetings: Meetings) -> list[Closed]:
    """Learns from each meeting, oldest target first, and frees its slot; at most one forecast of a link at a time."""
    closed = []
    turns = int(meetings.turn.max(initial=-1)) + 1
    for turn in range(turns):
        # most often each link settles one forecast: then nothing is gathered
        now = slice(None) if turns == 1 else np.flatnonzero(meetings.turn == turn)
        rows, slots, actual = meetings.link[now], meetings.slot[now], meetings.actual[now]
        waiting, target_ms = pending_of(states, rows, slots), states["target_ms"][rows, slots]
        step_ms = 2 * waiting["tolerance_ms"].astype(np.int64)
        every_ms = kept_every_ms(target_ms - states["made_at_ms"][rows, slots], step_ms)
        every = len(rows) == len(states)
        learnt = states["learnt"] if every else take_learnt(states, rows)
        tails = intervals.stated(waiting["tails"], waiting["predicted"], waiting["scale"])
        _learn(learnt, waiting, tails, actual, target_ms=target_ms, every_ms=every_ms)
        if not every:
            put_learnt(states, rows, learnt)
        closed.append(
            Closed(
                link=rows,
                made_at_ms=states["made_at_ms"][rows, slots],
                target_ms=target_ms,
                measured_at_ms=meetings.measured_at_ms[now],
                predicted=np.ascontiguousarray(waiting["predicted"]),
                actual=actual,
                confidence=waiting["confidence"],
                version=states["versions"][rows, waiting["version"]],
                last=waiting["predicted"] + codes.unpack(waiting["experts"][..., LAST]) * waiting["scale"],
                inside=(tails[..., 0] <= actual) & (actual <= tails[..., -1]),
            )
        )
        release(states, rows, slots)
    return closed


def _learn(
    learnt: NDArray[np.void],
    waiting: NDArray[np.void],
    tails: NDArray[np.float32],
    actual: NDArray[np.float32],
    *,
    target_ms: NDArray[np.int64],
    every_ms: NDArray[np.int64],
) -> None:
    """Updates LEARNT[n] by one forecast each, one of which comes `every_ms`; `tails` is float32[n, 4, 4], as stated."""
    predicted, unit = waiting["predicted"], waiting["scale"]
    distance = actual - predicted
    error = np.abs(distance)
    compared = ~np.isnan(error)
    settled = learnt["settled"]
    scale = np.where(settled > 0, learnt["scale"], unit)

    experts = codes.unpack(waiting["experts"])
    learnt["pull"] = pull.learn(learnt["pull"], distance / unit, experts[..., pull.TOWARDS])
    experts *= unit[..., None]
    misses = np.subtract(distance[..., None], experts, out=experts)
    when: _When = {
        "target_ms": target_ms,
        "step_ms": every_ms,  # on a fine cadence not each is learnt from: memories are times, not counts of samples
        "settled": settled,
    }
    hourly.learn(learnt["hourly"], distance - codes.unpack(waiting["others"]) * unit, scale, **when)
    cycle.learn(learnt["course"], actual, actual - misses[..., MEAN_100], **when)
    learnt["log_weight"], learnt["habit"] = combine.learn(
        learnt["log_weight"], learnt["habit"], np.abs(misses, out=misses), error, scale
    )

    learnt["tail_offset"], learnt["tail_excess"], learnt["tail_burst"] = intervals.learn(
        learnt["tail_offset"], learnt["tail_excess"], learnt["tail_burst"], tails, actual
    )

    pace = np.maximum(SCALE_MEMORY, 1 / (settled + SCALE_BURN_IN))
    moved = scale + pace * (np.minimum(error, SCALE_GROWTH * scale) - scale)
    moved = np.maximum(moved, intervals.smallest_scale(predicted))
    np.copyto(learnt["scale"], moved, where=compared)
    settled += compared
    _judge(learnt, waiting, actual, compared[:, 0] | compared[:, 1])


def _judge(
    learnt: NDArray[np.void], waiting: NDArray[np.void], actual: NDArray[np.float32], judged: NDArray[np.bool_]
) -> None:
    """Updates the confidence of those that have bandwidth or latency to compare."""
    hit = hits(waiting["predicted"], actual)
    evidence = waiting["evidence"].astype(np.float32)
    coefficients = confidence.learn(learnt["confidence"], evidence, hit)
    rate = confidence.hit_rate(learnt["hit_rate"], learnt["judged"], hit)
    np.copyto(learnt["confidence"], coefficients, where=judged[:, None])
    np.copyto(learnt["hit_rate"], rate, where=judged)
    learnt["judged"] += judged
