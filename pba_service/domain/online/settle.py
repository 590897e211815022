"""What a forecast that met its sample teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import LedgerEntry, hits
from pba_service.domain.online import codes, combine, confidence, intervals
from pba_service.domain.online.state import PENDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.pending import Meetings
    from pba_service.domain.online.state import States

SCALE_MEMORY = np.float32(0.05)
SCALE_BURN_IN = 5
"""Settled forecasts that the first guess of the scale counts for."""

SCALE_GROWTH = np.float32(30)
"""One error raises the scale as if it were at most this many times the scale."""


def settle(states: States, meetings: Meetings) -> list[list[LedgerEntry]]:
    """Learns from each meeting, oldest target first, and frees its slot; the entries of each link."""
    entries: list[list[LedgerEntry]] = [[] for _ in range(len(states))]
    link, slot = meetings.link, meetings.slot
    if len(link) == 0:
        return entries
    first = np.append(True, link[1:] != link[:-1])
    turn = np.arange(len(link)) - np.maximum.accumulate(np.where(first, np.arange(len(link)), 0))
    for k in range(int(turn.max()) + 1):
        now = turn == k
        rows = link[now]
        waiting = states["pending"][rows, slot[now]]
        _learn(states, rows, waiting, meetings.actual[now])
        closed = _entries(states, rows, waiting, meetings.measured_at_ms[now], meetings.actual[now])
        for row, entry in zip(rows.tolist(), closed, strict=True):
            entries[row].append(entry)
        states["pending"][rows, slot[now]] = np.zeros((), PENDING)
    return entries


def _learn(states: States, rows: NDArray[np.intp], waiting: NDArray[np.void], actual: NDArray[np.float32]) -> None:
    predicted, unit = waiting["predicted"], waiting["scale"]
    distance = actual - predicted
    error = np.abs(distance)
    compared = ~np.isnan(error)
    settled = states["settled"][rows]
    scale = np.where(settled > 0, states["scale"][rows], unit)

    experts = np.abs(distance[..., None] - codes.unpack(waiting["experts"]) * unit[..., None])
    states["log_weight"][rows] = combine.learn(states["log_weight"][rows], experts, error, scale)

    tails = predicted[..., None] + waiting["tails"].astype(np.float32) * unit[..., None]
    states["tail_offset"][rows], states["tail_excess"][rows] = intervals.learn(
        states["tail_offset"][rows], states["tail_excess"][rows], tails, actual, compared
    )

    pace = np.maximum(SCALE_MEMORY, 1 / (settled + np.float32(SCALE_BURN_IN)))
    floor = intervals.smallest_scale(predicted)
    moved = np.maximum(scale + pace * (np.minimum(error, SCALE_GROWTH * scale) - scale), floor)
    states["scale"][rows] = np.where(compared, moved, states["scale"][rows])
    states["settled"][rows] = settled + compared
    _judge(states, rows, waiting, actual, compared[:, :2].any(axis=1))


def _judge(
    states: States,
    rows: NDArray[np.intp],
    waiting: NDArray[np.void],
    actual: NDArray[np.float32],
    judged: NDArray[np.bool_],
) -> None:
    rows, hit = rows[judged], hits(waiting["predicted"][judged], actual[judged])
    evidence = waiting["evidence"][judged].astype(np.float32)
    states["confidence"][rows] = confidence.learn(states["confidence"][rows], evidence, hit)
    states["hit_rate"][rows] = confidence.hit_rate(states["hit_rate"][rows], states["judged"][rows], hit)
    states["judged"][rows] += 1


def _entries(
    states: States,
    rows: NDArray[np.intp],
    waiting: NDArray[np.void],
    measured_at_ms: NDArray[np.int64],
    actual: NDArray[np.float32],
) -> list[LedgerEntry]:
    versions = states["versions"][rows, waiting["version"]].tolist()
    texts = {version: version.decode(errors="ignore") for version in set(versions)}
    made_at = waiting["made_at_ms"]
    columns = (
        made_at.tolist(),
        (made_at + waiting["horizon_ms"]).tolist(),
        measured_at_ms.tolist(),
        np.ascontiguousarray(waiting["predicted"]),
        actual,
        waiting["confidence"].tolist(),
        [texts[version] for version in versions],
    )
    return list(map(LedgerEntry, *columns))
