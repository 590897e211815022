"""How the store compares with plain redis-py pipelines: `python -m benchmarks.storage [--links 1000] [--rounds 15]`.

Works on the embedded server, which the service runs too, with every write synced to disk. Store and control take turns,
and each line gives medians, and the median of the ratios within a round, so that whatever else the machine does meets
both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from redis.asyncio import Redis
from redis.asyncio.connection import Connection

from benchmarks.harness.service import cpu_s
from benchmarks.storage import control
from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.samples import LinkInfo, SampleBatch, one_link_batch
from pba_service.engine.ports import Commit
from pba_service.storage.embedded import EmbeddedServer
from pba_service.storage.packing import pack
from pba_service.storage.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Work = Callable[[int], Awaitable[object]]

MINUTE_MS = 60_000
NOW_MS = 1_800_000_000_000
MONTH = 43_200
CONTEXT_MS = 110 * MINUTE_MS
SIZES = (1, 10, 100, 1_000, 10_000)


def names(links: int) -> list[str]:
    """Link ids."""
    return [f"link-{i:05}" for i in range(links)]


def samples(links: int, time_ms: int) -> SampleBatch:
    """One sample of each of some links."""
    values = np.random.default_rng(time_ms).random((links, 4), np.float32)
    infos = tuple(LinkInfo(link_id) for link_id in names(links))
    times = np.full(links, time_ms, np.int64)
    return SampleBatch(infos, np.arange(links, dtype=np.int32), times, values, np.ones((links, 4), np.bool_))


def commits(links: int, version: int) -> list[Commit]:
    """A new state of 3,000 bytes and a prediction for each of some links."""
    floats = np.ones((4, 5), np.float32)
    target_ms = NOW_MS + 15 * MINUTE_MS
    return [
        Commit(
            link_id,
            version,
            bytes(3_000),
            Prediction(link_id, NOW_MS, MINUTE_MS, target_ms, floats[:, 0], floats, 0.5, "2026.11-1", Source.COMBINED),
        )
        for link_id in names(links)
    ]


async def compare(what: str, count: int, rounds: int, ours: Work, theirs: Work) -> None:
    """Prints microseconds per item of both, and how many times as fast the store is."""
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(-1, rounds):  # the first is for warming up
        for work, times in zip((ours, theirs), taken, strict=True):
            started = time.perf_counter()
            await work(i + 1)
            times.append((time.perf_counter() - started) * 1e6 / count)
    ratio = statistics.median(their / our for our, their in zip(*(times[1:] for times in taken), strict=True))
    store, plain = (statistics.median(times[1:]) for times in taken)
    report(what, store, plain, ratio)


def report(what: str, store: float, plain: float, ratio: float) -> None:
    """Prints a line of the table."""
    say(f"{what:<46}{store:>10.1f}{plain:>10.1f}{ratio:>8.2f}")


def say(line: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def speeds(store: RedisStore, client: Redis, links: int, rounds: int) -> None:
    """Prints what the service does all the time, for several numbers of links at once."""
    for minute in range(125, 5, -1):
        batch = samples(links, NOW_MS - minute * MINUTE_MS)
        await store.put(batch)
        await control.put(client, batch)
    moments: Iterator[int] = iter(range(NOW_MS - 5 * MINUTE_MS, NOW_MS, 100))

    for size in [size for size in SIZES if size <= links]:
        batches = [samples(size, next(moments)) for _ in range(rounds + 1)]
        await compare(
            f"store one sample, {size:,} links at once",
            size,
            rounds,
            lambda i, batches=batches: store.put(batches[i]),
            lambda i, batches=batches: control.put(client, batches[i]),
        )
        ids = names(size)
        await compare(
            f"read 110 minutes and state, {size:,} links",
            size,
            rounds,
            lambda _, ids=ids: store.snapshots(ids, [CONTEXT_MS] * len(ids)),
            lambda _, ids=ids: control.snapshots(client, ids, NOW_MS, CONTEXT_MS),
        )
        versions = {one.link_id: one.state.version for one in await store.snapshots(ids, [0] * size) if one}
        await client.delete(*(f"control:{{{link_id}}}:s" for link_id in ids))
        few = min(rounds, 5) if size > 100 else rounds
        theirs = [commits(size, i) for i in range(few + 1)]
        ours = [
            [Commit(one.link_id, versions[one.link_id] + i, one.blob, one.prediction) for one in batch]
            for i, batch in enumerate(theirs)
        ]
        await compare(
            f"commit state and prediction, {size:,} links",
            size,
            few,
            lambda i, ours=ours: store.commit(ours[i]),
            lambda i, theirs=theirs: control.commit(client, theirs[i]),
        )


async def costs(store: RedisStore, client: Redis, links: int, rounds: int) -> None:
    """Prints processor time of server and client for an item, and what it adds to the append-only file."""
    pid = (await client.info("server"))["process_id"]
    found = await store.snapshots(names(links), [0] * links)
    versions = [one.state.version if one else 0 for one in found]
    floats = np.ones(4, np.float32)

    def learned(turn: int) -> list[Commit]:
        at_ms = NOW_MS + turn * MINUTE_MS
        row = LedgerEntry(at_ms - 15 * MINUTE_MS, at_ms, at_ms, floats, floats, 0.5, "2026.11-1")
        return [
            Commit(one.link_id, version + turn, one.blob, one.prediction, [row])
            for one, version in zip(commits(links, 0), versions, strict=True)
        ]

    say(f"{'us of processor time a link, bytes':<46}{'server':>10}{'client':>10}{'AOF':>8}")
    samples_of = [samples(links, NOW_MS + 100 * turn) for turn in range(rounds)]
    commits_of = [learned(turn) for turn in range(rounds)]
    stored: list[Callable[[], Awaitable[object]]] = [lambda one=one: store.put(one) for one in samples_of]
    written: list[Callable[[], Awaitable[object]]] = [lambda one=one: store.commit(one) for one in commits_of]
    for what, works in (("store one sample", stored), ("commit state, prediction and ledger row", written)):
        sizes = [(await client.info("persistence"))["aof_current_size"]]
        server_s, client_s, count = cpu_s(pid), 0.0, links * rounds
        for work in works:
            started = time.process_time()
            await work()
            client_s += time.process_time() - started
            sizes.append((await client.info("persistence"))["aof_current_size"])
        added = statistics.median(np.diff(sizes).tolist()) / links  # the median, for the file is rewritten at times
        say(f"{what:<46}{(cpu_s(pid) - server_s) / count * 1e6:>10.1f}{client_s / count * 1e6:>10.1f}{added:>8.0f}")


async def month(store: RedisStore, client: Redis, rounds: int) -> None:
    """Prints what 30 days of one link cost in memory, and to read back."""
    times = NOW_MS - MINUTE_MS * np.arange(MONTH)[::-1]
    values = np.random.default_rng(1).random((MONTH, 4), np.float32)

    async def fill(put: Callable[[SampleBatch], Awaitable[object]], link_id: str) -> None:
        for first in range(0, MONTH, 60):  # a few at a time, so that buckets grow as they do in service
            part = slice(first, first + 60)
            await put(one_link_batch(LinkInfo(link_id), times[part], values[part]))

    per_sample = []
    for put in (store.put, lambda batch: control.put(client, batch)):
        await fill(put, "month")  # what a first link costs once, scripts and buffers, is left out
        before = (await client.info("memory"))["used_memory"]
        for link_id in ("second", "third", "fourth"):
            await fill(put, link_id)
        per_sample.append(((await client.info("memory"))["used_memory"] - before) / MONTH / 3)
    report("bytes per stored sample, 30 days", *per_sample, per_sample[1] / per_sample[0])

    async def read(_: int) -> int:
        return sum([len(chunk) async for chunk in store.history("month", None, None)])

    await compare(
        "read 30 days of a link, per sample",
        MONTH,
        rounds,
        read,
        lambda _: control.history(client, "month", int(times[0]), NOW_MS + 1),
    )


def packing(rounds: int) -> None:
    """Prints what it takes to turn commits of 128 links into bytes."""
    arguments = [part for one in commits(128, 0) for part in (one.link_id, 3, 4, one.blob, bytes(170), 0)]
    command = ("EVALSHA", bytes(40), 128, *arguments)
    connection = Connection()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(20 * rounds):
        for work, times in zip((lambda: pack(command), lambda: connection.pack_command(*command)), taken, strict=True):
            started = time.perf_counter()
            work()
            times.append((time.perf_counter() - started) * 1e6 / 128)
    ours, theirs = (min(times) for times in taken)
    report("pack a commit, per link (best of all)", ours, theirs, theirs / ours)


async def main(links: int, rounds: int) -> None:
    """Runs everything."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServer(Path(folder)) as server:
            store = RedisStore.connect(
                server.url,
                max_samples=50_000,
                retention_ms=31 * 24 * 60 * MINUTE_MS,
                clock=lambda: NOW_MS,
                timeout_s=60,
            )
            client = Redis.from_url(server.url, protocol=2, socket_timeout=60)
            info = await client.info("server")
            say(f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}")
            say(f"{'microseconds':<46}{'store':>10}{'control':>10}{'ratio':>8}")
            packing(rounds)
            await month(store, client, rounds)
            await speeds(store, client, links, rounds)
            await costs(store, client, links, rounds)
            await client.aclose()
            await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=1_000, help="the most links at once")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured")
    options = parser.parse_args()
    asyncio.run(main(options.links, options.rounds))
