"""Emulated paths between two network namespaces, with what the emulator knows of them. Root is needed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = File(__file__).parents[2]
NEAR, FAR = "10.9.0.1", "10.9.0.2"


@dataclass(frozen=True, slots=True)
class Path:
    """A path: rate, round trip, loss and jitter on the way there, and the bottleneck's queue."""

    rate_mbps: float
    rtt_ms: float
    loss_ratio: float = 0.0
    jitter_ms: float = 0.0
    queue_share: float = 1.0

    @property
    def queue_bytes(self) -> int:
        """The bottleneck's queue: a share of the bandwidth-delay product, at least 45 kB."""
        return round(max(self.queue_share * self.rate_mbps * 125 * self.rtt_ms, 45_000))


@dataclass(slots=True)
class Emulated:
    """A running path.

    Attributes:
        near: The namespace of the sender.
        far: The namespace of the receiver.
        began_s: When it began, by the wall clock.
        folder: Where its statistics go.
    """

    near: str
    far: str
    began_s: float
    folder: File

    def windows(self) -> list[dict[str, float]]:
        """Statistics of the way there, second by second."""
        lines = (self.folder / "stats").read_text().splitlines()
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, KeyError):
                one = json.loads(line)
                found.append({"t": one["t"], **one["fwd"]})
        return found

    def delays(self) -> np.ndarray:
        """float64[n, 3]: seconds, delay in ms and bytes of packets on the way there, at most one in 10 ms."""
        return np.loadtxt(self.folder / "delays", ndmin=2)


def inside(space: str, *command: str) -> list[str]:
    """A command that runs in a namespace."""
    return ["ip", "netns", "exec", space, *command]


def python(space: str, *arguments: str) -> list[str]:
    """Python that runs in a namespace, with this tree's packages."""
    return inside(space, "env", f"PYTHONPATH={ROOT}:{ROOT / 'protos'}", sys.executable, *arguments)


@contextmanager
def emulated(programs: File, path: Path, tag: str, *, seed: int = 1, trace: str = "") -> Iterator[Emulated]:
    """A running path; its namespaces end with it.

    Args:
        programs: The folder of the compiled emulator.
        path: The path.
        tag: Names its namespaces; one at a time may use it.
        seed: Of losses and jitter.
        trace: A file of changes, as the emulator reads it; empty: none.
    """
    spaces = (f"agent{tag}a", f"agent{tag}b")
    with tempfile.TemporaryDirectory(prefix="agent-bench-") as name, contextlib.ExitStack() as stack:
        folder = File(name)
        for space in spaces:
            _quiet("ip", "netns", "del", space)
            _run("ip", "netns", "add", space)
            stack.callback(_quiet, "ip", "netns", "del", space)
            _run("ip", "-n", space, "link", "set", "lo", "up")
            _run("ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        arguments: dict[str, object] = {
            "ns-a": spaces[0],
            "ns-b": spaces[1],
            "rate": path.rate_mbps,
            "delay": path.rtt_ms / 2,
            "rev-delay": path.rtt_ms / 2,
            "loss": f"{path.loss_ratio:.9f}",
            "jitter": path.jitter_ms,
            "queue": path.queue_bytes,
            "rt": 10,
            "seed": seed,
            "slots": 65_536,
            "interval": 1000,
            "stats": folder / "stats",
            "delays": folder / "delays",
            **({"trace": trace} if trace else {}),
        }
        command = [str(programs / "linkemu"), *(part for k, v in arguments.items() for part in (f"--{k}", str(v)))]
        emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            if emulator.stdout is None or emulator.stdout.readline().strip() != "ready":
                raise RuntimeError("the emulator did not start: is this root, and is there a /dev/net/tun?")
            began_s = time.time()
            for space, address in zip(spaces, (NEAR, FAR), strict=True):
                _run("ip", "-n", space, "addr", "add", f"{address}/30", "dev", "emu0")
                _run("ip", "-n", space, "link", "set", "emu0", "up", "txqueuelen", "20000")
            yield Emulated(*spaces, began_s, folder)
        finally:
            emulator.terminate()
            emulator.wait()


def stop(process: subprocess.Popen[str]) -> str:
    """Ends a process and returns what it printed."""
    process.terminate()
    try:
        said, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    return said or ""


def priority() -> list[str]:
    """What puts a process before others on a shared machine, as the emulator is."""
    return ["chrt", "-f", "5"] if os.geteuid() == 0 else []


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _quiet(*command: str) -> None:
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
