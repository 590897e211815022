"""What the load generator does with streams of predictions."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.echo import PATH as CONTROL
from benchmarks.harness.http2 import Call
from benchmarks.harness.load import connections, percentiles

_PREDICTIONS = 0x0A


class Counter:
    """A subscriber that counts predictions and keeps none."""

    def __init__(self, on_progress: asyncio.Event) -> None:
        self.predictions, self.messages, self.fault = 0, 0, ""
        self._changed = on_progress

    def message(self, data: bytes) -> None:
        """One message of the service."""
        self.predictions += predictions_in(data)
        self.messages += 1
        self._changed.set()

    def single(self, _: bytes) -> None:
        """One message of the control: a prediction each."""
        self.predictions += 1
        self.messages += 1
        self._changed.set()

    def ended(self, fault: str | None) -> None:
        """The stream has ended."""
        self.fault = fault or "ended"
        self._changed.set()


def predictions_in(data: bytes) -> int:
    """Entries of the first field of a message, without reading them."""
    count, place, size = 0, 0, len(data)
    while place < size and data[place] == _PREDICTIONS:
        place += 1
        length = shift = 0
        while True:
            byte = data[place]
            place += 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        place += length
        count += 1
    return count


async def idle(target: str, streams: int, links: int, conns: int = 8, settle_s: float = 3.0) -> dict[str, Any]:
    """Opens streams of a link each at once, waits until all have begun, and holds them for a while.

    Returns:
        `failed`, and `open_s` until the last had its first message.
    """
    opened = await connections(target, conns)
    changed = asyncio.Event()
    counters = [Counter(changed) for _ in range(streams)]
    started = time.perf_counter()
    for place, counter in enumerate(counters):
        request = pb.StreamPredictionsRequest(selector=pb.LinkSelector(link_ids=[feed.name(place % links)]))
        opened[place % conns].start(
            feed.SERVICE + "StreamPredictions", request.SerializeToString(), Call(counter.message, counter.ended)
        )
    await _until(changed, lambda: all(counter.messages or counter.fault for counter in counters), 120)
    took = time.perf_counter() - started
    await asyncio.sleep(settle_s)
    faults = [counter.fault for counter in counters if counter.fault]
    for connection in opened:
        connection.close()
    return {"open_s": took, "failed": len(faults), "fault": faults[:1]}


async def deliveries(
    *, target: str, subscribers: int, links: int, rounds: int, start_ms: int, conns: int = 8
) -> dict[str, Any]:
    """Pushes rounds of new samples to links that everybody follows.

    Returns:
        `rate`: predictions delivered per second, from the first push of a round to its last delivery, all rounds
        together; `messages` and `skipped` in all of them.
    """
    pushing, *opened = await connections(target, conns + 1)
    changed = asyncio.Event()
    counters = [Counter(changed) for _ in range(subscribers)]
    request = pb.StreamPredictionsRequest(selector=pb.LinkSelector(all=True))
    for place, counter in enumerate(counters):
        opened[place % conns].start(
            feed.SERVICE + "StreamPredictions", request.SerializeToString(), Call(counter.message, counter.ended)
        )
    await _until(changed, lambda: all(counter.predictions >= links for counter in counters), 300)
    delivered = messages = 0
    busy_s = 0.0
    for turn in range(rounds):
        at_ms = start_ms + turn * feed.MINUTE_MS
        before = sum(counter.predictions for counter in counters)
        told = sum(counter.messages for counter in counters)
        wanted = {id(counter): counter.predictions + links for counter in counters}
        started = time.perf_counter()
        for body in feed.batches(links, [at_ms]):
            await feed.push(pushing, body)
        await _until(changed, lambda w=wanted: all(counter.predictions >= w[id(counter)] for counter in counters), 300)
        busy_s += time.perf_counter() - started
        delivered += sum(counter.predictions for counter in counters) - before
        messages += sum(counter.messages for counter in counters) - told
    faults = [counter.fault for counter in counters if counter.fault]
    for connection in (pushing, *opened):
        connection.close()
    return {"rate": delivered / (busy_s or 1), "messages": messages, "failed": len(faults), "fault": faults[:1]}


async def control_deliveries(*, target: str, subscribers: int, each: int, conns: int = 8) -> dict[str, Any]:
    """The bare server sends each subscriber so many messages of one prediction; `rate` per second."""
    opened = await connections(target, conns)
    changed = asyncio.Event()
    counters = [Counter(changed) for _ in range(subscribers)]
    for place, counter in enumerate(counters):
        opened[place % conns].start(CONTROL, each.to_bytes(4, "big"), Call(counter.single, counter.ended))
    started = time.perf_counter()
    await _until(changed, lambda: all(counter.fault for counter in counters), 300)
    took = time.perf_counter() - started
    for connection in opened:
        connection.close()
    return {"rate": sum(counter.predictions for counter in counters) / took}


async def delay(
    *, target: str, links: int, start_ms: int, rate: float, seconds: float, together: int
) -> dict[str, Any]:
    """New samples at a rate, timed from when each message was due until a subscriber has its predictions.

    Returns:
        `p50_ms`, `p99_ms`, `sent`, `missing`.
    """
    following, *pushing = await connections(target, 5)
    follower = Arrivals()
    follower.start(following)
    await follower.until("complete", 120)
    per_round = -(-links // together)
    total = int(rate * seconds / together)
    bodies = [
        feed.batch(
            turn % per_round * together,
            min(together, links - turn % per_round * together),
            [at(start_ms, turn, per_round)],
            turn,
        )
        for turn in range(total)
    ]
    follower.since()
    begun = time.perf_counter() + 0.05
    under_way = set()
    for turn, body in enumerate(bodies):
        wait = begun + turn * together / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(feed.push(pushing[turn % 4], body))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    await asyncio.sleep(1.0)
    took, missing = [], 0
    for turn in range(total):
        due, made_at_s = begun + turn * together / rate, at(start_ms, turn, per_round) // 1000
        first = turn % per_round * together
        for link in range(first, min(first + together, links)):
            arrived = follower.arrived.get((feed.name(link), made_at_s))
            if arrived is None:
                missing += 1
            else:
                took.append(arrived - due)
    for connection in (following, *pushing):
        connection.close()
    return {**percentiles(took), "sent": len(took) + missing, "missing": missing}


def at(start_ms: int, turn: int, per_round: int) -> int:
    """When the samples of a message are measured: a minute later in each round through the links."""
    return start_ms + turn // per_round * feed.MINUTE_MS


class Arrivals(feed.Follower):
    """A follower that notes when each prediction came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[tuple[str, int], float] = {}

    def since(self) -> None:
        """Forgets what came before."""
        self.arrived.clear()

    def _message(self, data: bytes) -> None:
        now = time.perf_counter()
        update = pb.StreamPredictionsResponse.FromString(data)
        self.complete = update.snapshot_complete
        for prediction in update.predictions:
            self.arrived.setdefault((prediction.link_id, prediction.made_at.seconds), now)
        self._changed.set()


async def _until(changed: asyncio.Event, done: Any, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not done():
            changed.clear()
            await changed.wait()
            await asyncio.sleep(0.002)  # looking through all subscribers at every message would cost more than reading
