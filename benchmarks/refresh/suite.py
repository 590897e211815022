"""Bulk refresh: new samples in, predictions at a subscriber, with everything on, in links per second."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING

from benchmarks.harness.feed import MINUTE_MS
from benchmarks.harness.generator import ROOT
from benchmarks.harness.quota import held
from benchmarks.harness.raw import BATCH, RawModel
from benchmarks.harness.service import cpu_s, family, now_ms, service
from benchmarks.harness.statistics import Figure, Section, compared, turns
from tests.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.runner import Bench

LINKS, SAMPLES = 2_000, 30
TOGETHER = 1_000
NODES = 80
"""Connections of nodes, which the system deals to processes: few large messages often came to one process of two."""

PART = 0.5
"""Of a core, what each process is held to where a second one is to have room."""

GATEWAY_LINKS = 10_000
MODEL = ROOT / "models" / "pba_lstm"


class Refreshing:
    """A service whose links get new samples, minute after minute.

    Attributes:
        processes: All of its processes.
        spent_us: Processor time that all of its processes took for a link in each round.
    """

    def __init__(self, bench: Bench, target: str, pid: int, links: int, minutes: int) -> None:
        self._bench, self._target, self._links = bench, target, links
        self.processes, self.spent_us = family(pid), list[float]()
        self._next_ms = now_ms() - minutes * MINUTE_MS
        bench.say(f"filling {links:,} links")
        bench.generator.run(
            "benchmarks.harness.feed:fill", target=target, links=links, samples=SAMPLES, end_ms=self._next_ms
        )

    def __call__(self, _turn: int, *, together: int = TOGETHER, conns: int = 1, minutes: int = 1) -> float:
        """One round; links per second."""
        self._next_ms += minutes * MINUTE_MS
        before = sum(map(cpu_s, self.processes))
        found = self._bench.generator.run(
            "benchmarks.harness.feed:refresh",
            target=self._target,
            links=self._links,
            at_ms=self._next_ms,
            most=together,
            conns=conns,
            minutes=minutes,
        )
        self.spent_us.append((sum(map(cpu_s, self.processes)) - before) / (minutes * self._links) * 1e6)
        return float(found["rate"])


@contextlib.contextmanager
def served(bench: Bench, workers: int, links: int) -> Iterator[Refreshing]:
    """A service of so many processes."""
    with standalone("--appendonly", "yes", "--appendfsync", "always") as redis:
        settings = {"PBA_WORKERS": str(workers)} if workers > 1 else {}
        with service(settings, redis_url=redis.url) as process:
            yield Refreshing(bench, process.target, process.process.pid, links, 4 * bench.rounds + 8)


def _bulk(bench: Bench) -> list[Figure]:
    """A gateway that reports for 10,000 links in one message, beside 100 that report for 100 links each."""
    links = bench.size(GATEWAY_LINKS)
    with served(bench, 1, links) as refreshing:
        found = turns(
            {
                "one": lambda turn: refreshing(turn, together=links),
                "many": lambda turn: refreshing(turn, together=100, conns=16),
            },
            bench.rounds,
        )
    return [
        compared(
            f"{links:,} links in one message", "links/s", found["one"], found["many"], f"{links // 100} messages of 100"
        )
    ]


def _with_room(bench: Bench, section: Section, many: Refreshing, two: Refreshing, nodes: dict[str, int]) -> None:
    """One process and two, each of which may have a part of a core."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held([*many.processes, *two.processes], PART))
        except OSError as error:
            section.notes.append(f"Nothing can be held to a part of a core here: {error.strerror}.")
            return
        works = {"one": lambda turn: many(turn, **nodes), "two": lambda turn: two(turn, **nodes)}
        found = turns(works, bench.rounds)
    what = f"two processes, {NODES} nodes, each held to {PART:g} of a core"
    section.figures.append(compared(what, "links/s", found["two"], found["one"], "one so held", goal=">= 1.6"))


def run(bench: Bench) -> Section:
    """All figures."""
    section = Section("refresh")
    links = bench.size(LINKS)
    raw = RawModel(MODEL)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(served(bench, 1, links))
        many = stack.enter_context(served(bench, 1, links))
        two = stack.enter_context(served(bench, 2, links))
        nodes = {"together": links // NODES, "conns": NODES, "minutes": 2}
        works: dict[str, Callable[[int], float]] = {
            "one": one,
            "one, nodes": lambda turn: many(turn, **nodes),
            "two, nodes": lambda turn: two(turn, **nodes),
            "raw, 1 thread": lambda _: raw.rate(bench.seconds(0.5)),
            "raw, 2 threads": lambda _: raw.rate(bench.seconds(0.5), threads=2),
        }
        found = turns(works, bench.rounds)
        spent_us = [list(each.spent_us[1:]) for each in (one, many, two)]
        whole, process = f"two processes, {NODES} nodes", "one process"
        section.figures += [
            compared("one process", "links/s", found["one"], found["raw, 1 thread"], "raw, 1 thread", goal=">= 0.8"),
            compared(whole, "links/s", found["two, nodes"], found["raw, 2 threads"], "raw, 2 threads"),
            compared(whole, "links/s", found["two, nodes"], found["one, nodes"], process, goal=">= 1.6"),
            compared(f"{whole}, processor time", "us/link", spent_us[2], spent_us[1], process),
        ]
        _with_room(bench, section, many, two, nodes)
    section.figures += _bulk(bench)
    section.notes.append(
        f"{links:,} links a round, one new sample each in messages of {TOGETHER:,}; timed from the first push until a "
        f"subscriber has the last prediction. Raw: batches of {BATCH} windows of pba_lstm. The service's process "
        f"spent {statistics.median(spent_us[0]):,.0f} us of processor time a link, reading, learning and "
        "publishing included. The service's processes, its server, the load generator and the subscriber share the "
        "machine's cores: where all of them are busy, as two are, a second process adds nothing. What it adds where it "
        f"has room is seen with each process held to {PART:g} of a core by a control group, as containers are to their "
        "limits."
    )
    return section
