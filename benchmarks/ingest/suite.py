"""Pushes over gRPC until the store has synced them, beside redis-py pipelines; and what is then in the store."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.harness.feed import MINUTE_MS
from benchmarks.harness.service import now_ms, service, settle
from benchmarks.harness.statistics import Section, compared, plain, turns
from benchmarks.storage import control
from pba_service.domain.samples import LinkInfo, SampleBatch, one_link_batch
from pba_service.storage.redis_store import RedisStore
from tests.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.harness.runner import Bench

PIPELINE = 1_000
LINKS = 10_000
MONTH = 43_200
_SYNCED = ("--appendonly", "yes", "--appendfsync", "always")


def run(bench: Bench) -> Section:
    """All figures."""
    section = Section("ingest")
    _pushes(bench, section)
    with standalone(*_SYNCED) as server:
        asyncio.run(_month(bench, section, server.url))
    with standalone(*_SYNCED) as server:
        asyncio.run(_identical(section, server.url))
    return section


def _pushes(bench: Bench, section: Section) -> None:
    """A sample of each link a round, through the service, and through pipelines of 1,000."""
    links = bench.size(LINKS)
    start_ms = now_ms() - 600 * MINUTE_MS
    with standalone(*_SYNCED) as server, service(redis_url=server.url) as process:
        state = {"at": start_ms}  # every sample is its link's newest, whatever it came in

        def pushed(most: int, conns: int) -> Callable[[int], float]:
            def work(_turn: int) -> float:
                state["at"] += 100  # the links stay too young for a prediction: storing alone is measured
                settle(process.process.pid)  # looking at them, which is what remains, comes after the answer
                found = bench.generator.run(
                    "benchmarks.ingest.load:burst",
                    target=process.target,
                    links=links,
                    at_ms=state["at"],
                    most=most,
                    conns=conns,
                )
                return float(found["rate"])

            return work

        with standalone(*_SYNCED) as other, Redis.from_url(other.url, protocol=2) as client:
            found = turns(
                {
                    "10,000": pushed(10_000, 4),
                    "1,000": pushed(1_000, 4),
                    "pipeline": lambda turn: pipelined(client, links, start_ms + turn * MINUTE_MS),
                },
                bench.rounds,
            )
    for size in ("10,000", "1,000"):
        section.figures.append(
            compared(
                f"pushes of {size} samples, 4 at a time",
                "samples/s",
                found[size],
                found["pipeline"],
                "pipeline",
                goal=">= 5" if size == "10,000" else "",
            )
        )
    section.notes.append(
        f"Pushes: one new sample of each of {links:,} links a round, columns, acknowledged once the server synced them "
        f"(appendfsync always). Pipeline: redis-py with hiredis, {PIPELINE:,} links at a time, for each link a read of "
        "the place (new, duplicate or changed), a write of 16 bytes and a read of its last 10 samples, on such a "
        "server of its own; it keeps no counters, bounds, index or expiry."
    )
    bench.show(section)


def pipelined(client: Redis, links: int, at_ms: int) -> float:
    """Samples per second of the obvious commands."""
    rows = np.random.default_rng(at_ms // MINUTE_MS).random((links, 4), np.float32)
    started = time.perf_counter()
    for first in range(0, links, PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for link in range(first, min(first + PIPELINE, links)):
            key, field = f"control:{link}:{at_ms // 14_400_000}", (at_ms // MINUTE_MS % 240).to_bytes(1, "big")
            pipeline.hget(key, field)  # type: ignore[arg-type] # any bytes are a field
            pipeline.hset(key, field, rows[link].tobytes())  # type: ignore[arg-type]
            newest = at_ms // MINUTE_MS % 240
            pipeline.hmget(key, [(max(newest - i, 0)).to_bytes(1, "big") for i in range(10)])  # type: ignore[arg-type]
        pipeline.execute()
    return links / (time.perf_counter() - started)


def _store(url: str) -> RedisStore:
    return RedisStore.connect(url, max_samples=50_000, retention_ms=31 * 1440 * MINUTE_MS, timeout_s=60)


async def _month(bench: Bench, section: Section, url: str) -> None:
    """What 30 days of one link cost in memory, and to read back."""
    store, client = _store(url), AsyncRedis.from_url(url, protocol=2, socket_timeout=60)
    times = now_ms() - MINUTE_MS * np.arange(MONTH, dtype=np.int64)[::-1]
    values = np.random.default_rng(1).random((MONTH, 4), np.float32)

    async def fill(put: Callable[[SampleBatch], Awaitable[object]], link_id: str) -> None:
        for first in range(0, MONTH, 60):  # a few at a time, so that buckets grow as they do in service
            part = slice(first, first + 60)
            await put(one_link_batch(LinkInfo(link_id), times[part], values[part]))

    async def plainly(batch: SampleBatch) -> None:
        await control.put(client, batch)

    used: dict[str, list[float]] = {"ours": [], "control": []}
    for link in range(4):
        for name, put in (("ours", store.put), ("control", plainly)):
            before = (await client.info("memory"))["used_memory"]
            await fill(put, f"month-{link}")
            if link:  # what a first link costs once, scripts and buffers, is left out
                used[name].append(((await client.info("memory"))["used_memory"] - before) / MONTH)
    section.figures.append(
        plain(
            "bytes a sample, 43,200 samples",
            "bytes",
            used["ours"],
            goal="<= 24",
            note=f"one hash per four hours takes {used['control'][0]:.1f}",
        )
    )

    took: dict[str, list[float]] = {"ours": [], "control": []}
    for turn in range(-1, max(bench.rounds, 10)):
        started = time.perf_counter()
        count = sum([len(chunk) async for chunk in store.history("month-1", None, None)])
        middle = time.perf_counter()
        await control.history(client, "month-1", int(times[0]), int(times[-1]) + 1)
        ended = time.perf_counter()
        if count != MONTH:
            raise RuntimeError(f"{count} samples came back")
        if turn >= 0:
            took["ours"].append((middle - started) * 1e3)
            took["control"].append((ended - middle) * 1e3)
    section.figures += [
        plain("reading 30 days of a link into numpy", "ms", took["ours"], goal="<= 5"),
        compared("reading 30 days of a link into numpy", "ms", took["ours"], took["control"], "hash"),
    ]
    bench.show(section)
    await client.aclose()
    await store.close()


async def _identical(section: Section, url: str) -> None:
    """Whether samples that come twice and in any order leave the same bytes."""
    store, client = _store(url), AsyncRedis.from_url(url, protocol=2)
    count, rng = 2_000, np.random.default_rng(7)
    times = now_ms() - MINUTE_MS * np.arange(count, dtype=np.int64)[::-1]
    values = rng.random((count, 4), np.float32)
    dumps = []
    for turn in range(6):
        order = np.arange(count) if turn == 0 else rng.permutation(np.repeat(np.arange(count), 2))
        for part in np.array_split(order, 1 if turn == 0 else 40):
            await store.put(one_link_batch(LinkInfo("same"), times[part], values[part]))
        keys = sorted([key async for key in client.scan_iter(match="pba:{same}:h:*")])
        dumps.append([(key, await client.get(key)) for key in keys])
        await client.flushdb()
        await store.close()
        store = _store(url)
    differing = sum(dump != dumps[0] for dump in dumps[1:])
    section.figures.append(
        plain("stores that differ after duplicates and reordering, of 5", "", [float(differing)], goal="<= 0")
    )
    await client.aclose()
    await store.close()
