"""Offered load against goodput and latency: `python -m benchmarks.overload [--method GetOptimalParameters] [--write]`.

The service as it is shipped, and as control the same that refuses nothing and lets every call wait: what is in between
is what admission and the bound on waiting calls do. A rate is sustainable when calls come at it, whether those before
are answered or not, and 99 of 100 are answered within `PBA_LATENCY_TARGET` and none is refused; the highest is looked
for from what 16 callers get that ask again when they are answered. Then calls come at multiples of it. Service and
control take turns; figures are medians over the rounds. A bare server that refuses every call gets the highest rate as
well: faster than that no service in this process model can refuse by itself. `--write` puts the table into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import base64
import math
import os
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.echo import PATH as CONTROL
from benchmarks.harness.generator import Generator
from benchmarks.harness.service import now_ms, service
from benchmarks.overload.bare import bare
from tests.chaos.page import put_into_page

LINKS, SAMPLES, CALLERS = 200, 40, 16
LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
TARGET_MS = 50.0
SEARCHED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
UNBOUNDED = {"PBA_LATENCY_TARGET": "0s", "PBA_MAX_WAITING": "1000000"}
REQUESTS: dict[str, Any] = {
    "Predict": lambda link: pb.PredictRequest(link_id=link),
    "GetOptimalParameters": lambda link: pb.GetOptimalParametersRequest(link_id=link, current_streams=4),
    "ExplainPrediction": lambda link: pb.ExplainPredictionRequest(link_id=link),
}
Results = list[list[dict[str, Any]]]
"""For each load those of all rounds."""

COLUMNS = (
    "offered, of sustainable",
    "offered/s",
    "answered/s",
    "p50, p99 ms",
    "refused/s",
    "p50, p99 ms",
    "turned away by gRPC/s",
    "p50, p99 ms",
    "generator, of a core",
    "control: answered/s",
    "p50, p99 ms",
)


@dataclass
class Found:
    """What all rounds gave: sustainable rates, the results of the service, of its control and of the bare server."""

    sustainable: list[float] = field(default_factory=list)
    ours: Results = field(default_factory=lambda: [[] for _ in LOADS])
    control: Results = field(default_factory=lambda: [[] for _ in LOADS])
    bare: list[dict[str, Any]] = field(default_factory=list)


class Offers:
    """Calls of one method, offered by a generator."""

    def __init__(self, generator: Generator, method: str, seconds: float) -> None:
        """Of `method`, for `seconds` each time."""
        bodies = [base64.b64encode(REQUESTS[method](feed.name(i)).SerializeToString()).decode() for i in range(LINKS)]
        self._asked = {"path": feed.SERVICE + method, "bodies": bodies}
        self._generator, self._seconds = generator, seconds

    def closed(self, target: str) -> float:
        """Calls per second of a few callers that ask again as soon as they are answered."""
        found = self._generator.run(
            "benchmarks.harness.load:closed",
            target=target,
            callers=CALLERS,
            seconds=self._seconds / 2,
            **self._asked,
        )
        return float(found["rate"])

    def open(self, target: str, rate: float, *, path: str = "") -> dict[str, Any]:
        """Calls at a rate, whatever becomes of them."""
        asked = self._asked | ({"path": path} if path else {})
        return self._generator.run(
            "benchmarks.overload.offer:offer", target=target, rate=max(rate, 1.0), seconds=self._seconds, **asked
        )

    def sustainable(self, target: str) -> float:
        """The highest rate at which all are answered in time. Raises `RuntimeError` when there is none."""
        most = self.closed(target)
        for share in SEARCHED:
            tried = self.open(target, share * most)
            if tried["answered_p99_ms"] <= TARGET_MS and not (tried["refused"] or tried["turned_away"]):
                return share * most
        raise RuntimeError(f"not even {SEARCHED[-1]:g} of {most:.0f} calls a second are answered in time")


def measure(method: str, rounds: int, seconds: float, settings: dict[str, str]) -> Found:
    """Everything, in turn."""
    found = Found()
    with Generator() as generator, service(settings) as ours, service(UNBOUNDED) as control, bare() as refusing:
        for one in (ours, control):
            generator.run(
                "benchmarks.harness.feed:fill", target=one.target, links=LINKS, samples=SAMPLES, end_ms=now_ms()
            )
        offers = Offers(generator, method, seconds)
        for _ in range(rounds):
            found.sustainable.append(offers.sustainable(ours.target))
            for i, share in enumerate(LOADS):
                for name, target, results in (
                    ("service", ours.target, found.ours),
                    ("control", control.target, found.control),
                ):
                    results[i].append(offers.open(target, share * found.sustainable[-1]))
                    print(f"{share:g} {name} {results[i][-1]}", flush=True)
            found.bare.append(offers.open(refusing, LOADS[-1] * found.sustainable[-1], path=CONTROL))
            print(f"{LOADS[-1]:g} bare {found.bare[-1]}", flush=True)
    return found


def median(results: list[dict[str, Any]], name: str) -> float:
    """Over the rounds; NaN where nothing was of that kind."""
    values = [one[name] for one in results if not math.isnan(one[name])]
    return statistics.median(values) if values else math.nan


def times(results: list[dict[str, Any]], kind: str) -> str:
    """The median and the 99th percentile of those answered, refused or turned away; a dash for none."""
    if median(results, kind) == 0:
        return "-"
    return f"{median(results, f'{kind}_p50_ms'):.1f}, {median(results, f'{kind}_p99_ms'):.1f}"


def report(method: str, found: Found) -> str:
    """The table, in Markdown."""
    head = (
        f"`{method}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores shared with the generator; sustainable: "
        f"{statistics.median(found.sustainable):.0f} calls a second."
    )
    lines = [
        head,
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for share, mine, theirs in zip(LOADS, found.ours, found.control, strict=True):
        core = statistics.median(one["cpu_s"] / one["elapsed_s"] for one in mine)
        cells = [f"{share:g}", f"{median(mine, 'offered'):.0f}"]
        for kind in ("answered", "refused", "turned_away"):
            cells += [f"{median(mine, kind):.0f}", times(mine, kind)]
        cells += [f"{core:.2f}", f"{median(theirs, 'answered'):.0f}", times(theirs, "answered")]
        lines.append(f"| {' | '.join(cells)} |")
    failed = sum(one["failed"] for results in (*found.ours, *found.control) for one in results)
    tail = (
        f"{failed} calls failed otherwise. A bare grpc.aio server that does nothing but refuse, at {LOADS[-1]:g} "
        f"times that rate: {median(found.bare, 'offered'):.0f} a second offered, refused after "
        f"{times(found.bare, 'refused')} ms (p50, p99)."
    )
    return "\n".join([*lines, "", tail])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=REQUESTS, default="GetOptimalParameters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--waiting", type=int, help="PBA_MAX_WAITING of the service; as shipped without this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    settings = {} if options.waiting is None else {"PBA_MAX_WAITING": str(options.waiting)}
    text = report(options.method, measure(options.method, options.rounds, options.seconds, settings))
    print(text)
    if options.write:
        put_into_page("overload", text)


if __name__ == "__main__":
    main()
