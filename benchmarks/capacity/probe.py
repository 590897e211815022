"""What processes and their server have used so far, and what keys take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.harness.service import cpu_s

if TYPE_CHECKING:
    from tests.process import ServiceProcess
    from tests.servers import RunningServer


@dataclass(frozen=True, slots=True)
class Use:
    """What was used, so far or between two looks.

    Attributes:
        process_s: Processor time of each replica.
        store_s: Processor time of the server.
        in_bytes: What the server received.
        out_bytes: What it sent.
        disk_bytes: What it appended to its log on disk.
    """

    process_s: tuple[float, ...]
    store_s: float
    in_bytes: int
    out_bytes: int
    disk_bytes: int

    def __sub__(self, before: Use) -> Use:
        """What was used since then."""
        return Use(
            tuple(now - then for now, then in zip(self.process_s, before.process_s, strict=True)),
            self.store_s - before.store_s,
            self.in_bytes - before.in_bytes,
            self.out_bytes - before.out_bytes,
            self.disk_bytes - before.disk_bytes,
        )


def look(redis: RunningServer, *replicas: ServiceProcess) -> Use:
    """What was used so far."""
    info: dict[str, Any] = redis.client.info("everything")
    return Use(
        tuple(cpu_s(one.process.pid) for one in replicas),
        cpu_s(redis.process.pid),
        info["total_net_input_bytes"],
        info["total_net_output_bytes"],
        info.get("aof_current_size", 0),
    )


def keys_bytes(redis: RunningServer, link_id: str, kind: str) -> int:
    """Memory of a link's keys of a kind, such as `h` or `l`; all of the link's where it is empty."""
    found = redis.client.scan_iter(match=f"pba:{{{link_id}}}:{kind}*", count=100_000)
    return sum(int(redis.client.memory_usage(key, samples=0)) for key in found)


def ledger_rows(redis: RunningServer, link_id: str, row_bytes: int) -> int:
    """Rows of a link's ledger."""
    found = redis.client.scan_iter(match=f"pba:{{{link_id}}}:l:*", count=100_000)
    return sum(int(redis.client.strlen(key)) for key in found) // row_bytes
