"""Does anything leak? `python -m tests.chaos.soak [--minutes 35] [--load 0.7] [--write]`, or `make soak`.

A service with its embedded server, as a process; many links that push and ask, at a share of what can be answered,
which is tried again for three seconds of every minute, since other work may come and go on this machine; subscribers
that come, stay for some seconds and go, some in good order and some not. Every ten seconds memory, file descriptors and
tasks are written down. The run fails when, after the first third, memory of the service or of its Redis has grown by
more than the bound, when calls failed for another reason than load, or when at the end, with all callers gone,
descriptors or tasks are left over. `--write` puts the table into docs/reliability.md.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pba_client import AsyncClient, Options, PbaClientError, Sample, Timeouts
from tests.chaos.page import put_into_page
from tests.process import ServiceProcess

LINKS = 60
CLIENTS = 8
CALLERS = 16
SUBSCRIBERS = 40
SAMPLE_EVERY_S = 10.0
KEPT_SAMPLES = 200

MAX_GROWTH_RATIO = 0.05
"""Of the memory of the service and of its Redis, from the second third's median to the last third's."""

BUSY = {"CapacityExceededError", "CallCancelledError", "DeadlineExceededError", "UnavailableError"}
"""How calls may fail on a machine that has other work as well."""

MAX_LEFT_DESCRIPTORS = 32
MAX_LEFT_TASKS = 2
"""At the end beyond those after the first caller; the pool of the store may have grown to its full size."""

TRY_S = 3.0
TRY_EVERY_S = 60.0


@dataclass(frozen=True)
class Reading:
    """What a service takes at a moment."""

    at_s: float
    service_mib: float
    store_mib: float
    descriptors: int
    tasks: int
    calls: int
    failed: int
    streams: int


@dataclass
class Counts:
    """What the load did so far."""

    calls: int = 0
    failed: int = 0
    skipped: int = 0
    streams: int = 0
    open_streams: int = 0
    updates: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Load:
    """Pushes and questions, three to one, over some channels; each link's time goes on by a minute with each push."""

    def __init__(self, target):
        self._target = target
        options = Options(timeouts=Timeouts(call_s=10))
        self.clients = [AsyncClient(target, options) for _ in range(CLIENTS)]
        self.counts = Counts()
        self._next = dict.fromkeys(range(LINKS), datetime.now(UTC) - timedelta(days=25))
        self._turn = 0

    async def call(self):
        self._turn += 1
        link, client = self._turn % LINKS, self.clients[self._turn % CLIENTS]
        try:
            if self._turn % 4:
                self._next[link] += timedelta(minutes=1)
                metrics = {"bandwidth_mbps": 50.0 + self._turn % 47, "latency_ms": 10.0 + self._turn % 7}
                await client.push(Sample(f"link-{link}", measured_at=self._next[link], **metrics))
            else:
                await client.parameters(f"link-{link}")
        except PbaClientError as error:
            self.counts.failed += 1
            name = type(error).__name__
            self.counts.errors[name] = self.counts.errors.get(name, 0) + 1
        else:
            self.counts.calls += 1

    async def capacity(self, seconds):
        """Calls per second of callers that ask again as soon as they are answered."""
        before, end = self.counts.calls, time.monotonic() + seconds

        async def caller():
            while time.monotonic() < end:
                await self.call()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (self.counts.calls - before) / seconds

    async def keep_up(self, share, end):
        """Calls at a share of the capacity, tried anew again and again; returns the capacities."""
        capacities = []
        while time.monotonic() < end:
            capacities.append(await self.capacity(TRY_S))
            await self._paced(max(share * capacities[-1], 1.0), min(end, time.monotonic() + TRY_EVERY_S - TRY_S))
        return capacities

    async def _paced(self, rate, end):
        """Calls at a rate; where the service falls behind by more than a second's worth, the rest is left out."""
        under_way = set()
        due = time.monotonic()
        while due < end:
            due += 1 / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if len(under_way) >= rate:
                self.counts.skipped += 1
                continue
            task = asyncio.create_task(self.call())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def subscriber(self, number, end):
        """One that comes and goes until the end: one in three closes its channel under its stream."""
        target = random.Random(number)  # noqa: S311 - load, not secrets
        while time.monotonic() < end:
            abrupt = target.random() < 1 / 3
            client = AsyncClient(self._target) if abrupt else self.clients[number % CLIENTS]
            watch = client.watch(f"link-{number}", prefix=f"link-{number % 10}", all_links=number % 10 == 0)
            self.counts.streams += 1
            self.counts.open_streams += 1
            try:
                async with asyncio.timeout(target.uniform(1, 20)):
                    async for _ in watch:
                        self.counts.updates += 1
            except (TimeoutError, PbaClientError):
                pass
            finally:
                self.counts.open_streams -= 1
                if abrupt:
                    await client.close()
                else:
                    await watch.aclose()
            await asyncio.sleep(target.uniform(0, 3))

    async def close(self):
        for client in self.clients:
            await client.close()


def memory_mib(pid):
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors(pid):
    """Open file descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def children(pid):
    """Processes that a process started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def gauge(text, name):
    """A metric's value in what Prometheus would scrape."""
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))


