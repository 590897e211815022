"""What the load generator does to measure constants: messages of any size, and a mixed load at a rate."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
import time
from typing import Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.http2 import Call, Connection
from benchmarks.harness.load import connections
from benchmarks.streams.load import Counter


class Sized(Counter):
    """A subscriber that counts predictions and bytes, from the end of its snapshot on."""

    def __init__(self, on_progress: asyncio.Event) -> None:
        super().__init__(on_progress)
        self.size_bytes, self.complete = 0, False

    def message(self, data: bytes) -> None:
        """One message of the service."""
        if self.complete:
            super().message(data)
            self.size_bytes += len(data)
        elif pb.StreamPredictionsResponse.FromString(data).snapshot_complete:
            self.complete = True
            self._changed.set()


async def mixed(
    *,
    targets: list[str],
    links: int,
    start_ms: int,
    rate: float,
    seconds: float,
    together: int,
    subscribers: int,
    predicts: float,
) -> dict[str, Any]:
    """Pushes to all replicas in turn, subscribers of everything, and `Predict` beside them, all at their rates.

    Args:
        targets: Replicas; each message goes to the next.
        links: How many.
        start_ms: When the first samples are measured; each round through the links is a minute later.
        rate: Samples per second.
        seconds: How long.
        together: Samples in a message.
        subscribers: Streams of all links, spread over the replicas.
        predicts: `Predict` calls per second.

    Returns:
        `samples`, `predicts`, `updates` and their `update_bytes`, `seconds`.
    """
    pushing = [(await connections(target, 1))[0] for target in targets]
    following = [(await connections(target, 1))[0] for target in targets]
    counters, _ = await _followed(following, links, subscribers)
    begun = time.perf_counter()
    sent, asked = await asyncio.gather(
        _pushes(pushing, links=links, start_ms=start_ms, rate=rate, seconds=seconds, together=together),
        _predicts(pushing, links, predicts, seconds),
    )
    await asyncio.sleep(0.5)
    elapsed = time.perf_counter() - begun
    for connection in (*pushing, *following):
        connection.close()
    return {
        "samples": sent,
        "predicts": asked,
        "updates": sum(counter.predictions for counter in counters),
        "update_bytes": sum(counter.size_bytes for counter in counters),
        "seconds": elapsed,
    }


async def deliveries(*, target: str, subscribers: int, links: int, start_ms: int, rounds: int) -> dict[str, Any]:
    """Rounds of new samples of links that several follow; returns `subscribers` when everybody has had everything."""
    pushing, *following = await connections(target, 9)
    counters, changed = await _followed(following, links, subscribers)
    for turn in range(rounds):
        for body in feed.batches(links, [start_ms + turn * feed.MINUTE_MS]):
            await feed.push(pushing, body)
        await _until(changed, counters, links * (turn + 1))
    for connection in (pushing, *following):
        connection.close()
    return {"subscribers": len(counters)}


async def _followed(conns: list[Connection], links: int, subscribers: int) -> tuple[list[Sized], asyncio.Event]:
    """Subscribers of the first links, who have had their snapshot."""
    changed = asyncio.Event()
    counters = [Sized(changed) for _ in range(subscribers)]
    chosen = pb.LinkSelector(link_ids=[feed.name(link) for link in range(links)])
    wish = pb.StreamPredictionsRequest(selector=chosen).SerializeToString()
    for place, counter in enumerate(counters):
        conns[place % len(conns)].start(feed.SERVICE + "StreamPredictions", wish, Call(counter.message, counter.ended))
    await _until(changed, counters, 0)
    return counters, changed


async def _until(changed: asyncio.Event, counters: list[Sized], predictions: int) -> None:
    async with asyncio.timeout(60):
        while not all(counter.complete and counter.predictions >= predictions for counter in counters):
            changed.clear()
            await changed.wait()
            await asyncio.sleep(0.002)  # looking at all subscribers for each message would cost more than reading it


async def _pushes(
    conns: list[Connection], *, links: int, start_ms: int, rate: float, seconds: float, together: int
) -> int:
    rounds, turns = links // together, int(rate * seconds / together)
    bodies = [
        feed.batch(turn % rounds * together, together, [start_ms + turn // rounds * feed.MINUTE_MS], turn)
        for turn in range(turns)
    ]
    begun = time.perf_counter()
    under_way = []
    for turn, body in enumerate(bodies):
        await asyncio.sleep(max(begun + turn * together / rate - time.perf_counter(), 0))
        under_way.append(asyncio.create_task(feed.push(conns[turn % len(conns)], body)))
    await asyncio.gather(*under_way)
    return turns * together


async def _predicts(conns: list[Connection], links: int, rate: float, seconds: float) -> int:
    begun = time.perf_counter()
    turns = int(rate * seconds)
    under_way = []
    for turn in range(turns):
        await asyncio.sleep(max(begun + turn / rate - time.perf_counter(), 0))
        body = pb.PredictRequest(link_id=feed.name(turn % links)).SerializeToString()
        under_way.append(asyncio.create_task(conns[turn % len(conns)].unary(feed.SERVICE + "Predict", body)))
    await asyncio.gather(*under_way)
    return turns


async def sizes(*, target: str, method: str, bodies: list[str]) -> dict[str, Any]:
    """Bytes of a call and its answer as TCP carries them: HTTP/2 and gRPC with their heads, not the heads of TCP.

    Returns:
        `bytes` of one, both ways together, on a connection that is in use.
    """
    [connection] = await connections(target, 1)
    data = [base64.b64decode(body) for body in bodies]
    await connection.unary(feed.SERVICE + method, data[0])
    before = _carried(connection)
    for body in data:
        await connection.unary(feed.SERVICE + method, body)
    await asyncio.sleep(0.1)  # what is under way is acknowledged
    carried = _carried(connection) - before
    connection.close()
    return {"bytes": carried / len(data)}


def _carried(connection: Connection) -> int:
    """Bytes that the peer has acknowledged, and bytes received: the two counters of Linux' `struct tcp_info`."""
    plug = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the harness' own
    acknowledged, received = struct.unpack_from("=QQ", plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 120)
    return int(acknowledged) + int(received)
