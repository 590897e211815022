"""What the load generator does to measure storing alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.harness.feed import batches, push
from benchmarks.harness.load import connections


async def burst(*, target: str, links: int, at_ms: int, most: int, conns: int, first: int = 0) -> dict[str, Any]:
    """One new sample of each link, in messages of `most`, over `conns` connections; `rate` in samples per second."""
    opened = await connections(target, conns)
    requests = list(batches(links, [at_ms], most, first))
    started = time.perf_counter()

    async def work(place: int) -> int:
        return sum([(await push(opened[place], request)).stored for request in requests[place::conns]])

    stored = sum(await asyncio.gather(*map(work, range(conns))))
    took = time.perf_counter() - started
    if stored != links:
        raise RuntimeError(f"{stored} of {links} samples were new")
    for connection in opened:
        connection.close()
    return {"rate": links / took}
