"""What each `PBA_DURABILITY` costs: `python -m benchmarks.durability [--rounds 15] [--links 100]`.

The store's `put` and the wait that the level asks for, on servers of this machine's own, the levels taking turns within
each round; a figure is the median of its ratios to `memory` in the same round, so that whatever else the machine does
meets all of them alike. Replicas are on the same machine and disk: over a network their round trips come on top.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.storage.__main__ import MINUTE_MS, NOW_MS, samples
from pba_service.storage.binary import find_server
from pba_service.storage.connect import open_server
from pba_service.storage.durability import Durability
from pba_service.storage.guarded import GuardedStore, GuardOptions
from pba_service.storage.keeper import Keeper
from pba_service.storage.process import GuardedProcess
from pba_service.storage.redis_store import RedisStore
from pba_service.storage.sockets import Condition, condition

OFF = ("--appendonly", "no")
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True, slots=True)
class Setup:
    """A level, and the servers that give it.

    Attributes:
        level: The level.
        primary: Settings of the primary.
        replicas: Replicas, with the same settings.
    """

    level: Durability
    primary: tuple[str, ...]
    replicas: int = 0


SETUPS = (
    Setup(Durability.MEMORY, OFF),
    Setup(Durability.EVERYSEC, EVERYSEC),
    Setup(Durability.ALWAYS, ALWAYS),
    Setup(Durability.REPLICATED, EVERYSEC, 1),
    Setup(Durability.REPLICATED, EVERYSEC, 2),
    Setup(Durability.REPLICATED_ALWAYS, ALWAYS, 1),
)


async def start(stack: contextlib.AsyncExitStack, folder: Path, *args: str) -> Path:
    """A server at a unix socket."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    place = folder / "s"
    command = [str(find_server()), "--unixsocket", str(place), "--dir", str(folder), "--save", "", *args]
    process = GuardedProcess(command, log=folder / "log")
    stack.callback(process.kill)
    async with asyncio.timeout(10):
        while await condition(place) is not Condition.READY:  # noqa: ASYNC110 - nothing but asking tells it
            await asyncio.sleep(0.02)
    return place


async def build(stack: contextlib.AsyncExitStack, folder: Path, setup: Setup, port: int) -> GuardedStore:
    """A store whose servers give a level."""
    where = ("--port", str(port), "--bind", "127.0.0.1") if setup.replicas else ("--port", "0")
    primary = await start(stack, folder / "p", *where, *setup.primary)
    for i in range(setup.replicas):
        of = ("--port", "0", "--replicaof", "127.0.0.1", str(port))
        await start(stack, folder / f"r{i}", *of, *setup.primary)
    server = open_server(f"unix://{primary}", 5.0)
    store = RedisStore(server, max_samples=10_000, retention_ms=30 * 86_400_000, clock=lambda: NOW_MS)
    stack.push_async_callback(store.close)
    keeper = Keeper(server, setup.level, max(setup.replicas, 1))
    async with asyncio.timeout(30):
        while (await keeper.verify()).unmet:  # noqa: ASYNC110 - replicas arrive when they do
            await asyncio.sleep(0.1)
    return GuardedStore(store, GuardOptions(timeout_s=20), keep=keeper.keep)


async def compare(stores: list[GuardedStore], links: int, rounds: int) -> list[list[float]]:
    """Microseconds per sample of each store in each round."""
    taken: list[list[float]] = [[] for _ in stores]
    for i in range(-2, rounds):  # the first two are for warming up
        batch = samples(links, NOW_MS - (rounds - i) * MINUTE_MS)
        for store, times in zip(stores, taken, strict=True):
            started = time.perf_counter()
            await store.put(batch)
            times.append((time.perf_counter() - started) * 1e6 / links)
    return [times[2:] for times in taken]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    import socket  # noqa: PLC0415 - used here alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def main(rounds: int, sizes: list[int]) -> None:
    """Measures and prints."""
    async with contextlib.AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pba-")))
        stores = [await build(stack, root / str(i), setup, free_port()) for i, setup in enumerate(SETUPS)]
        heads = " | ".join(f"{size} at once: us a sample, ratio" for size in sizes)
        print(f"| durability | {heads} |")
        print("|---|" + "---|" * len(sizes))
        columns = [await compare(stores, size, rounds) for size in sizes]
        for i, setup in enumerate(SETUPS):
            cells = []
            for taken in columns:
                ratio = statistics.median(mine / base for mine, base in zip(taken[i], taken[0], strict=True))
                cells.append(f"{statistics.median(taken[i]):.0f}, {ratio:.2f}")
            name = setup.level.value + (f", replicas: {setup.replicas}" if setup.replicas else "")
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--links", type=int, nargs="+", default=[1, 100, 1_000])
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.links))
