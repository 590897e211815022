"""What the load generator does with unary calls: closed and open loops."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import numpy as np

from benchmarks.harness.http2 import Call, Connection

_DRAIN_S = 30.0


async def connections(target: str, count: int) -> list[Connection]:
    """So many connections to host:port."""
    host, port = target.rsplit(":", 1)
    return [await Connection.open(host, int(port)) for _ in range(count)]


async def closed(
    *, target: str, path: str, bodies: list[str], callers: int, seconds: float, conns: int = 8, warm_s: float = 0.3
) -> dict[str, Any]:
    """Callers that ask again as soon as they are answered.

    Args:
        target: host:port.
        path: The method.
        bodies: Requests in base64, taken in turn.
        callers: How many ask at a time.
        seconds: How long is counted.
        conns: Over how many connections at most.
        warm_s: How long they ask before that.

    Returns:
        `rate` per second, `p50_ms`, `p99_ms`, `failed`.
    """
    loop_end = asyncio.get_running_loop().create_future()
    opened = await connections(target, min(conns, callers))
    data = [base64.b64decode(body) for body in bodies]
    begun = time.perf_counter() + warm_s
    end = begun + seconds
    took: list[float] = []
    faults: list[str] = []
    state = {"turn": 0, "left": callers}

    def ask(connection: Connection) -> None:
        started = time.perf_counter()
        if started >= end:
            state["left"] -= 1
            if not state["left"]:
                loop_end.set_result(None)
            return
        state["turn"] += 1

        def ended(fault: str | None) -> None:
            now = time.perf_counter()
            if fault:
                faults.append(fault)
            elif begun <= now < end:
                took.append(now - started)
            ask(connection)

        connection.start(path, data[state["turn"] % len(data)], Call(_ignore, ended))

    for caller in range(callers):
        ask(opened[caller % len(opened)])
    await asyncio.wait_for(loop_end, warm_s + seconds + _DRAIN_S)
    for connection in opened:
        connection.close()
    return {"rate": len(took) / seconds, **percentiles(took), "failed": len(faults), "fault": faults[:1]}


async def once(*, target: str, path: str, bodies: list[str], callers: int, conns: int = 8) -> dict[str, Any]:
    """Each request once, so many at a time.

    Returns:
        `rate` per second, `p50_ms`, `p99_ms`, `failed`.
    """
    opened = await connections(target, min(conns, callers))
    left = [base64.b64decode(body) for body in reversed(bodies)]
    took: list[float] = []
    faults: list[str] = []
    done = asyncio.get_running_loop().create_future()
    begun = time.perf_counter()

    def ask(connection: Connection) -> None:
        if not left:
            return
        started = time.perf_counter()

        def ended(fault: str | None) -> None:
            if fault:
                faults.append(fault)
            else:
                took.append(time.perf_counter() - started)
            if len(took) + len(faults) == len(bodies):
                done.set_result(None)
            ask(connection)

        connection.start(path, left.pop(), Call(_ignore, ended))

    for caller in range(callers):
        ask(opened[caller % len(opened)])
    await asyncio.wait_for(done, _DRAIN_S)
    elapsed_s = time.perf_counter() - begun
    for connection in opened:
        connection.close()
    return {"rate": len(took) / elapsed_s, **percentiles(took), "failed": len(faults), "fault": faults[:1]}


async def paced(
    *, target: str, path: str, bodies: list[str], rate: float, seconds: float, conns: int = 8
) -> dict[str, Any]:
    """Calls at a rate, whether those before are answered or not; each is timed from when it was due.

    Returns:
        `rate` per second, `p50_ms`, `p99_ms`, `failed`.
    """
    opened = await connections(target, conns)
    data = [base64.b64decode(body) for body in bodies]
    total = int(rate * seconds)
    took: list[float] = []
    faults: list[str] = []
    done = asyncio.get_running_loop().create_future()
    begun = time.perf_counter() + 0.05

    def start(i: int) -> None:
        due = begun + i / rate

        def ended(fault: str | None) -> None:
            if fault:
                faults.append(fault)
            else:
                took.append(time.perf_counter() - due)
            if len(took) + len(faults) == total:
                done.set_result(None)

        opened[i % conns].start(path, data[i % len(data)], Call(_ignore, ended))

    sent = 0
    while sent < total:
        now = time.perf_counter()
        while sent < total and begun + sent / rate <= now:
            start(sent)
            sent += 1
        await asyncio.sleep(max(begun + sent / rate - time.perf_counter(), 0))
    await asyncio.wait_for(done, _DRAIN_S)
    for connection in opened:
        connection.close()
    return {"rate": len(took) / seconds, **percentiles(took), "failed": len(faults), "fault": faults[:1]}


def percentiles(took_s: list[float]) -> dict[str, float]:
    """The median and the 99th percentile in milliseconds."""
    if not took_s:
        return {"p50_ms": float("nan"), "p99_ms": float("nan")}
    p50, p99 = np.percentile(took_s, [50, 99]) * 1000
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _ignore(_: bytes) -> None:
    pass
