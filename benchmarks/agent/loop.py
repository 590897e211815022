"""The closed loop in real time: an agent measures a path like a recorded link, PBA predicts, a transfer follows.

Beside it, in the same run and over equal paths, the same transfer with fixed numbers of streams. One sample of the
recorded link is a minute of the path. The service is given the samples before, as its history.

Recorded links: emurphy (MIT) and wizardtim (CC BY 4.0), from the folder that TRACES_DIR names.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from benchmarks.agent.paths import FAR, Path, emulated, priority, python, stop
from benchmarks.amst import lab
from pba_client import Client, Sample
from tests.process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAYS = ("agent", "fixed 4", "fixed 16")
BEFORE = 240
"""Samples that the service knows beforehand."""

MINUTE_S = 60.0
PORT = 5000
MSS_SHARE = 1448 / 1500

_AGENT = """
node: {node}
interval: 60s
poll: 1s
state_dir: {folder}/state
key_file: {folder}/key
service:
  target: unix:{folder}/service.sock
links:
  - link: {node}
    address: {far}
    ports: [{port}]
    congestion_control: cubic
respond:
  host: {far}
"""


@dataclass(frozen=True, slots=True)
class Episode:
    """A recorded link, what it is scaled by, and the rest of its path."""

    link: str
    scale: float
    rtt_ms: float
    loss_ratio: float


EPISODES = (
    Episode("desktop-cable", 1.0, 80.0, 0.003),
    Episode("telstra-brisbane/down", 0.4, 30.0, 0.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a transfer came to.

    Attributes:
        episode: The path.
        way: How its parameters were set.
        goodput_mbps: Over all minutes.
        share: Goodput over what the path could have carried of payload.
        retransmitted_ratio: Segments sent again.
        queue_ms: Mean wait of a packet in the bottleneck's queue.
        late_ratio: Packets that the emulator delivered more than 1 ms late; above 2 % a run says little.
        changes: How often the parameters changed.
        minutes_mbps: Goodput minute by minute.
        rates_mbps: The path's rate minute by minute.
    """

    episode: Episode
    way: str
    goodput_mbps: float
    share: float
    retransmitted_ratio: float
    queue_ms: float
    late_ratio: float
    changes: int
    minutes_mbps: np.ndarray
    rates_mbps: np.ndarray


