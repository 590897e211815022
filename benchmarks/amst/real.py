"""The real form: every rule and a search over numbers of streams, on real kernel TCP over emulated paths."""

from __future__ import annotations

import csv
import queue
import random
import threading
import time
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from benchmarks.amst import lab
from benchmarks.amst.rules import RULES, Path, Setting, Told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path as File

SEARCHED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
BUDGET_MBPS = 300.0
AT_ONCE = 8
TRIES = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer to run; `rules` are those that want exactly this setting, "search" among them."""

    group: str
    path: Path
    setting: Setting
    rules: str


@dataclass(frozen=True, slots=True)
class Result:
    """One transfer that was run."""

    job: Job
    run: lab.Run

    def row(self) -> list[object]:
        """As a row of the results file."""
        return [
            self.job.group,
            self.job.rules,
            *astuple(self.job.path),
            *astuple(self.job.setting),
            *(round(v, 5) if isinstance(v, float) else v for v in astuple(self.run)),
        ]


HEADER = ["group", "rules", *(f.name for f in (*fields(Path), *fields(Setting), *fields(lab.Run)))]


def grid(control: str = "cubic") -> list[Path]:
    """The corners: rates, round trips, losses, shallow and deep queues."""
    return [
        Path(rate, rtt, loss, share, control)
        for rate, rtt, loss, share in (
            (10, 2, 0.01, 1), (10, 20, 0.03, 0.25), (10, 80, 0.001, 0.25), (10, 200, 0.01, 1), (10, 200, 0.0, 0.25),
            (50, 2, 0.03, 1), (50, 20, 0.0, 0.25), (50, 20, 0.01, 1), (50, 80, 0.001, 1), (50, 200, 0.001, 0.25),
            (100, 2, 0.001, 1), (100, 20, 0.0001, 0.25), (100, 80, 0.0, 0.25), (100, 20, 0.01, 1),
            (200, 20, 0.001, 1), (200, 80, 0.0, 1), (50, 80, 0.01, 0.25), (10, 80, 0.03, 1),
        )
    ]  # fmt: skip


def drawn(count: int, seed: int, control: str, *, bursty: bool = False) -> list[Path]:
    """Random paths: 10 to 500 Mbit/s and 2 to 200 ms log-uniform, 0 to 3 % loss (a third none), queues .1 to 2 BDP.

    Paths whose best needs more than the 256 streams that PBA may recommend are left out.
    """
    chance = random.Random(seed)  # noqa: S311 - reproducible paths, no secrets
    paths: list[Path] = []
    while len(paths) < count:
        rate, rtt = 10 * 50 ** chance.random(), 2 * 100 ** chance.random()
        loss = 0.0 if chance.random() < 1 / 3 and not bursty else 1e-4 * 300 ** chance.random()
        share = 0.1 * 20 ** chance.random()
        path = Path(round(rate, 2), round(rtt, 2), round(loss, 6), round(share, 3), control, bursty)
        if control == "bbr" or RULES["pftk"](Told.exactly(path)).streams < SEARCHED[-1] / 2:
            paths.append(path)
    return paths


def jobs(group: str, paths: Iterable[Path], rules: Iterable[str], searched: Iterable[int] = SEARCHED) -> Iterator[Job]:
    """The transfers of some paths: a search around what the rules choose, and the rules themselves, each once."""
    for path in paths:
        wanted: dict[Setting, list[str]] = {}
        for rule in rules:
            wanted.setdefault(RULES[rule](Told.exactly(path)), []).append(rule)
        middle = RULES["ours"](Told.exactly(path)).streams
        for streams in searched:
            if max(middle / 3, 1) <= streams <= max(3 * middle, 8) or streams == 64:
                wanted.setdefault(Setting(streams), []).append("search")
        for setting, names in wanted.items():
            yield Job(group, path, setting, "+".join(names))


def run_all(todo: list[Job], results: File, *, budget_mbps: float = BUDGET_MBPS) -> None:
    """Runs jobs side by side within a budget of bandwidth, appends each to the results, tells how far it is."""
    programs = lab.build()
    tags: queue.Queue[str] = queue.Queue()
    for number in range(AT_ONCE):
        tags.put(str(number))
    gate, written = threading.Condition(), threading.Lock()
    used, started = [0.0], time.monotonic()
    count = [0]
    fresh = not results.exists()
    with results.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(HEADER)

        def work(job: Job, tag: str) -> None:
            try:
                for attempt in range(TRIES):
                    run = lab.transfer(programs, job.path, job.setting, tag=tag, seed=attempt + 1)
                    if run.valid:
                        break
                with written:
                    writer.writerow(Result(job, run).row())
                    file.flush()
                    count[0] += 1
                    spent = time.monotonic() - started
                    print(f"\r{count[0]}/{len(todo)} runs, {spent:.0f} s", end="", flush=True)
            finally:
                with gate:
                    used[0] -= job.path.rate_mbps
                    tags.put(tag)
                    gate.notify_all()

        threads = []
        for job in todo:
            with gate:
                gate.wait_for(
                    lambda job=job: (
                        tags.qsize() == AT_ONCE or (not tags.empty() and used[0] + job.path.rate_mbps <= budget_mbps)
                    )
                )
                used[0] += job.path.rate_mbps
                tag = tags.get()
            thread = threading.Thread(target=work, args=(job, tag))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
    for number in range(AT_ONCE):
        lab.clean(str(number))
