"""What the agent costs: a process of its own, on a path, with a running service; by number of links and load."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

from benchmarks.agent.loop import relay
from benchmarks.agent.paths import FAR, Emulated, Path, emulated, inside, python
from benchmarks.amst import lab
from tests.process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 120
WARM_UP_S = 45
TRANSPORT_PORT = 5000
_TICKS = os.sysconf("SC_CLK_TCK")

_AGENT = """
node: cost
state_dir: {folder}/state
key_file: {folder}/key
service:
  target: unix:{folder}/service.sock
links:
{links}
respond:
  host: {far}
  packets_per_s: 10000
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an agent cost.

    Attributes:
        links: How many it measured.
        load: idle, or busy with the transport's traffic.
        core_ratio: Of one core.
        rss_mib: Resident memory, and without pages of files that others share.
        anonymous_mib: Of this, memory of its own.
        sent_mb_per_link_hour: What it sent on the path for each link, headers counted.
        received_mb_per_link_hour: What came back.
        service_kb_per_link_hour: What it sent to the service.
    """

    links: int
    load: str
    core_ratio: float
    rss_mib: float
    anonymous_mib: float
    sent_mb_per_link_hour: float
    received_mb_per_link_hour: float
    service_kb_per_link_hour: float


def run(tell: Callable[[str], None]) -> list[Cost]:
    """Measures agents of one and of eight links, idle, and one whose link is busy."""
    programs = lab.build()
    found = []
    for links, load in ((1, "idle"), (8, "idle"), (1, "busy")):
        found.append(_measure(programs, links, load))
        tell(str(found[-1]))
    return found


def _measure(programs: File, links: int, load: str) -> Cost:
    with (
        tempfile.TemporaryDirectory(prefix="pba-cost-") as name,
        ServiceProcess(File(name) / "service") as service,
        emulated(programs, Path(50, 20, 0.001, 0.2), "cost") as link,
    ):
        folder = File(name)
        (folder / "key").write_text("the key of a laboratory")
        entries = "".join(f"  - {{link: cost-{i}, address: {FAR}, ports: [{TRANSPORT_PORT}]}}\n" for i in range(links))
        config = folder / "agent.yaml"
        config.write_text(_AGENT.format(folder=folder, links=entries, far=FAR))
        common = ["--config", str(config), "--log-level", "warning"]
        pushed: list[int] = [0]
        with relay(folder / "service.sock", service.grpc_port, pushed):
            responder = subprocess.Popen(python(link.far, "-m", "pba_client.agent", "respond", *common))
            config_near = folder / "near.yaml"
            config_near.write_text(config.read_text().split("respond:")[0])
            common[1] = str(config_near)
            agent = subprocess.Popen(python(link.near, "-m", "pba_client.agent", "run", *common))
            traffic = _transport(programs, link) if load == "busy" else None
            time.sleep(WARM_UP_S)
            before, carried, told = _processor_s(agent.pid), _carried(link), pushed[0]
            time.sleep(SECONDS)
            used_s = _processor_s(agent.pid) - before
            sent, received = (now - then for now, then in zip(_carried(link), carried, strict=True))
            pushed_bytes = pushed[0] - told
            rss, anonymous = _memory_mib(agent.pid)
            for one in (traffic, agent, responder):
                if one is not None:
                    one.terminate()
                    one.wait()
    per_hour = 3600 / SECONDS / links
    busy = load == "busy"
    return Cost(
        links,
        load,
        used_s / SECONDS,
        rss,
        anonymous,
        # the path of a busy link carries the transport's traffic, of which the agent's is no measurable part
        float("nan") if busy else sent * per_hour / 1e6,
        float("nan") if busy else received * per_hour / 1e6,
        pushed_bytes * per_hour / 1e3,
    )


def _transport(programs: File, link: Emulated) -> subprocess.Popen[bytes]:
    command = [str(programs / "stripe"), "--ns-a", link.near, "--ns-b", link.far, "--cc", "cubic", "--streams", "4"]
    command += ["--duration", str(SECONDS + WARM_UP_S + 60), "--port", str(TRANSPORT_PORT)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _processor_s(pid: int) -> float:
    fields = File(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mib(pid: int) -> tuple[float, float]:
    lines = dict(line.split(":", 1) for line in File(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))  # type: ignore[return-value] # two


def _carried(link: Emulated) -> tuple[int, int]:
    done = subprocess.run(inside(link.near, "cat", "/proc/net/dev"), capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "emu0":
            numbers = rest.split()
            return int(numbers[8]), int(numbers[0])
    raise LookupError("emu0 is gone")


def table(costs: list[Cost]) -> str:
    """The costs, as Markdown."""
    lines = [
        "| links | load | of a core | resident MiB | its own MiB | sent MB/link/h | back MB/link/h | PBA kB/link/h |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.links} | {one.load} | {one.core_ratio:.2%} | {one.rss_mib:.1f} | {one.anonymous_mib:.1f} | "
        f"{_cell(one.sent_mb_per_link_hour)} | {_cell(one.received_mb_per_link_hour)} | "
        f"{one.service_kb_per_link_hour:.1f} |"
        for one in costs
    ]
    return "\n".join(lines)


def _cell(value: float) -> str:
    """Blank where it was not measured."""
    return "" if math.isnan(value) else f"{value:.2f}"
