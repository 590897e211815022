"""Streams of predictions at scale."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness.feed import MINUTE_MS
from benchmarks.harness.service import fanout, now_ms, rss_bytes, service
from benchmarks.harness.statistics import Section, compared, plain, turns
from tests.servers import standalone

if TYPE_CHECKING:
    from benchmarks.harness.runner import Bench

IDLE, LINKS, SUBSCRIBERS = 10_000, 1_000, 1_000
TOGETHER = 20
"""Samples in one message where the delay is measured, and where it is found out how much can be borne."""

PREDICTION_BYTES = 230
"""About what one prediction takes on the wire."""

_ALL_AT_ONCE = {"PBA_MAX_WAITING": "20000"}  # its generator opens all streams in one instant, and none again
_SYNCED = ("--appendonly", "yes", "--appendfsync", "always")


def run(bench: Bench) -> Section:
    """All figures."""
    section = Section("streams")
    links = bench.size(LINKS)
    begin_ms = now_ms() - 200 * MINUTE_MS
    with standalone(*_SYNCED) as redis, service(_ALL_AT_ONCE, redis_url=redis.url) as process:
        bench.say(f"filling {links:,} links")
        bench.generator.run(
            "benchmarks.harness.feed:fill", target=process.target, links=links, samples=15, end_ms=begin_ms
        )
        at_ms = _delay(bench, section, process.target, links, begin_ms)
        bench.show(section)
        _deliveries(bench, section, process, links, at_ms)
        bench.show(section)
    with standalone(*_SYNCED) as redis, service(_ALL_AT_ONCE, redis_url=redis.url) as process:
        bench.generator.run(
            "benchmarks.harness.feed:fill", target=process.target, links=100, samples=12, end_ms=begin_ms
        )
        _idle(bench, section, process)
    return section


def _delay(bench: Bench, section: Section, target: str, links: int, at_ms: int) -> int:
    """Push to subscriber at 70 % of what the service keeps up with."""
    state = {"at": at_ms}

    def saturate(_turn: int) -> float:
        state["at"] += MINUTE_MS
        found = bench.generator.run(
            "benchmarks.harness.feed:refresh", target=target, links=links, at_ms=state["at"], most=TOGETHER, conns=16
        )
        return float(found["rate"])

    rates = turns({"rate": saturate}, bench.rounds)["rate"]
    section.figures.append(plain(f"saturation, messages of {TOGETHER} samples", "links/s", rates))
    rate = 0.7 * sorted(rates)[len(rates) // 2]
    found: dict[str, list[float]] = {"p50_ms": [], "p99_ms": []}
    missing = 0
    for _ in range(bench.rounds):
        seconds = bench.seconds(3.0)
        answer = bench.generator.run(
            "benchmarks.streams.load:delay",
            target=target,
            links=links,
            start_ms=state["at"] + MINUTE_MS,
            rate=rate,
            seconds=seconds,
            together=TOGETHER,
        )
        state["at"] += (int(rate * seconds / links) + 2) * MINUTE_MS
        missing += answer["missing"]
        for name, values in found.items():
            values.append(answer[name])
    section.figures += [
        plain(f"push to subscriber, p99 at {rate:,.0f} links/s (70 %)", "ms", found["p99_ms"], goal="<= 50"),
        plain("push to subscriber, p50 at 70 %", "ms", found["p50_ms"]),
    ]
    section.notes.append(
        f"Push to subscriber: messages of {TOGETHER} samples, timed from when each was due until a subscriber of all "
        f"links had the prediction; {missing} predictions were overtaken by the link's next."
    )
    return state["at"] + MINUTE_MS


def _deliveries(bench: Bench, section: Section, process: Any, links: int, at_ms: int) -> None:
    """Everybody follows everything."""
    subscribers = bench.size(SUBSCRIBERS)
    before = rss_bytes(process.process.pid)
    state = {"at": at_ms}

    def ours(_turn: int) -> float:
        found = bench.generator.run(
            "benchmarks.streams.load:deliveries",
            target=process.target,
            subscribers=subscribers,
            links=links,
            rounds=1,
            start_ms=state["at"],
        )
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} streams failed: {found['fault']}")
        state["at"] += MINUTE_MS
        return float(found["rate"])

    with fanout(PREDICTION_BYTES) as control:

        def theirs(_turn: int) -> float:
            return float(
                bench.generator.run(
                    "benchmarks.streams.load:control_deliveries", target=control, subscribers=subscribers, each=50
                )["rate"]
            )

        found = turns({"ours": ours, "control": theirs}, bench.rounds)
    section.figures += [
        compared(
            f"deliveries, {subscribers:,} subscribers of {links:,} links",
            "predictions/s",
            found["ours"],
            found["control"],
            "a message each",
            goal=">= 20",
        ),
        plain(
            "memory that this took the service",
            "MiB",
            [(rss_bytes(process.process.pid) - before) / 2**20],
            note="resident memory after all rounds less before; it does not grow with the rounds",
        ),
    ]


def _idle(bench: Bench, section: Section, process: Any) -> None:
    """Many streams that have nothing to say."""
    streams = bench.size(IDLE)
    pid = process.process.pid
    bench.generator.run("benchmarks.streams.load:idle", target=process.target, streams=200, links=100, settle_s=0.5)
    time.sleep(1)
    before = rss_bytes(pid)
    highest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            highest.append(rss_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = bench.generator.run("benchmarks.streams.load:idle", target=process.target, streams=streams, links=100)
    done.set()
    watcher.join()
    section.figures += [
        plain(f"{streams:,} streams opened at once, failed", "streams", [float(found["failed"])], goal="<= 0"),
        plain(f"{streams:,} streams, until all had their snapshot", "s", [found["open_s"]]),
        plain("memory of an idle stream", "KiB", [(max(highest) - before) / streams / 1024], goal="<= 32"),
    ]