async def watch_service(service, load, end):
    """Readings until the end."""
    pid, began, readings = service.process.pid, time.monotonic(), []
    while time.monotonic() < end:
        await asyncio.sleep(SAMPLE_EVERY_S)
        try:
            text = await asyncio.to_thread(service.metrics)
        except OSError:
            continue  # a busy machine: the next reading will do
        readings.append(
            Reading(
                time.monotonic() - began,
                memory_mib(pid),
                sum(map(memory_mib, children(pid))),
                descriptors(pid),
                int(gauge(text, "dwcp_pba_tasks")),
                load.counts.calls,
                load.counts.failed,
                load.counts.open_streams,
            )
        )
        print(readings[-1], load.counts.errors or "", flush=True)
    return readings


def medians(readings, name):
    """Of each third."""
    third = len(readings) // 3
    parts = (readings[:third], readings[third : 2 * third], readings[2 * third :])
    return [statistics.median(getattr(one, name) for one in part) for part in parts]


def judge(readings, counts, before, after):
    """What is wrong, a sentence each; `before` and `after` are descriptors and tasks without callers."""
    faults = []
    for whose, name in (("the service", "service_mib"), ("its Redis", "store_mib")):
        _, second, last = medians(readings, name)
        if last > second * (1 + MAX_GROWTH_RATIO):
            grew = f"memory of {whose} grew from {second:.1f} to {last:.1f} MiB"
            faults.append(f"{grew}, more than {MAX_GROWTH_RATIO:.0%}")
    faults += [f"{count} calls failed: {name}" for name, count in counts.errors.items() if name not in BUSY]
    if not counts.calls or not counts.updates:
        faults.append(f"{counts.calls} calls were answered, {counts.updates} updates came")
    most = (MAX_LEFT_DESCRIPTORS, MAX_LEFT_TASKS)
    for name, few, many, more in zip(("descriptors", "tasks"), before, after, most, strict=True):
        if many > few + more:
            faults.append(f"{many - few} {name} are left over")
    return faults


def report(readings, load, capacities, *, share, before, after):
    """The table, in Markdown."""
    counts, minutes = load.counts, readings[-1].at_s / 60
    done = (readings[-1].calls - readings[0].calls) / (readings[-1].at_s - readings[0].at_s)
    errors = f" ({', '.join(f'{count} {name}' for name, count in counts.errors.items())})" if counts.errors else ""
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes, {os.cpu_count()} cores shared with other work: "
        f"{share:.0%} of what was answered in tries of {TRY_S:g} s every {TRY_EVERY_S:g} s (median "
        f"{statistics.median(capacities):.0f} calls a second, {min(capacities):.0f} to {max(capacities):.0f}); "
        f"{done:.0f} a second done on average. {counts.calls:,} calls answered, {counts.failed} failed{errors}, "
        f"{counts.skipped:,} left out because the service was behind. {counts.streams:,} subscriptions, "
        f"{counts.updates:,} updates."
    )
    lines = [
        head,
        "",
        "| minute | service, MiB | its Redis, MiB | descriptors | tasks | open streams |",
        "|---|---|---|---|---|---|",
    ]
    step = max(1, len(readings) // 12)
    lines += [
        f"| {one.at_s / 60:.1f} | {one.service_mib:.1f} | {one.store_mib:.1f} | {one.descriptors} | {one.tasks} | "
        f"{one.streams} |"
        for one in readings[::step]
    ]
    thirds = [medians(readings, name) for name in ("service_mib", "store_mib", "descriptors", "tasks", "streams")]
    for i, name in enumerate(("first", "second", "last")):
        cells = " | ".join(f"{values[i]:.1f}".removesuffix(".0") for values in thirds)
        lines.append(f"| median, {name} third | {cells} |")
    lines.append(f"| before, no callers | | | {before[0]} | {before[1]} | 0 |")
    lines.append(f"| after, all gone | | | {after[0]} | {after[1]} | 0 |")
    return "\n".join(lines)


async def soak(minutes, share, folder):
    """Runs it; returns the report and what is wrong."""
    environment = {"PBA_LOG_LEVEL": "warning", "PBA_MAX_SAMPLES": str(KEPT_SAMPLES)}
    with ServiceProcess(folder, environment=environment) as service:
        load = Load(service.target)
        await load.call()
        await load.close()
        before = await quiet(service)
        load = Load(service.target)
        end = time.monotonic() + 60 * minutes
        readings, capacities, *_ = await asyncio.gather(
            watch_service(service, load, end),
            load.keep_up(share, end),
            *(load.subscriber(number, end) for number in range(SUBSCRIBERS)),
        )
        await load.close()
        after = await quiet(service)
        return report(readings, load, capacities, share=share, before=before, after=after), judge(
            readings, load.counts, before, after
        )


async def quiet(service):
    """Descriptors and tasks of a service that nobody calls."""
    await asyncio.sleep(5)
    text = await asyncio.to_thread(service.metrics)
    return descriptors(service.process.pid), int(gauge(text, "dwcp_pba_tasks"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pba-soak-") as folder:
        text, faults = asyncio.run(soak(options.minutes, options.load, Path(folder)))
    text += "\n\n" + ("; ".join(faults) if faults else "Within the bounds.")
    print(text)
    if options.write:
        put_into_page("soak", text)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
