"""Inputs that carry PBA's real prediction errors: what the service would say of a path, its forecasts being as good.

A moment of a recorded link (its scored part) is drawn that has bandwidth and latency; everything that was measured and
predicted then is scaled so that what came true 15 minutes later is the path. Loss is drawn the same way from moments
whose loss came out within a factor of two of the path's. The node says that a loss measurement comes from 1,000 probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.amst.rules import BOUNDS, Setting
from pba_service.domain.amst.conditions import conditions
from pba_service.domain.amst.plan import Outlook, Point, plan
from pba_service.domain.parameters import CongestionControl, ParametersAsk
from pba_service.domain.samples import Series
from pba_service.domain.window import MIN_SLOTS
from pba_service.engine.advice import present, robust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.amst.replay import Replay
    from benchmarks.amst.rules import Path

CONFIDENCE_THRESHOLD = 0.6
TOLD_PROBES = 1_000
HORIZON = 1
"""Position of the product's among the model's horizons."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A prediction with what was known before and what came true: all float32[..., 4]."""

    recent: np.ndarray
    values: np.ndarray
    quantiles: np.ndarray
    confidence: float
    actual: np.ndarray


def moments(replays: Sequence[Replay]) -> list[Moment]:
    """All moments whose target was measured, within half a step."""
    found = []
    for one in replays:
        times = one.series.times_ms
        for k, end in enumerate(one.ends.tolist()):
            target = times[end] + one.horizons_ms[k, HORIZON]
            after = int(np.searchsorted(times, target - one.step_ms[k] // 2))
            if after < len(times) and times[after] <= target + one.step_ms[k] // 2:
                recent = one.series.values[max(end - MIN_SLOTS + 1, 0) : end + 1]
                found.append(
                    Moment(recent, one.values[k], one.quantiles[k], float(one.confidence[k]), one.series.values[after])
                )
    return found


def predicted(path: Path, drawn: Sequence[Moment], chance: np.random.Generator) -> Setting:
    """What the service would have said 15 minutes before."""
    usable = [m for m in drawn if (m.actual[:2] > 0).all() and np.isfinite(m.values[:2]).all()]
    moment = usable[chance.integers(len(usable))]
    lossy = [m for m in drawn if np.isfinite(m.actual[2]) and np.isfinite(m.values[2]) and _near(m.actual[2], path)]
    loss = lossy[chance.integers(len(lossy))] if lossy else None
    scale = np.array([path.rate_mbps / moment.actual[0], path.rtt_ms / moment.actual[1]], np.float32)
    recent = np.full((MIN_SLOTS, 4), np.nan, np.float32)
    recent[-len(moment.recent) :, :2] = moment.recent[:, :2] * scale
    values, quantiles = np.full(4, np.nan, np.float32), np.full((4, 5), np.nan, np.float32)
    values[:2], quantiles[:2] = moment.values[:2] * scale, moment.quantiles[:2] * scale[:, None]
    if loss is not None:
        by = path.loss_ratio / loss.actual[2] if loss.actual[2] > 0 else 1.0
        recent[-len(loss.recent) :, 2] = loss.recent[:, 2] * by
        values[2], quantiles[2] = loss.values[2] * by, loss.quantiles[2] * by
    times = np.arange(MIN_SLOTS) * 60_000
    series = Series.of(times, np.clip(recent, 0, None))
    ask = ParametersAsk(
        "path", congestion_control=CongestionControl[path.congestion_control.upper()], loss_probes=TOLD_PROBES
    )
    now = int(times[-1])
    if moment.confidence >= CONFIDENCE_THRESHOLD:
        ahead = [Point(now + 900_000, conditions(values, quantiles, ask))]
        outlook = Outlook(now, now, 60_000, now + 900_000, present(series, ask), ahead)
    else:
        outlook = Outlook(now, now, 60_000, now + 900_000, robust(series, ask))
    chosen = plan(outlook, ask, BOUNDS).parameters
    return Setting(chosen.streams, chosen.buffer_bytes, chosen.pacing_mbps, chosen.not_sent_bytes)


def _near(loss: float, path: Path) -> bool:
    if path.loss_ratio < 1e-3:
        return loss == 0
    return bool(path.loss_ratio / 2 <= loss <= 2 * path.loss_ratio)
