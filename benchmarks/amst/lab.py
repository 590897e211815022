"""Runs one transfer over one emulated path between two network namespaces. Needs root, /dev/net/tun, ip, gcc, chrt."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amst.rules import Path, Setting

SOURCES = File(__file__).parent / "emulator"
MOST_LATE_RATIO = 0.02
"""Packets delivered more than 1 ms late by a busy machine: above this a run says nothing of the path."""

BURST_LEAVE = 0.1
BURST_LOSS = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """What one transfer did.

    Attributes:
        goodput_mbps: Payload at the receiver, after the start.
        retransmitted_ratio: Of the segments sent.
        queue_ms: Mean time in the bottleneck's queue.
        elapsed_s: From the first connection to the last byte.
        late_ratio: Packets that the emulator delivered more than 1 ms late.
        valid: Whether the machine kept up.
    """

    goodput_mbps: float
    retransmitted_ratio: float
    queue_ms: float
    elapsed_s: float
    late_ratio: float
    valid: bool


def build() -> File:
    """Compiles emulator and sender; returns the folder of the programs."""
    folder = File(tempfile.mkdtemp(prefix="amst-bench-"))
    for name, library in (("linkemu", "-lm"), ("stripe", "")):
        command = ["gcc", "-O2", "-pthread", "-o", str(folder / name), str(SOURCES / f"{name}.c")]
        subprocess.run([*command, library] if library else command, check=True)
    return folder


def transfer(
    programs: File,
    path: Path,
    setting: Setting,
    *,
    tag: str,
    seed: int = 1,
    total_bytes: int = 0,
    trace: str | None = None,
    schedule: str = "",
    seconds: float | None = None,
    queue_bytes: int | None = None,
) -> Run:
    """Runs one transfer.

    Args:
        programs: From `build`.
        path: The path.
        setting: What the sender is set to.
        tag: Names the namespaces; one run at a time may use it.
        seed: Of the path's losses.
        total_bytes: A transfer of this size; 0: one that lasts `seconds`.
        trace: A file of changes of the path, as the emulator reads it.
        schedule: Changes of the sender's setting, as the sender reads it.
        queue_bytes: Of the bottleneck; None: the path's own.
        seconds: How long; None: as long as the round trip needs to settle, and as long again to measure.
    """
    omit = 0.0 if total_bytes or trace else 1.5 + 12 * path.rtt_ms / 1e3
    duration = seconds or omit + 4 + 12 * path.rtt_ms / 1e3
    with _emulated(programs, path, tag=tag, seed=seed, trace=trace, queue_bytes=queue_bytes or path.queue_bytes) as (
        spaces,
        stats_file,
    ):
        sender = [str(programs / "stripe"), "--ns-a", spaces[0], "--ns-b", spaces[1], "--cc", path.congestion_control]
        options = {
            "streams": setting.streams,
            "sndbuf": setting.buffer_bytes,
            "rcvbuf": setting.buffer_bytes,
            "pace": setting.pacing_mbps or 0,
            "lowat": setting.not_sent_bytes,
            "duration": duration,
            "omit": omit,
            "bytes": total_bytes,
        }
        arguments = [part for name, value in options.items() if value for part in (f"--{name}", str(value))]
        if schedule:
            arguments += ["--schedule", schedule]
        done = subprocess.run(
            ["chrt", "-f", "5", *sender, *arguments], capture_output=True, text=True, timeout=300, check=False
        )
    stats = json.loads(stats_file.read_text().splitlines()[-1])["fwd"]
    stats_file.unlink()
    if done.returncode:
        return Run(0.0, 0.0, 0.0, 0.0, 1.0, valid=False)
    sent = json.loads(done.stdout)
    late = stats["late_over_1ms"] / max(stats["out_pkts"], 1)
    return Run(
        sent["goodput_mbps"],
        sent["retrans"] / max(sent["segs"], 1),
        stats["sojourn_mean_ms"],
        sent["elapsed_s"],
        late,
        valid=late <= MOST_LATE_RATIO and not stats.get("drop_ring"),
    )


@contextmanager
def _emulated(
    programs: File, path: Path, *, tag: str, seed: int, trace: str | None, queue_bytes: int
) -> Iterator[tuple[tuple[str, str], File]]:
    """A running emulator; yields its namespaces and the file that its statistics will be in once it has ended."""
    spaces = (f"amst{tag}a", f"amst{tag}b")
    handle, stats = tempfile.mkstemp(prefix="amst-stats-")
    os.close(handle)
    for space in spaces:
        if not File(f"/var/run/netns/{space}").exists():
            _sh("ip", "netns", "add", space)
            _sh("ip", "-n", space, "link", "set", "lo", "up")
        _sh("ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
    arguments = {
        "ns-a": spaces[0],
        "ns-b": spaces[1],
        "rate": path.rate_mbps,
        "delay": path.rtt_ms / 2,
        "rev-delay": path.rtt_ms / 2,
        "queue": queue_bytes,
        "rt": 10,
        "seed": seed,
        "slots": 65536,
        "stats": stats,
    }
    command = [str(programs / "linkemu"), *(part for name, v in arguments.items() for part in (f"--{name}", str(v)))]
    if path.bursty:  # Gilbert-Elliott: bad spells of 10 packets on average, half of them lost, the same mean loss
        enter = BURST_LEAVE * path.loss_ratio / max(BURST_LOSS - path.loss_ratio, 1e-9)
        command += ["--ge", f"{enter:.9f},{BURST_LEAVE},{BURST_LOSS}"]
    else:
        command += ["--loss", f"{path.loss_ratio:.9f}"]
    if trace:
        command += ["--trace", trace]
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if emulator.stdout is None or emulator.stdout.readline().strip() != "ready":
            raise RuntimeError("the emulator did not start: is this root, and is there a /dev/net/tun?")
        for space, address in zip(spaces, ("10.9.0.1/30", "10.9.0.2/30"), strict=True):
            _sh("ip", "-n", space, "addr", "add", address, "dev", "emu0")
            _sh("ip", "-n", space, "link", "set", "emu0", "up", "txqueuelen", "20000")
        yield spaces, File(stats)
    finally:
        emulator.terminate()
        emulator.wait()


def clean(tag: str) -> None:
    """Removes the namespaces of a tag."""
    for side in "ab":
        subprocess.run(["ip", "netns", "del", f"amst{tag}{side}"], stderr=subprocess.DEVNULL, check=False)


def _sh(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
