"""Clients that push, ask and follow all the time, and know what was acknowledged."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from pba_client import AsyncClient, Options, PbaClientError, Sample, Timeouts

BATCH = 3
PAUSE_S = 0.03
OPTIONS = Options(timeouts=Timeouts(call_s=5))


class Writer:
    """Pushes batch after batch of one link, each again and again until it is acknowledged.

    Attributes:
        sent: By time in ms, the value of every sample that was ever sent.
        acknowledged: The same of those that were acknowledged.
        acks_s: When acknowledgements came.
        failures: Attempts that failed.
        last_failure: How.
    """

    def __init__(self, target, link_id, *, streamed):
        self.link_id = link_id
        self.sent, self.acknowledged, self.acks_s, self.failures = {}, {}, [time.monotonic()], 0
        self.last_failure = ""
        self._client = AsyncClient(target, OPTIONS)
        self._streamed, self._stream = streamed, None
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)

    def __str__(self):
        kind = "over a stream" if self._streamed else "unary"
        silent_s = time.monotonic() - self.acks_s[-1]
        return f"{self.link_id} ({kind}, {len(self.acks_s)} so far, the last {silent_s:.0f} s ago: {self.last_failure})"

    async def run(self):
        batch = 0
        while True:
            places = range(BATCH * batch, BATCH * (batch + 1))
            times = {place: self._start + timedelta(seconds=7 * place) for place in places}
            self.sent |= {ms(measured): float(place) for place, measured in times.items()}
            samples = [Sample(self.link_id, measured_at=at, bandwidth_mbps=place) for place, at in times.items()]
            try:
                if self._streamed:
                    self._stream = self._stream or self._client.stream()
                    result = await (await self._stream.push(samples))
                else:
                    result = await self._client.push(samples)
            except PbaClientError as error:
                self.failures += 1
                self.last_failure = repr(error)
                self._stream = None
                await asyncio.sleep(0.05)
                continue
            if result.refused:
                self.failures += 1
                await asyncio.sleep(0.05)
                continue
            self.acknowledged |= {ms(measured): float(place) for place, measured in times.items()}
            self.acks_s.append(time.monotonic())
            batch += 1
            await asyncio.sleep(PAUSE_S)

    def longest_silence_s(self, since_s):
        """The longest time without an acknowledgement that ended after a moment."""
        pairs = zip(self.acks_s, self.acks_s[1:], strict=False)
        return max((after - before for before, after in pairs if after >= since_s), default=0.0)

    async def close(self):
        if self._stream:
            await self._stream.abort()
        await self._client.close()


class Reader:
    """Asks for the prediction of a link that is measured up to now, and counts what it gets.

    Attributes:
        wrong: Answers that are of another link, or not from the newest sample.
    """

    def __init__(self, target, link_id):
        self.fresh = self.stale = self.failed = self.wrong = 0
        self._client = AsyncClient(target, OPTIONS)
        self._link_id = link_id

    async def run(self):
        now = datetime.now(UTC).replace(microsecond=0)
        history = [
            Sample(self._link_id, measured_at=now - timedelta(minutes=ago), bandwidth_mbps=90.0, latency_ms=10.0)
            for ago in range(30, -1, -1)
        ]
        await self._client.push(history)
        right = (self._link_id, ms(now))
        while True:
            try:
                prediction = await self._client.predict(self._link_id)
            except PbaClientError:
                self.failed += 1
            else:
                self.fresh += prediction.stale_since is None
                self.stale += prediction.stale_since is not None
                self.wrong += (prediction.link_id, ms(prediction.made_at)) != right
            await asyncio.sleep(PAUSE_S)

    async def close(self):
        await self._client.close()


class Subscriber:
    """Follows all links whose ids begin alike, over interruptions too, which it counts.

    Attributes:
        wrong: Predictions of other links.
    """

    def __init__(self, target, prefix):
        self.updates = self.interruptions = self.wrong = 0
        self._prefix = prefix
        self.newest = {}
        self._client = AsyncClient(target, OPTIONS)

    async def run(self):
        def interrupted(_cause, _wait_s):
            self.interruptions += 1

        async for update in self._client.watch(prefix=self._prefix, on_interruption=interrupted):
            self.updates += 1
            for prediction in update.predictions:
                self.wrong += not prediction.link_id.startswith(self._prefix)
                self.newest[prediction.link_id] = ms(prediction.made_at)

    def has(self, wanted):
        """Whether it got predictions from those times of those links, or later ones."""
        return all(self.newest.get(link_id, 0) >= least for link_id, least in wanted.items())

    async def close(self):
        await self._client.close()


class Load:
    """All of them together; an asynchronous context manager."""

    def __init__(self, target, name, *, writers=12, subscribers=3):
        self.writers = [Writer(target, f"{name}-{number}", streamed=number % 3 == 0) for number in range(writers)]
        self.readers = [Reader(target, f"{name}-live")]
        self.subscribers = [Subscriber(target, f"{name}-") for _ in range(subscribers)]
        self._all = [*self.writers, *self.readers, *self.subscribers]

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(one.run()) for one in self._all]
        await self.more(5)
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._all:
            await one.close()
        self._tasks, self._all = [], []
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def more(self, count, timeout_s=120.0):
        """Returns once every writer has had so many more acknowledgements."""
        wanted = {writer: len(writer.acks_s) + count for writer in self.writers}
        deadline = time.monotonic() + timeout_s
        while behind := [writer for writer, least in wanted.items() if len(writer.acks_s) < least]:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise AssertionError(f"no acknowledgements: {', '.join(map(str, behind))}")
            await asyncio.sleep(0.02)

    async def followed(self, timeout_s=60.0):
        """Returns once every subscriber has had a prediction from each link's newest acknowledged sample, or later."""
        wanted = {writer.link_id: max(writer.acknowledged) for writer in self.writers}
        async with asyncio.timeout(timeout_s):
            while not all(one.has(wanted) for one in self.subscribers):  # noqa: ASYNC110 - it is many things
                await asyncio.sleep(0.05)

    def acknowledged(self):
        """How many samples."""
        return sum(len(writer.acknowledged) for writer in self.writers)

    def wrong(self):
        """How many predictions were not those that were asked for."""
        return sum(one.wrong for one in (*self.readers, *self.subscribers))

    def failures(self):
        """How many attempts failed."""
        return sum(writer.failures for writer in self.writers)


def ms(moment):
    """Milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)