def recorded(episode: Episode, minutes: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The link's values before and during the episode, from its last fifth, where it changes at least twofold."""
    table = pq.read_table(File(os.environ["TRACES_DIR"]) / "dev.parquet")
    names = np.array(table["link_id"].to_pylist())
    mine = (names == episode.link) & np.isfinite(table["bandwidth_mbps"].to_numpy())
    order = np.argsort(table["timestamp"].to_numpy()[mine])
    values = np.clip(table["bandwidth_mbps"].to_numpy()[mine][order] * episode.scale, 0.5, 60)
    first = max(int(len(values) * 0.8), BEFORE)
    starts = np.random.default_rng(seed).permutation(np.arange(first, len(values) - minutes - 1))
    for start in starts:
        part = values[start : start + minutes + 1]
        if np.quantile(part, 0.9) >= 2 * np.quantile(part, 0.1):
            return values[start - BEFORE : start], part
    raise ValueError(f"{episode.link} does not change enough")


@contextlib.contextmanager
def relay(path: File, port: int, pushed: list[int] | None = None) -> Iterator[None]:
    """Lets processes in other network namespaces reach a port of ours, over a unix socket.

    Args:
        path: The socket.
        port: The port.
        pushed: Its first number is raised by the bytes that go there.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def pump(source: socket.socket, sink: socket.socket, count: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
                count[0] += len(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far, pushed or [0]), (far, near, [0])):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def run(minutes: int, tell: Callable[[str], None], episodes: tuple[Episode, ...] = EPISODES) -> list[Outcome]:
    """Runs all episodes in all ways at once."""
    programs = lab.build()
    with tempfile.TemporaryDirectory(prefix="pba-loop-") as name, ServiceProcess(File(name) / "service") as service:
        jobs = [(one, way, f"{i}{j}") for i, one in enumerate(episodes) for j, way in enumerate(WAYS)]
        traces = {one.link: recorded(one, minutes) for one in episodes}
        with service.client() as client:
            for one in episodes:
                _teach(client, one, f"loop{one.link}", traces[one.link][0])
        found: list[Outcome] = []
        threads = [
            threading.Thread(
                target=lambda one=one, way=way, tag=tag: found.append(
                    _one(
                        programs,
                        File(name) / tag,
                        port=service.grpc_port,
                        episode=one,
                        way=way,
                        tag=tag,
                        rates=traces[one.link][1],
                        tell=tell,
                    )
                )
            )
            for one, way, tag in jobs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        service.stop()
    return sorted(found, key=lambda one: (one.episode.link, WAYS.index(one.way)))


def _teach(client: Client, episode: Episode, link: str, before: np.ndarray) -> None:
    """Pushes what the link was before, a sample a minute up to now."""
    now, chance = datetime.now(UTC), np.random.default_rng(1)
    client.push(
        Sample(
            link,
            now - timedelta(minutes=len(before) - i),
            bandwidth_mbps=float(mbps),
            latency_ms=episode.rtt_ms * float(chance.uniform(1.0, 1.05)),
            packet_loss_ratio=episode.loss_ratio,
        )
        for i, mbps in enumerate(before)
    )


def _one(
    programs: File,
    folder: File,
    *,
    port: int,
    episode: Episode,
    way: str,
    tag: str,
    rates: np.ndarray,
    tell: Callable[[str], None],
) -> Outcome:
    """Runs one transfer over one path."""
    folder.mkdir(parents=True)
    (folder / "key").write_text("the key of a laboratory")
    trace = folder / "trace"
    trace.write_text("".join(f"{minute * MINUTE_S:.0f} {mbps:.3f}\n" for minute, mbps in enumerate(rates)))
    config = folder / "agent.yaml"
    config.write_text(_AGENT.format(node=f"loop{episode.link}", folder=folder, far=FAR, port=PORT))
    path = Path(float(rates[0]), episode.rtt_ms, episode.loss_ratio, 0.0, 1.0)
    queue = Path(float(np.median(rates)), episode.rtt_ms).queue_bytes / max(path.rate_mbps * 125 * path.rtt_ms, 1)
    path = Path(path.rate_mbps, path.rtt_ms, path.loss_ratio, 0.0, queue)
    seconds = (len(rates) - 1) * MINUTE_S
    what = str(config) if way == "agent" else way.split()[1]
    with (
        relay(folder / "service.sock", port),
        emulated(programs, path, tag, trace=str(trace)) as link,
        (folder / "received").open("w") as received,
        (folder / "sender.log").open("w") as log,
    ):
        module = "benchmarks.agent.transfer"
        far = subprocess.Popen(
            [*priority(), *python(link.far, "-m", module, "receive", FAR, str(PORT))], stdout=received, text=True
        )
        answering = subprocess.Popen(
            [*priority(), *python(link.far, "-m", "pba_client.agent", "respond", "--config", str(config))], text=True
        )
        time.sleep(1.0)
        sender = subprocess.Popen(
            [*priority(), *python(link.near, "-m", module, way.split(maxsplit=1)[0], what, FAR, str(PORT))],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        time.sleep(max(link.began_s + seconds - time.time(), 0))
        counts = json.loads(stop(sender).splitlines()[-1])
        stop(far)
        stop(answering)
        time.sleep(1.1)
        windows = [one for one in link.windows() if one["t"] <= seconds]
    lines = [json.loads(line) for line in (folder / "received").read_text().splitlines()]
    at = np.array([one["at"] for one in lines]) - link.began_s
    total = np.array([one["bytes"] for one in lines])
    edges = np.interp(np.arange(len(rates)) * MINUTE_S, at, total)
    goodput = np.diff(edges) * 8e-6 / MINUTE_S
    served = sum(one["out_pkts"] + one["drop_loss"] for one in windows)
    queue_ms = sum(one["sojourn_mean_ms"] * (one["out_pkts"] + one["drop_loss"]) for one in windows) / max(served, 1)
    tell(f"{episode.link} {way}: {goodput.mean():.2f} Mbit/s; changes {counts['changes']}")
    return Outcome(
        episode,
        way,
        float(goodput.mean()),
        float(goodput.mean() / (rates[:-1].mean() * MSS_SHARE)),
        counts["again"] / max(counts["segments"], 1),
        queue_ms,
        sum(one["late_over_1ms"] for one in windows) / max(sum(one["out_pkts"] for one in windows), 1),
        len(counts["changes"]),
        goodput,
        rates[:-1],
    )


def table(outcomes: list[Outcome]) -> str:
    """The outcomes, as Markdown."""
    lines = [
        "| link | rtt, loss | way | goodput Mbit/s | of the path | retransmitted | queue ms | changes | late |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        where = f"{one.episode.rtt_ms:g} ms, {one.episode.loss_ratio:.1%}"
        lines.append(
            f"| {one.episode.link} | {where} | {one.way} | {one.goodput_mbps:.2f} | {one.share:.1%} | "
            f"{one.retransmitted_ratio:.2%} | {one.queue_ms:.1f} | {one.changes} | {one.late_ratio:.1%} |"
        )
    return "\n".join(lines)


def picture(outcomes: list[Outcome], target: File) -> None:
    """Goodput over time beside the path's rate."""
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is drawn

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - likewise

    links = list(dict.fromkeys(one.episode.link for one in outcomes))
    figure, axes = plt.subplots(len(links), 1, figsize=(9, 3.4 * len(links)), squeeze=False)
    for axis, link in zip(axes[:, 0], links, strict=True):
        mine = [one for one in outcomes if one.episode.link == link]
        minutes = np.arange(len(mine[0].rates_mbps))
        axis.step(minutes, mine[0].rates_mbps, where="post", color="0.8", linewidth=6, label="the path's rate")
        for one in mine:
            strong = one.way == "agent"
            axis.step(
                minutes,
                one.minutes_mbps,
                where="post",
                linewidth=2.2 if strong else 1.0,
                label=f"{one.way}: {one.goodput_mbps:.1f} Mbit/s, queue {one.queue_ms:.0f} ms",
            )
        axis.set_title(f"{link}, {mine[0].episode.rtt_ms:g} ms, {mine[0].episode.loss_ratio:.1%} loss", fontsize=10)
        axis.set_xlabel("minutes")
        axis.set_ylabel("Mbit/s")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
