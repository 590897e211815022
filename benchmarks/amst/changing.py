"""Replayed changing paths: real bandwidth traces, steps and outages, with four ways to set the parameters.

A minute of a trace is compressed into a second, so that 15 minutes ahead are 15 seconds. (a) fixed, 16 streams; (b)
reactive: the plan told the last measurement alone; (c) the service's plan from PBA's real predictions; (d) the plan
told what really comes. The sender changes streams and pace at each minute, and says what it has: hysteresis counts.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.amst import lab
from benchmarks.amst.rules import BOUNDS, Path, Setting
from pba_service.domain.amst.conditions import conditions
from pba_service.domain.amst.plan import Outlook, Point, plan
from pba_service.domain.parameters import ParametersAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path as File

    from benchmarks.amst.replay import Replay

MINUTES = 24
AHEAD = 15
MEAN_MBPS = 40.0
LEAST_MBPS = 0.5
WAYS = ("fixed", "reactive", "predicted", "foresight")
MINUTE_MS = 60_000
AT_ONCE = 6


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """Minutes of a path: truth float64[MINUTES + AHEAD + 1] and, per minute, the forecast's quantiles float32[5]."""

    name: str
    rtt_ms: float
    loss_ratio: float
    truth_mbps: np.ndarray
    quantiles_mbps: np.ndarray


def recorded(replays: Sequence[Replay], count: int, seed: int) -> list[Episode]:
    """Episodes of recorded links, scaled to a mean of 40 Mbit/s; one sample of the link is a minute."""
    chance, found = np.random.default_rng(seed), []
    for one in chance.permutation(np.array(replays, object))[:count].tolist():
        first = int(chance.integers(0, len(one.ends) - MINUTES - AHEAD - 1))
        span = slice(first, first + MINUTES + AHEAD + 1)
        truth = one.series.values[one.ends[span], 0].astype(float)
        scale = MEAN_MBPS / np.nanmean(truth)
        truth = np.clip(np.nan_to_num(truth * scale, nan=MEAN_MBPS), LEAST_MBPS, 5 * MEAN_MBPS)
        table = np.clip(one.quantiles[first : first + MINUTES, 0] * scale, LEAST_MBPS, None)
        rtt, loss = float(chance.choice([10, 40, 80])), float(chance.choice([0.0, 0.001, 0.005]))
        found.append(Episode(one.link_id, rtt, loss, truth, np.nan_to_num(table, nan=MEAN_MBPS)))
    return found


def drawn_up() -> list[Episode]:
    """A step up, a step down and an outage, each forecast by the last value, give or take 10 %."""
    minutes = np.arange(MINUTES + AHEAD + 1)
    shapes = {
        "step up": np.where(minutes < 10, 20.0, 80.0),
        "step down": np.where(minutes < 10, 80.0, 20.0),
        "outage": np.where((minutes >= 10) & (minutes < 13), LEAST_MBPS, 40.0),
    }
    spread = np.array([0.87, 0.9, 1.0, 1.1, 1.13], np.float32)
    return [
        Episode(name, 40.0, 0.001, truth, truth[:MINUTES, None].astype(np.float32) * spread)
        for name, truth in shapes.items()
    ]


def schedule(episode: Episode, way: str) -> tuple[Setting, str, int]:
    """The first setting, the changes as the sender reads them, and the most streams of all."""
    if way == "fixed":
        return Setting(16), "", 16
    streams, pace = None, None
    first: Setting | None = None
    changes, most = [], 1
    for minute in range(MINUTES):
        ask = ParametersAsk("a", current_streams=streams, current_pacing_mbps=pace, loss_probes=100_000)
        chosen = plan(_outlook(episode, way, minute, ask), ask, BOUNDS)
        new = chosen.parameters
        if chosen.should_adjust or first is None:
            if first is None:
                first = Setting(new.streams, 0, new.pacing_mbps, new.not_sent_bytes)
            else:
                # one schedule entry each; a pace is shared out over the streams that are active then
                changes += [f"{minute}:streams={new.streams}", f"{minute}:pace={new.pacing_mbps or 0}"]
            streams, pace = new.streams, new.pacing_mbps
            most = max(most, new.streams)
    return first or Setting(16), ",".join(changes), most


def _outlook(episode: Episode, way: str, minute: int, ask: ParametersAsk) -> Outlook:
    def known(mbps: float, table: np.ndarray | None = None) -> Point:
        values = np.array([mbps, episode.rtt_ms, episode.loss_ratio, 0], np.float32)
        quantiles = None
        if table is not None:
            quantiles = np.full((4, 5), np.nan, np.float32)
            quantiles[0] = table
        return Point((minute + AHEAD) * MINUTE_MS, conditions(values, quantiles, ask))

    now = minute * MINUTE_MS
    # what is measured at a minute is the minute before
    present = known(episode.truth_mbps[max(minute - 1, 0)]).link
    ahead: list[Point] = []
    if way == "predicted":
        ahead = [known(float(episode.quantiles_mbps[minute][2]), episode.quantiles_mbps[minute])]
    if way == "foresight":
        present = known(episode.truth_mbps[minute]).link
        ahead = []
    return Outlook(now, now, MINUTE_MS, now + AHEAD * MINUTE_MS, present, ahead)


def run(episodes: Sequence[Episode], tell: Callable[[str], None]) -> list[list[object]]:
    """Runs each episode in each way, a transfer for the whole time and one of a fixed size; rows of results."""
    programs = lab.build()

    def work(numbered: tuple[int, Episode]) -> list[list[object]]:
        return _episode(programs, numbered[1], f"c{numbered[0]}", tell)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [row for rows in pool.map(work, enumerate(episodes)) for row in rows]


def _episode(programs: File, episode: Episode, tag: str, tell: Callable[[str], None]) -> list[list[object]]:
    path = Path(float(episode.truth_mbps[0]), episode.rtt_ms, episode.loss_ratio, 0.0)
    queue = Path(MEAN_MBPS, max(episode.rtt_ms, 20), 0.0, 1.0).queue_bytes
    size = int(episode.truth_mbps[: MINUTES // 2].sum() * 0.9e6 / 8)
    rows: list[list[object]] = []
    with tempfile.NamedTemporaryFile("w", suffix=".trace") as trace:
        for minute, mbps in enumerate(episode.truth_mbps):
            trace.write(f"{minute} {mbps:.3f}\n")
        trace.flush()
        for way in WAYS:
            setting, changes, most = schedule(episode, way)
            opened = Setting(most, 0, setting.pacing_mbps, setting.not_sent_bytes)
            begin = f"0:streams={setting.streams},0:pace={setting.pacing_mbps or 0}"
            plan_text = f"{begin},{changes}" if changes else begin
            common = {"tag": tag, "trace": trace.name, "schedule": plan_text, "queue_bytes": queue}
            whole = lab.transfer(programs, path, opened, seconds=float(MINUTES), **common)
            sized = lab.transfer(programs, path, opened, total_bytes=size, **common)
            rows.append(
                [episode.name, episode.rtt_ms, episode.loss_ratio, way, most, whole.goodput_mbps, whole.queue_ms,
                 whole.retransmitted_ratio, sized.elapsed_s, whole.valid and sized.valid]
            )  # fmt: skip
            tell(f"{episode.name} {way}: {whole.goodput_mbps:.2f} Mbit/s, {sized.elapsed_s:.1f} s")
    lab.clean(tag)
    return rows
