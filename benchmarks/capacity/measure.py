"""The measurements, one after another, on the same links."""

from __future__ import annotations

import asyncio
import base64
import statistics
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pba.v1 import prediction_service_pb2 as pb
from redis.asyncio import Redis

from benchmarks.capacity.probe import Use, keys_bytes, ledger_rows, look
from benchmarks.harness import feed
from benchmarks.harness.service import now_ms, rss_bytes
from pba_service.engine.lastknown import LastKnown, NeverAway
from pba_service.engine.upkeep import all_links
from pba_service.storage import codec, keys
from pba_service.storage.redis_store import RedisStore

if TYPE_CHECKING:
    from benchmarks.harness.runner import Bench
    from tests.process import ServiceProcess
    from tests.servers import RunningServer

LINKS, PUSHED, LONG, LONG_SAMPLES = 10_000, 2_000, 20, 1_440
FOLLOWERS, SUBSCRIBERS, IDLE = 32, 20, 1_000
ROUNDS = 6
_PAST = 43
"""Minutes back at which the first measurements begin; the later ones go ahead of the clock, as the service is set to
allow, since only a forecast whose target is to come is answered, and a link that was silent for long has none."""


class Measuring:
    """One service, then two, on one server, and what they were found to cost.

    Args:
        bench: Sizes, progress and the load generator.
        redis: The server.
        replicas: The services; a second one comes later.
        empty_bytes: Memory of a process that knows no link.

    Attributes:
        costs: What was found, by the names in `pba_service/capacity/constants.py`.
    """

    def __init__(self, bench: Bench, redis: RunningServer, replicas: list[ServiceProcess], empty_bytes: int) -> None:
        self.bench, self.redis, self.replicas = bench, redis, replicas
        self.costs: dict[str, float] = {"process_base_bytes": empty_bytes}
        self._at_ms = now_ms() - _PAST * feed.MINUTE_MS
        self._links, self._pushed = bench.size(LINKS), bench.size(PUSHED)

    def alone(self) -> None:
        """What one replica and its server take."""
        self._fill()
        self._costs_of_a_link()
        self._nothing()
        self._idle_streams()
        self._pushes()
        self._deliveries()
        self._calls()
        self._sweep()

    def together(self) -> None:
        """What replicas cost each other."""
        self._heard()
        self._followers()
        self._taking_turns()

    # one replica

    def _fill(self) -> None:
        self.bench.say(f"filling {self._links:,} links")
        pid = self.replicas[0].process.pid
        self._run("feed:fill", links=200, samples=12, end_ms=self._at_ms)
        before, known = rss_bytes(pid), 200
        self._run("feed:fill", links=self._links, samples=12, end_ms=self._at_ms)
        self.costs["link_bytes"] = (rss_bytes(pid) - before) / (self._links - known)
        self._run("feed:fill", links=LONG, samples=LONG_SAMPLES, end_ms=self._at_ms, first=self._links)

    def _costs_of_a_link(self) -> None:
        """Bytes in the server: of a sample, of a row of the ledger, and of all else."""
        full = [feed.name(self._links + i) for i in range(LONG)]
        history = sum(keys_bytes(self.redis, one, "h:") for one in full)
        rows = sum(ledger_rows(self.redis, one, codec.LEDGER_ROW.itemsize) for one in full)
        ledger = sum(keys_bytes(self.redis, one, "l:") for one in full)
        self.costs["store_sample_bytes"] = history / (LONG * LONG_SAMPLES)
        self.costs["store_ledger_bytes"] = ledger / rows
        rest = sum(keys_bytes(self.redis, one, "") for one in full) - history - ledger
        index = int(self.redis.client.memory_usage(keys.LINKS, samples=0)) / self.redis.client.zcard(keys.LINKS)
        # each key has an entry in the server's two tables of keys and times to live, which MEMORY USAGE leaves out
        self.costs["store_link_bytes"] = rest / LONG + index
        self.costs["store_base_bytes"] = int(self.redis.client.memory_usage(keys.EVENTS, samples=0)) + 2**20

    def _nothing(self) -> None:
        """What process and server take when nothing is asked of them; it is taken off all that follows."""
        self.bench.say("nothing")
        seconds = self.bench.seconds(5.0)
        before = look(self.redis, *self.replicas)
        time.sleep(seconds)
        used = look(self.redis, *self.replicas) - before
        self.costs["idle_cores"], self.costs["store_idle_cores"] = used.process_s[0] / seconds, used.store_s / seconds

    def _pushes(self) -> None:
        """A sample in messages of one, of twenty and of a thousand: what comes together is stored and predicted so."""
        self.bench.say("pushes in large and in small messages")
        many = self._spent(lambda: self._round(together=1_000))
        found = {1_000: many, 1: self._paced(1, 100.0, self._pushed // 5), 20: self._paced(20, 400.0, self._pushed)}
        for together, spent in found.items():
            self.costs[f"push_{together}_us"] = spent.process_s[0] * 1e6
            self.costs[f"store_push_{together}_us"] = spent.store_s * 1e6
        self.costs["store_in_bytes"], self.costs["store_out_bytes"] = many.in_bytes, many.out_bytes
        self.costs["store_disk_bytes"] = many.disk_bytes

    def _paced(self, together: int, rate: float, links: int) -> Use:
        """What a sample takes at a rate that leaves the process half idle; twice through some links."""
        before, seconds = look(self.redis, *self.replicas), 2 * links / rate
        self._mixed(links=links, rate=rate, seconds=seconds, together=together, subscribers=1, predicts=0.0)
        used = look(self.redis, *self.replicas) - before
        process_s = used.process_s[0] - seconds * self.costs["idle_cores"]
        store_s = used.store_s - seconds * self.costs["store_idle_cores"]
        return replace(used, process_s=(process_s / links / 2,), store_s=store_s / links / 2)

    def _mixed(self, *, links: int, rate: float, seconds: float, **asked: Any) -> dict[str, Any]:
        return self.bench.generator.run(
            "benchmarks.capacity.load:mixed",
            targets=[one.target for one in self.replicas],
            start_ms=self._next(-int(-rate * seconds // links)),
            links=links,
            rate=rate,
            seconds=seconds,
            **asked,
        )

    def _deliveries(self) -> None:
        """What one more update costs the process that sends it: the same pushes with and without subscribers."""
        self.bench.say("deliveries")
        # what is asked for lies between larger numbers that scatter
        self.costs["delivery_us"] = max(statistics.median(self._delivery_s() for _ in range(3)) * 1e6, 0.0)
        # the rounds of pushes had a subscriber
        for together in (1, 20, 1_000):
            self.costs[f"push_{together}_us"] -= self.costs["delivery_us"]

    def _delivery_s(self) -> float:
        links = self._pushed
        extra = []
        for subscribers in (1, SUBSCRIBERS):
            spent = []
            for rounds in (1, 5):
                before = look(self.redis, *self.replicas)
                self.bench.generator.run(
                    "benchmarks.capacity.load:deliveries",
                    target=self.replicas[0].target,
                    subscribers=subscribers,
                    links=links,
                    rounds=rounds,
                    start_ms=self._next(rounds),
                )
                spent.append((look(self.redis, *self.replicas) - before).process_s[0])
            extra.append(spent[1] - spent[0])
        return (extra[1] - extra[0]) / (4 * links * (SUBSCRIBERS - 1))

    def _calls(self) -> None:
        self.bench.say("questions")
        while self._at_ms < now_ms() - feed.MINUTE_MS:  # a link that is silent has no answer ready
            self._round(together=1_000)
        question = pb.PredictRequest(link_id=feed.name(0)).SerializeToString()
        for name, method, request in (
            ("predict", "Predict", pb.PredictRequest),
            ("parameters", "GetOptimalParameters", pb.GetOptimalParametersRequest),
        ):
            bodies = [request(link_id=feed.name(i)).SerializeToString() for i in range(100)]
            used, calls = 0.0, 0.0
            for _ in range(3):
                before, seconds = look(self.redis, *self.replicas), self.bench.seconds(1.5)
                found = self.bench.load(
                    "closed",
                    target=self.replicas[0].target,
                    path=feed.SERVICE + method,
                    bodies=[_base64(body) for body in bodies],
                    callers=16,
                    seconds=seconds,
                    warm_s=0.0,
                )
                used += (look(self.redis, *self.replicas) - before).process_s[0]
                calls += found["rate"] * seconds
            self.costs[f"{name}_us"] = used / calls * 1e6
            self.costs[f"wire_{name}_bytes"] = self._carried(method, *bodies)
        # an update is an answer and the length of its field; no heads of its own
        self.costs["wire_update_bytes"] = self._run("feed:ask", method="Predict", body=_base64(question))["bytes"] + 3

    def _idle_streams(self) -> None:
        self.bench.say("idle streams")
        pid, streams = self.replicas[0].process.pid, self.bench.size(IDLE)
        self.bench.generator.run(
            "benchmarks.streams.load:idle", target=self.replicas[0].target, streams=100, links=100, settle_s=0.5
        )
        before = rss_bytes(pid)
        highest, done = [before], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                highest.append(rss_bytes(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.bench.generator.run(
            "benchmarks.streams.load:idle", target=self.replicas[0].target, streams=streams, links=100, settle_s=1.0
        )
        done.set()
        watcher.join()
        self.costs["stream_bytes"] = (max(highest) - before) / streams

    def _sweep(self) -> None:
        """Going through all links for those left behind."""
        self.bench.say("sweeps")
        process, store, links = asyncio.run(self._swept(3))
        self.costs["sweep_us"], self.costs["store_sweep_us"] = process / links * 1e6, store / links * 1e6

    async def _swept(self, rounds: int) -> tuple[float, float, int]:
        store = RedisStore.connect(
            self.redis.url, max_samples=10_000, retention_ms=30 * 86_400_000, clock=now_ms, timeout_s=10
        )
        known, links = LastKnown(NeverAway(), max_age_ms=60_000), 0
        try:
            began, server = time.process_time(), look(self.redis)
            for _ in range(rounds):
                async for link in all_links(store):
                    known.learn([link.newest_prediction])
                    links += 1
            return time.process_time() - began, (look(self.redis) - server).store_s, links
        finally:
            await store.close()

    # two replicas

    def _heard(self) -> None:
        """Memory of a link that others advance, and what its announcements cost."""
        self.bench.say("a second replica")
        _, second = self.replicas
        heard = rss_bytes(second.process.pid) - self.costs["process_base_bytes"]
        self.costs["heard_bytes"] = max(heard / self._links, 0.0)
        spent = self._spent(lambda: self._round(together=1_000))
        self.costs["event_us"] = spent.process_s[1] * 1e6

    def _followers(self) -> None:
        """What a reader of the announcements costs the server: bare readers, beside the same without them."""
        self.bench.say("readers of announcements")
        without = self._spent(lambda: self._round(together=1_000))
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(_read(self.redis.url, FOLLOWERS, stop)))
        thread.start()
        time.sleep(0.2)
        within = self._spent(lambda: self._round(together=1_000))
        stop.set()
        thread.join()
        self.costs["store_event_us"] = max((within.store_s - without.store_s) / FOLLOWERS * 1e6, 0.0)
        self.costs["store_event_bytes"] = (within.out_bytes - without.out_bytes) / FOLLOWERS

    def _taking_turns(self) -> None:
        """What it costs when another replica had the link's last sample."""
        self.bench.say("replicas that take turns")
        alone = self._spent(lambda: self._round(together=1_000))
        turns = self._spent(self._alternate, 2 * self._pushed, warm=2)
        both = sum(turns.process_s) - sum(alone.process_s)
        self.costs["reread_us"] = max(both * 1e6, 0.0)
        self.costs["store_reread_us"] = max((turns.store_s - alone.store_s) * 1e6, 0.0)
        self.costs["store_reread_bytes"] = max(turns.out_bytes - alone.out_bytes, 0)

    def _alternate(self) -> None:
        for place in (0, 1):
            self._round(together=1_000, replica=place)

    def validation(self) -> dict[str, Any]:
        """A mixed load on two replicas that no constant comes from."""
        self.bench.say("a mixed load, to compare the plan with")
        asked = {"links": self._pushed, "together": min(100, self._pushed), "subscribers": 4, "predicts": 100.0}
        seconds = self.bench.seconds(10.0)
        before = look(self.redis, *self.replicas)
        found = self._mixed(rate=800.0, seconds=seconds, **asked)
        used = look(self.redis, *self.replicas) - before
        return {
            "links": asked["links"],
            "interval_s": self._pushed * seconds / found["samples"],
            "together": asked["together"],
            "updates_per_s": found["updates"] / seconds,
            "predicts_per_s": found["predicts"] / seconds,
            "replicas": 2,
            "seconds": seconds,
            "process_cores": sum(used.process_s) / seconds,
            "store_cores": used.store_s / seconds,
            "store_in_mbps": used.in_bytes * 8e-6 / seconds,
            "store_out_mbps": used.out_bytes * 8e-6 / seconds,
            "store_bytes": int(self.redis.client.info("memory")["used_memory"]),
            "stored_links": self._links,
            "stored_samples": 12,
        }

    def sizes(self) -> None:
        """Bytes of a message of samples; the last, since it leaves gaps in what links have sent."""
        lots, one = (self._carried("PushSamples", *self._bodies(size)) for size in (500, 1))
        self.costs["wire_sample_bytes"] = (lots - one) / 499
        self.costs["wire_call_bytes"] = one - self.costs["wire_sample_bytes"]

    # what all of them use

    def _bodies(self, together: int) -> list[bytes]:
        """Some messages of new samples."""
        return [feed.batch(0, together, [self._next()], turn) for turn in range(4)]

    def _carried(self, method: str, *bodies: bytes) -> float:
        found = self.bench.generator.run(
            "benchmarks.capacity.load:sizes",
            target=self.replicas[0].target,
            method=method,
            bodies=[_base64(body) for body in bodies],
        )
        return float(found["bytes"])

    def _next(self, minutes: int = 1) -> int:
        """A time of which no link has a sample, with room for so many minutes."""
        first = self._at_ms + feed.MINUTE_MS
        self._at_ms += minutes * feed.MINUTE_MS
        return first

    def _run(self, function: str, **arguments: Any) -> dict[str, Any]:
        return self.bench.generator.run(f"benchmarks.harness.{function}", target=self.replicas[0].target, **arguments)

    def _round(self, *, together: int, conns: int = 1, replica: int = 0) -> None:
        """A new sample of each link: one that misses some has no forecast for a while."""
        self.bench.generator.run(
            "benchmarks.harness.feed:refresh",
            target=self.replicas[replica].target,
            links=self._pushed,
            at_ms=self._next(),
            most=together,
            conns=conns,
        )

    def _spent(self, work: Any, links: int = 0, warm: int = 1) -> Use:
        """What a link takes, the mean of rounds: processor time is told in hundredths of a second."""
        found, elapsed_s = [], 0.0
        for turn in range(warm + ROUNDS):
            before, began = look(self.redis, *self.replicas), time.perf_counter()
            work()
            time.sleep(0.1)  # what follows a round is counted with it
            if turn >= warm:
                elapsed_s += (time.perf_counter() - began) / ROUNDS
                found.append(look(self.redis, *self.replicas) - before)
        count = links or self._pushed
        idle_s, store_idle_s = (elapsed_s * self.costs[name] for name in ("idle_cores", "store_idle_cores"))
        return Use(
            tuple(
                max(statistics.fmean(one.process_s[i] for one in found) - idle_s, 0) / count
                for i in range(len(self.replicas))
            ),
            max(statistics.fmean(one.store_s for one in found) - store_idle_s, 0) / count,
            *(int(statistics.median(getattr(one, name) for one in found) / count) for name in _COUNTED),
        )


_COUNTED = ("in_bytes", "out_bytes", "disk_bytes")


async def _read(url: str, readers: int, stop: threading.Event) -> None:
    """Readers of the stream of announcements that throw away what they read."""
    clients = [Redis.from_url(url, protocol=2) for _ in range(readers)]

    async def follow(client: Redis) -> None:
        cursor: Any = "$"
        while not stop.is_set():
            for _, entries in await client.xread({keys.EVENTS: cursor}, count=1_000, block=200):
                cursor = entries[-1][0]
        await client.aclose()

    await asyncio.gather(*map(follow, clients))


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()
