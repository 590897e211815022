"""Measured values against the truth of emulated paths: idle, carrying the transport's traffic, carrying others'."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.agent.paths import FAR, Emulated, Path, emulated, priority, python, stop
from benchmarks.amst import lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INTERVAL_S = 30
SAMPLES = 2
"""Of each run; the first interval, in which everything starts, is left out."""

AT_ONCE = 3
OTHERS_SHARE = 0.4
PACED_SHARE = 0.5
TRANSPORT_PORT = 5000
PROBE_BYTES = 140
TRANSPORT_LOSS = "transport_loss_ratio"
LOADS = ("idle", "saturated", "half", "others")

PATHS = (
    Path(10, 20, 0.0, 0.5),
    Path(10, 80, 0.01, 2.0),
    Path(20, 200, 0.001, 1.0),
    Path(50, 20, 0.001, 0.3),
    Path(50, 80, 0.03, 1.0),
    Path(100, 4, 0.0, 0.1),
    Path(100, 40, 0.005, 0.5),
)

HEADER = [
    "rate_mbps", "rtt_ms", "loss_ratio", "jitter_ms", "load", "metric", "source", "measured", "truth", "low", "high",
]  # fmt: skip

_AGENT = """
node: bench
interval: {interval}s
poll: 1s
state_dir: {folder}/state
key_file: key
links:
  - link: bench
    address: {far}
    ports: [{port}]
respond:
  host: {far}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of one sample beside the truth."""

    path: Path
    load: str
    metric: str
    source: str
    measured: float
    truth: float
    low: float
    high: float

    @staticmethod
    def of(cells: list[str]) -> Row:
        """From a row of the results file."""
        rate, rtt, loss, jitter, load, metric, source, *numbers = cells
        path = Path(float(rate), float(rtt), float(loss), float(jitter))
        measured, truth, low, high = (float(one) for one in numbers)
        return Row(path, load, metric, source, measured, truth, low, high)

    def cells(self) -> list[object]:
        """As a row of the results file."""
        path = self.path
        numbers = (round(v, 6) for v in (self.measured, self.truth, self.low, self.high))
        link = [f"{v:g}" for v in (path.rate_mbps, path.rtt_ms, path.loss_ratio, path.jitter_ms)]
        return [*link, self.load, self.metric, self.source, *numbers]


def run(tell: Callable[[str], None], paths: Iterable[Path] = PATHS, loads: Iterable[str] = LOADS) -> list[Row]:
    """Measures every path under every load."""
    programs = lab.build()
    jobs = [(number, path, load) for number, (path, load) in enumerate((p, w) for w in loads for p in paths)]

    def work(job: tuple[int, Path, str]) -> list[Row]:
        number, path, load = job
        found = measure(programs, path, load, f"{number % 100}")
        tell(f"{path} {load}: {len(found)} values")
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [row for rows in pool.map(work, jobs) for row in rows]


def measure(programs: File, path: Path, load: str, tag: str) -> list[Row]:
    """Measures one path under one load with the agent's own commands, `measure` and `respond`."""
    with tempfile.TemporaryDirectory(prefix="agent-bench-") as name:
        folder = File(name)
        (folder / "key").write_text("the key of a laboratory")
        config = folder / "agent.yaml"
        config.write_text(_AGENT.format(interval=INTERVAL_S, folder=folder, far=FAR, port=TRANSPORT_PORT))
        agent = ["-m", "pba_client.agent"]
        common = ["--config", str(config), "--log-level", "error"]
        with emulated(programs, path, tag, seed=len(tag) + ord(load[0])) as link:
            far = subprocess.Popen([*priority(), *python(link.far, *agent, "respond", *common)])
            traffic = _traffic(programs, link, path, load)
            near = subprocess.Popen(
                [*priority(), *python(link.near, *agent, "measure", *common, "--samples", str(SAMPLES + 1))],
                stdout=subprocess.PIPE,
                text=True,
            )
            said, _ = near.communicate(timeout=(SAMPLES + 4) * INTERVAL_S)
            for one in traffic:
                one.terminate()
                one.wait()
            far.terminate()
            far.wait()
            time.sleep(1.1)
            samples = [json.loads(line) for line in said.splitlines()][1:]
            windows, delays = link.windows(), link.delays()
        return [
            row for sample in samples for row in _rows(path, load, sample, link=link, windows=windows, delays=delays)
        ]


