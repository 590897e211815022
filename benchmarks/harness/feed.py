"""What the load generator does with samples: histories, and rounds of new samples that are followed to a subscriber."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness.http2 import Call, Connection
from benchmarks.harness.load import connections

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "/pba.v1.PredictionService/"
MOST_SAMPLES = 10_000
MINUTE_MS = 60_000
UNDER_WAY = 12
"""Pushes at a time, below what a process takes before it turns some away."""


def name(link: int) -> str:
    """A link's id."""
    return f"link-{link:06}"


def batch(first: int, links: int, times_ms: list[int], seed: int) -> bytes:
    """A request in columns with a sample of each of some links at each of some times, each link's in order."""
    rng = np.random.default_rng(seed)
    shape = (links, len(times_ms))
    walk = np.exp(0.05 * rng.standard_normal((*shape, 4)).cumsum(axis=1)) * [80, 30, 0.005, 3]
    values = np.minimum(walk.reshape(-1, 4), [1e8, 1e6, 1, 1e6]).astype(np.float32).T
    request = pb.PushSamplesRequest()
    columns = request.columns
    for link in range(first, first + links):
        columns.links.add(link_id=name(link))
    columns.link_index.extend(np.repeat(np.arange(links), len(times_ms)).tolist())
    columns.measured_at_ms.extend(np.tile(times_ms, links).tolist())
    for field, column in zip(
        (columns.bandwidth_mbps, columns.latency_ms, columns.packet_loss_ratio, columns.jitter_ms), values, strict=True
    ):
        field.extend(column.tolist())
    return request.SerializeToString()


def batches(links: int, times_ms: list[int], most: int = MOST_SAMPLES, first: int = 0) -> Iterator[bytes]:
    """Requests that hold a sample of each link at each time, at most `most` samples each."""
    together = max(most // len(times_ms), 1)
    for start in range(first, first + links, together):
        yield batch(start, min(together, first + links - start), times_ms, start + times_ms[-1] // MINUTE_MS)


async def push(connection: Connection, request: bytes) -> pb.PushSamplesResponse:
    """Pushes a batch, all of which must be stored."""
    answer = pb.PushSamplesResponse.FromString(await connection.unary(SERVICE + "PushSamples", request))
    if answer.refused:
        raise RuntimeError(f"refused: {answer.refusals[0]}")
    return answer


class Follower:
    """A stream of all predictions that knows how far each link is.

    Attributes:
        complete: Whether the snapshot has come.
        arrived_s: When the newest awaited prediction came, by `time.perf_counter`.
        received: Predictions received.
        messages: Messages received.
        skipped: Updates skipped, as the service says.
    """

    def __init__(self) -> None:
        self.complete, self.received, self.messages, self.skipped, self.arrived_s = False, 0, 0, 0, 0.0
        self.fault: str | None = None
        self._made_at_s: dict[str, int] = {}
        self._wanted_s, self._missing = 0, 0
        self._changed = asyncio.Event()

    def start(self, connection: Connection, request: pb.StreamPredictionsRequest | None = None) -> None:
        """Opens the stream."""
        request = request or pb.StreamPredictionsRequest(selector=pb.LinkSelector(all=True))
        connection.start(SERVICE + "StreamPredictions", request.SerializeToString(), Call(self._message, self._ended))

    def _message(self, data: bytes) -> None:
        update = pb.StreamPredictionsResponse.FromString(data)
        self.messages += 1
        self.received += len(update.predictions)
        self.complete, self.skipped = update.snapshot_complete, update.skipped_updates
        for prediction in update.predictions:
            at = prediction.made_at.seconds
            if at >= self._wanted_s > self._made_at_s.get(prediction.link_id, 0):
                self._missing -= 1
            self._made_at_s[prediction.link_id] = at
        self.arrived_s = time.perf_counter()
        self._changed.set()

    def _ended(self, fault: str | None) -> None:
        self.fault = fault or "ended"
        self._changed.set()

    def want(self, first: int, links: int, made_at_ms: int) -> None:
        """Waits from now on for predictions of some links made at this time or later."""
        self._wanted_s = made_at_ms // 1000
        self._missing = sum(self._made_at_s.get(name(i), 0) < self._wanted_s for i in range(first, first + links))

    async def until(self, what: str, timeout_s: float) -> None:
        """Returns when 'complete' or 'all'."""
        async with asyncio.timeout(timeout_s):
            while not (self.complete if what == "complete" else self._missing <= 0):
                if self.fault:
                    raise RuntimeError(f"the stream: {self.fault}")
                self._changed.clear()
                await self._changed.wait()


async def fill(
    *, target: str, links: int, samples: int, end_ms: int, first: int = 0, timeout_s: float = 600
) -> dict[str, Any]:
    """Gives links a history that ends at a time, and waits until all are predicted from it."""
    [connection] = await connections(target, 1)
    times = [end_ms - MINUTE_MS * i for i in range(samples - 1, -1, -1)]
    follower = Follower()
    follower.start(connection)
    await follower.until("complete", timeout_s)
    follower.want(first, links, end_ms)
    for request in batches(links, times, first=first):
        await push(connection, request)
    await follower.until("all", timeout_s)
    connection.close()
    return {}


async def refresh(
    *,
    target: str,
    links: int,
    at_ms: int,
    most: int,
    first: int = 0,
    conns: int = 1,
    minutes: int = 1,
    timeout_s: float = 300,
) -> dict[str, Any]:
    """Pushes one new sample of each of some links, and waits until a subscriber of them has all their predictions.

    Minute after minute over the same connections, as nodes do it: the last minute is what counts.

    Args:
        target: host:port.
        links: How many.
        at_ms: When the last samples are measured.
        most: Samples in one message.
        first: The first of the links.
        conns: Connections that push, each on its own.
        minutes: How many samples of each link are pushed.
        timeout_s: How long it may take.

    Returns:
        `rate`: links per second, from the first push to the last prediction.
        `acknowledged_rate`: samples per second, from the first push to the last acknowledgement.
    """
    following, *pushing = await connections(target, conns + 1)
    follower = Follower()
    chosen = pb.LinkSelector(link_ids=[name(link) for link in range(first, first + links)])
    follower.start(following, pb.StreamPredictionsRequest(selector=chosen))
    await follower.until("complete", timeout_s)
    slots = asyncio.Semaphore(UNDER_WAY)
    for before in reversed(range(minutes)):
        requests = list(batches(links, [at_ms - before * MINUTE_MS], most, first))
        follower.want(first, links, at_ms - before * MINUTE_MS)
        started = time.perf_counter()

        async def work(place: int, requests: list[bytes] = requests) -> None:
            for request in requests[place::conns]:
                async with slots:
                    await push(pushing[place], request)

        await asyncio.gather(*map(work, range(conns)))
        acknowledged = time.perf_counter()
        await follower.until("all", timeout_s)
        finished = follower.arrived_s
    for connection in (following, *pushing):
        connection.close()
    return {
        "rate": links / (finished - started),
        "acknowledged_rate": links / (acknowledged - started),
        "messages": follower.messages,
    }


async def ask(target: str, method: str, body: str) -> dict[str, Any]:
    """One call; the size of its answer in bytes."""
    import base64  # noqa: PLC0415 - seldom

    [connection] = await connections(target, 1)
    answer = await connection.unary(SERVICE + method, base64.b64decode(body))
    connection.close()
    return {"bytes": len(answer)}
