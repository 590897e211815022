"""The short form: scores rules by interpolation on a sweep that was measured once. No root, no kernel feature.

The sweep has goodput and retransmissions over the number of streams, for 127 paths (CUBIC, buffers tuned by the kernel,
no pace). Between measured numbers retransmissions are interpolated over the logarithm of the streams; goodput is the
mean of that and of streams that add up until the larger number's goodput (left out one by one, measured numbers are hit
without bias by the mean, and 4 % off by either). Paths count where at least three numbers were measured, the best of
them fills 90 % of the path, and the rule's number lies within what was measured. A pace is reckoned with as a ceiling
on goodput, and where nothing else loses packets it is the goodput, as the real runs show; what it spares in queue drops
elsewhere is not reckoned with.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.amst.rules import RULES, Path, Setting, Told
from pba_service.domain.amst.tcp import PAYLOAD_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DATA = File(__file__).parent / "data" / "sweep_cubic.csv"
LEAST_POINTS = 3
LEAST_BEST = 0.9
ENOUGH = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What was measured on one path, by ascending number of streams."""

    path: Path
    streams: NDArray[np.float64]
    goodput_mbps: NDArray[np.float64]
    retransmitted: NDArray[np.float64]

    @property
    def best_mbps(self) -> float:
        """The best goodput that any number reached."""
        return float(self.goodput_mbps.max())

    def at(self, setting: Setting) -> tuple[float, float]:
        """Goodput as a share of the best, and self-caused retransmissions."""
        where, known = np.log(setting.streams), np.log(self.streams)
        goodput = self._goodput(setting.streams)
        pace = setting.pacing_mbps
        if pace is not None and not self.path.loss_ratio and pace <= PAYLOAD_SHARE * self.path.rate_mbps:
            return pace / self.best_mbps, 0.0
        if pace is not None:
            goodput = min(goodput, pace)
        own = float(np.interp(where, known, self.retransmitted)) - self.path.loss_ratio
        return goodput / self.best_mbps, max(own, 0.0)

    def _goodput(self, streams: float) -> float:
        known = np.log(self.streams)
        plain = float(np.interp(np.log(streams), known, self.goodput_mbps))
        below = int(np.searchsorted(self.streams, streams, side="right")) - 1
        if below < 0 or below + 1 >= len(self.streams):
            return plain
        summed = self.goodput_mbps[below] * streams / self.streams[below]
        after = self.goodput_mbps[below + 1]
        adding = float((summed**-6 + after**-6) ** (-1 / 6))
        return (plain + max(adding, plain)) / 2

    def fewest(self) -> float:
        """The fewest streams, two or more, that reach `ENOUGH` of the best, between measured numbers too."""
        candidates = np.geomspace(max(self.streams[0], 2), max(self.streams[-1], 2), 100)
        goodput = np.array([self._goodput(streams) for streams in candidates.tolist()])
        return float(candidates[np.argmax(goodput >= ENOUGH * self.best_mbps)])


@cache
def curves() -> list[Curve]:
    """The paths of the sweep that can be scored on."""
    rows: dict[Path, list[tuple[float, ...]]] = defaultdict(list)
    with DATA.open() as file:
        for row in csv.DictReader(file):
            path = Path(*(float(row[name]) for name in ("rate_mbps", "rtt_ms", "loss_ratio", "queue_share")))
            rows[path].append(tuple(float(row[n]) for n in ("streams", "goodput_mbps", "retransmitted_ratio")))
    found = [Curve(path, *np.array(sorted(points)).T) for path, points in rows.items() if len(points) >= LEAST_POINTS]
    return [c for c in found if c.best_mbps >= LEAST_BEST * PAYLOAD_SHARE * c.path.rate_mbps * (1 - c.path.loss_ratio)]


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A rule over all paths: shares of the best goodput, own retransmissions, streams over the fewest that do."""

    goodput: NDArray[np.float64]
    own_loss: NDArray[np.float64]
    streams_over_fewest: NDArray[np.float64]


def score(rule: Callable[[Told], Setting]) -> Score:
    """Scores a rule that is told the truth."""
    results = []
    for curve in curves():
        setting = rule(Told.exactly(curve.path))
        if setting.streams <= curve.streams[-1]:
            results.append((*curve.at(setting), setting.streams / np.ceil(curve.fewest())))
    return Score(*np.array(results).T)


def table() -> str:
    """All rules, one a line."""
    lines = [f"{'rule':<12}{'paths':>6}{'median':>8}{'5 %':>7}{'least':>7}{'own loss 95 %':>15}{'streams/fewest':>16}"]
    for name, rule in RULES.items():
        s = score(rule)
        lines.append(
            f"{name:<12}{len(s.goodput):>6}{np.median(s.goodput):>8.3f}{np.quantile(s.goodput, 0.05):>7.3f}"
            f"{s.goodput.min():>7.3f}{np.quantile(s.own_loss, 0.95):>15.2%}{np.median(s.streams_over_fewest):>10.1f}"
            f" / {s.streams_over_fewest.max():.1f}"
        )
    return "\n".join(lines)
