"""Processes held to a part of a core each, as Kubernetes holds containers to their limits.

What a second process is worth can only be seen where there is a core for it. On a machine whose cores one process, its
server and the load generator fill, a limit that leaves room for two shows it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PERIOD_US = 5_000
"""How often a process that has used up its part goes on: often, beside the tenth of a second of Kubernetes."""

_ROOT = Path("/sys/fs/cgroup")
_V1, _V2 = _ROOT / "cpu", _ROOT


@contextlib.contextmanager
def held(pids: Sequence[int], cores: float) -> Iterator[None]:
    """Holds each of some processes, with all of its threads, to so many cores of its own, until the end.

    Raises:
        OSError: This machine has no control groups for processors, or they are not ours to make.
    """
    quota_us = round(cores * PERIOD_US)
    with contextlib.ExitStack() as stack:
        for pid in pids:
            group = stack.enter_context(_group(f"pba-bench-{os.getpid()}-{pid}"))
            if (group / "cpu.max").exists():
                (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            (group / "cgroup.procs").write_text(str(pid))
        yield


@contextlib.contextmanager
def _group(name: str) -> Iterator[Path]:
    """A control group whose processes go back to where they were."""
    parent = _V1 if (_V1 / "cgroup.procs").exists() else _V2
    group = parent / name
    group.mkdir()
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        group.rmdir()
