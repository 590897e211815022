"""What the store is compared with: the obvious commands, in redis-py pipelines.

The layout is one hash per link and four hours, as in the first draft of ADR 2: field = offset in the bucket as 3 bytes,
value = four float32. The controls keep no count, no bound, no index and no expiry; the store does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from redis.exceptions import WatchError

from pba_service.storage.codec import BUCKET_MS, encode_prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from pba_service.domain.samples import SampleBatch
    from pba_service.engine.ports import Commit

_OFFSET_BYTES = 3


def _key(link_id: str, bucket: int) -> str:
    return f"control:{{{link_id}}}:h:{bucket}"


async def put(client: Redis, batch: SampleBatch) -> list[int]:
    """Reads what is there and writes, in one round trip; returns outcomes as the store does."""
    pipeline = client.pipeline(transaction=False)
    rows = [row.tobytes() for row in batch.values]
    for index, time_ms, row in zip(batch.link_index.tolist(), batch.measured_at_ms.tolist(), rows, strict=True):
        bucket, offset = divmod(time_ms, BUCKET_MS)
        key, field = _key(batch.links[index].link_id, bucket), offset.to_bytes(_OFFSET_BYTES, "big")
        pipeline.hget(key, field)  # type: ignore[arg-type] # any bytes are a field
        pipeline.hset(key, field, row)  # type: ignore[arg-type]
    replies = await pipeline.execute()
    return [0 if old is None else 1 + (old != row) for old, row in zip(replies[0::2], rows, strict=True)]


async def history(client: Redis, link_id: str, start_ms: int, end_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a stretch of samples, in order."""
    [series] = await _read(client, [link_id], start_ms, end_ms)
    return series


async def snapshots(
    client: Redis, link_ids: Sequence[str], newest_ms: int, context_ms: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads the context of links whose newest sample is known to be of about `newest_ms`, and their states."""
    pipeline = client.pipeline(transaction=False)
    for link_id in link_ids:
        pipeline.hmget(f"control:{{{link_id}}}:s", ["v", "b", "p"])
    found = await _read(client, link_ids, newest_ms - context_ms, newest_ms + 1)
    await pipeline.execute()
    return found


async def _read(
    client: Redis, link_ids: Sequence[str], start_ms: int, end_ms: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    buckets = range(start_ms // BUCKET_MS, (end_ms - 1) // BUCKET_MS + 1)
    pipeline = client.pipeline(transaction=False)
    for link_id in link_ids:
        for bucket in buckets:
            pipeline.hgetall(_key(link_id, bucket))
    replies = iter(await pipeline.execute())
    found = []
    for _ in link_ids:
        times, rows = [], []
        for bucket in buckets:
            fields = next(replies)
            offsets = np.frombuffer(b"".join(b"\0" + field for field in fields), ">u4")
            times.append(bucket * BUCKET_MS + offsets.astype(np.int64))
            rows.append(np.frombuffer(b"".join(fields.values()), "<f4").reshape(-1, 4))
        time_ms, values = np.concatenate(times), np.concatenate(rows)
        order = np.argsort(time_ms)
        inside = (time_ms[order] >= start_ms) & (time_ms[order] < end_ms)
        found.append((time_ms[order][inside], values[order][inside]))
    return found


async def commit(client: Redis, commits: Sequence[Commit]) -> list[bool]:
    """Compare-and-set of each state with WATCH and MULTI, one by one: a connection watches for one at a time."""
    written = []
    for one in commits:
        key = f"control:{{{one.link_id}}}:s"
        blob = encode_prediction(one.prediction) if one.prediction else b""
        async with client.pipeline(transaction=True) as pipeline:
            await pipeline.watch(key)
            if int(await pipeline.hget(key, "v") or 0) != one.read_version:
                written.append(False)
                continue
            pipeline.multi()
            pipeline.hset(key, mapping={"v": one.read_version + 1, "b": one.blob, "p": blob})
            pipeline.xadd("control:events", {"p": blob}, maxlen=10_000, approximate=True)
            try:
                await pipeline.execute()
            except WatchError:
                written.append(False)
            else:
                written.append(True)
    return written
