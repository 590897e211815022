"""Compares what was acknowledged with what lies in Redis, without the service and without its code."""

import asyncio
import struct
import time
from collections import Counter
from dataclasses import dataclass

BUCKET_MS = 4 * 3_600_000
ROW = struct.Struct("<Iffff")


@dataclass(frozen=True)
class Balance:
    """What became of acknowledged samples.

    Attributes:
        missing: Those that are not there, or with another value.
        duplicated: Those that are there more than once.
        strange: Samples that are there and were never sent.
    """

    missing: int
    duplicated: int
    strange: int


def stored(clients, link_id):
    """All rows of a link on some servers: (time in ms, bandwidth)."""
    rows = []
    for client in clients:
        for key in client.scan_iter(match=f"pba:{{{link_id}}}:h:*", count=1_000):
            bucket = int(key.rsplit(b":", 1)[1])
            rows += [(bucket * BUCKET_MS + row[0], row[1]) for row in ROW.iter_unpack(client.get(key) or b"")]
    return rows


def balance(writers, clients):
    """Of some writers, at the servers that take writes now."""
    missing = duplicated = strange = 0
    for writer in writers:
        rows = stored(clients, writer.link_id)
        there, times = dict(rows), Counter(time_ms for time_ms, _ in rows)
        missing += sum(there.get(time_ms) != value for time_ms, value in writer.acknowledged.items())
        duplicated += sum(count - 1 for count in times.values())
        strange += sum(time_ms not in writer.sent for time_ms in times)
    return Balance(missing, duplicated, strange)


async def settled(writers, find_clients, timeout_s=20.0):
    """The balance, once nothing is missing: what a failover forgot is stored again within seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await asyncio.to_thread(lambda: balance(writers, find_clients()))
        if not found.missing or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)
