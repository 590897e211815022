"""Cost of a push by the number of links, memory of a link, cold starts."""

from __future__ import annotations

import base64
import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.service import cpu_s, now_ms, rss_bytes, service
from benchmarks.harness.statistics import Section, compared, plain, turns
from tests.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.runner import Bench

POPULATIONS = (1_000, 10_000, 100_000)
PUSHED = 1_000
SAMPLES = 12
_SYNCED = ("--appendonly", "yes", "--appendfsync", "always")


def run(bench: Bench) -> Section:
    """All figures."""
    section = Section("scale")
    populations = [bench.size(size) for size in POPULATIONS]
    begin_ms = now_ms() - 30 * feed.MINUTE_MS
    with contextlib.ExitStack() as stack:
        works: dict[str, Callable[[int], float]] = {}
        spent: dict[int, list[float]] = {}
        for size in populations:
            redis = stack.enter_context(standalone(*_SYNCED))
            process = stack.enter_context(service({"PBA_UPDATE_INTERVAL": "1h"}, redis_url=redis.url))
            grown = _fill(bench, process, size, begin_ms)
            if size == populations[-1]:
                section.figures.append(plain(f"memory of a link in the process, {size:,} links", "KiB", [grown / 1024]))
            works[f"{size}"] = _pushing(bench, process, size, begin_ms, spent.setdefault(size, []))
        found = turns(works, bench.rounds)
        first = found[f"{populations[0]}"]
        for size in populations[1:]:
            section.figures.append(
                compared(
                    f"a push and its prediction, {size:,} links",
                    "us/link",
                    found[f"{size}"],
                    first,
                    f"{populations[0]:,} links",
                    goal="<= 1.2",
                    note=f"processor time of the service {statistics.median(spent[size]):,.0f} us a link, with "
                    f"{populations[0]:,} links {statistics.median(spent[populations[0]]):,.0f} us",
                )
            )
        bench.show(section)
        _cold(bench, section, redis.url, populations[-1])
    return section


def _fill(bench: Bench, process: Any, links: int, end_ms: int) -> float:
    """Gives links a history; returns by how much the process grew for each, in bytes."""
    bench.generator.run(
        "benchmarks.harness.feed:fill", target=process.target, links=100, samples=SAMPLES, end_ms=end_ms
    )
    before = rss_bytes(process.process.pid)
    bench.say(f"filling {links:,} links")
    bench.generator.run(
        "benchmarks.harness.feed:fill",
        target=process.target,
        links=links,
        samples=SAMPLES,
        end_ms=end_ms,
        timeout_s=900,
    )
    return (rss_bytes(process.process.pid) - before) / links


def _pushing(bench: Bench, process: Any, links: int, end_ms: int, spent: list[float]) -> Callable[[int], float]:
    """Microseconds for each of `PUSHED` links from all over the population, from its push to its prediction."""
    blocks = [0, links // 3, 2 * links // 3] if links >= 3 * PUSHED else [0]
    turns_done = [0]

    def work(_turn: int) -> float:
        visit, block = divmod(turns_done[0], len(blocks))
        turns_done[0] += 1
        before = cpu_s(process.process.pid)
        found = bench.generator.run(
            "benchmarks.harness.feed:refresh",
            target=process.target,
            links=min(PUSHED, links),
            first=blocks[block],
            at_ms=end_ms + (visit + 1) * feed.MINUTE_MS,
            most=100,
        )
        spent.append((cpu_s(process.process.pid) - before) / min(PUSHED, links) * 1e6)
        return 1e6 / float(found["rate"])

    return work


def _cold(bench: Bench, section: Section, filled_url: str, links: int) -> None:
    """From starting the process to the first prediction."""

    def empty(_turn: int) -> float:
        started = time.perf_counter()
        with service() as process:
            bench.generator.run(
                "benchmarks.harness.feed:fill", target=process.target, links=1, samples=12, end_ms=now_ms()
            )
            return time.perf_counter() - started

    def full(_turn: int) -> float:
        body = base64.b64encode(pb.PredictRequest(link_id=feed.name(links)).SerializeToString()).decode()
        started = time.perf_counter()
        with service(redis_url=filled_url) as process:
            bench.generator.run("benchmarks.harness.feed:ask", target=process.target, method="Predict", body=body)
            return time.perf_counter() - started

    # the link that is asked for needs samples of now
    with service({"PBA_UPDATE_INTERVAL": "1h"}, redis_url=filled_url) as process:
        bench.generator.run(
            "benchmarks.harness.feed:fill", target=process.target, links=1, samples=15, end_ms=now_ms(), first=links
        )
    found = turns({"empty": empty, "full": full}, bench.rounds)
    section.figures += [
        plain("first prediction after a cold start, empty", "s", found["empty"], goal="<= 2"),
        plain(f"first prediction after a cold start, {links:,} links in Redis", "s", found["full"], goal="<= 5"),
    ]
