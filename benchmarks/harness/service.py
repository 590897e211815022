"""The processes that are measured: the service as it is shipped, its control, and what they take of the machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.generator import ROOT
from tests.process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_LOOK_S, _IDLE_SHARE = 0.3, 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@contextlib.contextmanager
def service(environment: dict[str, str] | None = None, *, redis_url: str = "") -> Iterator[ServiceProcess]:
    """The service on its embedded server, every write synced, with only warnings logged."""
    with tempfile.TemporaryDirectory(prefix="pba-bench-") as folder:
        settings = {
            "PBA_LOG_LEVEL": "warning",
            "PBA_MAX_LINKS": "10000000",
            "PBA_STORE_TIMEOUT": "10s",
            **(environment or {}),
        }
        with ServiceProcess(folder, redis_url=redis_url, environment=settings) as process:
            try:
                yield process
            finally:
                said = process.log.read_text(errors="replace")
                if said.strip():
                    print(f"the service said:\n{said[-3000:]}", file=sys.stderr)


@contextlib.contextmanager
def echo(answer_bytes: int, model: Path | None = None) -> Iterator[str]:
    """The bare server, with or without a model; its host:port."""
    with _control("benchmarks.harness.echo", str(answer_bytes), *([str(model)] if model else [])) as target:
        yield target


@contextlib.contextmanager
def fanout(message_bytes: int) -> Iterator[str]:
    """The bare server of streams; its host:port."""
    with _control("benchmarks.harness.fanout", str(message_bytes)) as target:
        yield target


@contextlib.contextmanager
def _control(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", module, *arguments]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        try:
            assert process.stdout  # noqa: S101 - a pipe
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, without that of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def settle(pid: int) -> None:
    """Returns once a process has nothing left to do."""
    before, now = -1.0, cpu_s(pid)
    while now - before > _IDLE_SHARE * _LOOK_S:
        time.sleep(_LOOK_S)
        before, now = now, cpu_s(pid)


def rss_bytes(pid: int) -> int:
    """Memory of a process that is in use now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def now_ms() -> int:
    """The system's time, at a full minute."""
    return time.time_ns() // 60_000_000_000 * 60_000