def _traffic(programs: File, link: Emulated, path: Path, load: str) -> list[subprocess.Popen[bytes]]:
    """What the path carries besides the agent."""
    seconds = (SAMPLES + 4) * INTERVAL_S
    if load == "idle":
        return []
    if load == "others":
        rate = str(OTHERS_SHARE * path.rate_mbps)
        command = [*priority(), *python(link.near, "-m", "benchmarks.agent.others", FAR, rate, str(seconds))]
        return [subprocess.Popen(command)]
    streams = 4 if path.loss_ratio < 0.005 else 32
    command = [*priority(), str(programs / "stripe"), "--ns-a", link.near, "--ns-b", link.far, "--cc", "cubic"]
    command += ["--streams", str(streams), "--duration", str(seconds), "--port", str(TRANSPORT_PORT)]
    if load == "half":
        command += ["--pace", str(PACED_SHARE * path.rate_mbps)]
    return [subprocess.Popen(command, stdout=subprocess.DEVNULL)]


def _rows(
    path: Path,
    load: str,
    sample: dict[str, float],
    *,
    link: Emulated,
    windows: list[dict[str, float]],
    delays: np.ndarray,
) -> list[Row]:
    """A sample's values beside what the emulator knows of the same interval."""
    end_s = sample["measured_at_ms"] / 1e3 - link.began_s
    within = [one for one in windows if end_s - INTERVAL_S < one["t"] <= end_s + 0.5]
    packets = sum(one["in_pkts"] for one in within)
    served = sum(one["out_pkts"] + one["drop_loss"] for one in within)
    queue_ms = sum(one["sojourn_mean_ms"] * (one["out_pkts"] + one["drop_loss"]) for one in within) / max(served, 1)
    lost = sum(one["drop_queue"] + one["drop_loss"] for one in within)
    idle = load == "idle"
    truths = {
        "bandwidth_mbps": path.rate_mbps * (1 - OTHERS_SHARE if load == "others" else 1),
        # an idle link's packets are the agent's own: a probe waits for nothing but its own transmission
        "latency_ms": path.rtt_ms + (140 * 8e-3 / path.rate_mbps if idle else queue_ms),
        "packet_loss_ratio": path.loss_ratio,
        "jitter_ms": _jitter(delays, end_s, load),
    }
    rows = []
    for metric, truth in truths.items():
        if metric in sample:
            loss = metric == "packet_loss_ratio"
            low, high = (sample["loss_low"], sample["loss_high"]) if loss else (math.nan, math.nan)
            source = str(sample[f"{metric}_source"])
            rows.append(Row(path, load, metric, source, sample[metric], truth, low, high))
    if "transport_loss_ratio" in sample:
        low, high = sample["transport_loss_low"], sample["transport_loss_high"]
        lost_ratio = sample["transport_loss_ratio"]
        rows.append(Row(path, load, TRANSPORT_LOSS, "tcp", lost_ratio, lost / max(packets, 1), low, high))
    return rows


def _jitter(delays: np.ndarray, end_s: float, load: str) -> float:
    """Mean difference between the delays of packets as far apart as the agent's probes are under this load."""
    apart_s = 0.1 if load in {"idle", "others"} else 1.0
    times, values = delays[:, 0], delays[:, 1]
    chosen = (times > end_s - INTERVAL_S) & (times <= end_s)
    if load == "idle":
        chosen &= delays[:, 2] == PROBE_BYTES  # the agent's trains fill the queue, and it sends no probes meanwhile
    times, values = times[chosen], values[chosen]
    # probes come half to one and a half times as far apart as on average
    spread = np.random.default_rng(1).uniform(0.5, 1.5, len(times)) * apart_s
    later = np.searchsorted(times, times + spread)
    there = later < len(times)
    return float(np.mean(np.abs(values[later[there]] - values[there])))


def table(rows: list[Row]) -> str:
    """Errors by load and metric, as Markdown."""
    lines = [
        "| load | metric | samples | how obtained | median error | 90 % of errors | within bounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for load in LOADS:
        for metric in ("latency_ms", "bandwidth_mbps", "packet_loss_ratio", TRANSPORT_LOSS, "jitter_ms"):
            chosen = [row for row in rows if (row.load, row.metric) == (load, metric)]
            if not chosen:
                lines.append(f"| {load} | {metric} | 0 | absent | | | |")
                continue
            sources = ", ".join(sorted({row.source for row in chosen}))
            cells = [load, metric, str(len(chosen)), sources]
            if metric in {"packet_loss_ratio", TRANSPORT_LOSS}:
                inside = np.mean([row.low <= row.truth <= row.high for row in chosen])
                off = [abs(row.measured - row.truth) * 100 for row in chosen]
                cells += [f"{np.median(off):.3f} points", f"{np.quantile(off, 0.9):.3f} points", f"{inside:.0%}"]
            else:
                off = [abs(row.measured / row.truth - 1) for row in chosen]
                cells += [f"{np.median(off):.1%}", f"{np.quantile(off, 0.9):.1%}", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


__all__ = ["HEADER", "Row", "run", "stop", "table"]
