"""Offers calls at a rate, whether or not they are answered; runs in the load generator."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

from benchmarks.harness.http2 import Call
from benchmarks.harness.load import connections, percentiles

_DRAIN_S = 60.0
_REFUSED = "8"  # RESOURCE_EXHAUSTED, by the service
_TURNED_AWAY = "1"  # CANCELLED, by gRPC's core: more wait than the service takes
_BURST_S = 0.002


class Tally:
    """What became of calls: how long those took that were answered, refused and turned away, and how others failed."""

    def __init__(self, total: int, warm: int) -> None:
        """Waits for `total` calls, of which the first `warm` are not counted."""
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.turned_away: list[float] = []
        self.faults: list[str] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left, self._warm = total, warm

    def ended(self, i: int, took_s: float, fault: str | None) -> None:
        """Call `i` ended."""
        self._left -= 1
        if not self._left:
            self.done.set_result(None)
        if i < self._warm:
            return
        if fault is None:
            self.answered.append(took_s)
        elif fault[1:2] == _REFUSED:
            self.refused.append(took_s)
        elif fault[1:2] == _TURNED_AWAY:
            self.turned_away.append(took_s)
        else:
            self.faults.append(fault)


async def offer(
    *, target: str, path: str, bodies: list[str], rate: float, seconds: float, conns: int = 8, warm_s: float = 1.0
) -> dict[str, Any]:
    """Calls at a rate; each is timed from when it was sent. What begins in the first `warm_s` is not counted.

    Returns:
        Per second `offered`, `answered`, `refused` and `turned_away`, and of each of the last three `_p50_ms` and
        `_p99_ms`; `failed` otherwise, with an example.
    """
    opened = await connections(target, conns)
    data = [base64.b64decode(body) for body in bodies]
    total, warm = int(rate * (seconds + warm_s)), int(rate * warm_s)
    tally = Tally(total, warm)

    def start(i: int) -> None:
        began_s = time.perf_counter()
        call = Call(_ignore, lambda fault: tally.ended(i, time.perf_counter() - began_s, fault))
        opened[i % conns].start(path, data[i % len(data)], call)

    first_s = 0.0
    begun = time.perf_counter() + 0.05
    for i in range(total):
        wait_s = begun + i / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(max(wait_s, _BURST_S))
        elif i % 16 == 0:
            await asyncio.sleep(0)  # answers must be read as well
        if i == warm:
            first_s = time.perf_counter()
        start(i)
    lasted_s = time.perf_counter() - first_s
    await asyncio.wait_for(tally.done, _DRAIN_S)
    for connection in opened:
        connection.close()
    kinds = {"answered": tally.answered, "refused": tally.refused, "turned_away": tally.turned_away}
    return {
        "offered": (total - warm) / lasted_s,
        **{kind: len(took_s) / lasted_s for kind, took_s in kinds.items()},
        **{f"{kind}_{name}": value for kind, took_s in kinds.items() for name, value in percentiles(took_s).items()},
        "failed": len(tally.faults),
        "fault": tally.faults[:1],
    }


def _ignore(_: bytes) -> None:
    pass
