"""Offered load against goodput and latency: `python -m benchmarks.overload [--method GetOptimalParameters] [--write]`.

The service as it is shipped, and as control the same with PBA_LATENCY_TARGET=0s, so that nothing is refused: what is in
between is admission. What can be sustained is found with 16 callers that ask again as soon as they are answered. Then
calls come at multiples of that, whether they are answered or not, from a generator that is a process of its own.
Service and control take turns; figures are medians over the rounds. `--write` puts the table into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import base64
import math
import os
import statistics
from datetime import UTC, datetime
from typing import Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.generator import Generator
from benchmarks.harness.service import now_ms, service
from tests.chaos.page import put_into_page

LINKS, SAMPLES, CALLERS = 200, 40, 16
LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
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
    "answered p50, p99 ms",
    "refused/s",
    "refused p50, p99 ms",
    "without admission: answered/s",
    "its p50, p99 ms",
)


def measure(method: str, rounds: int, seconds: float) -> tuple[float, Results, Results]:
    """The sustainable rate, and the results of the service and of the control."""
    found: tuple[Results, Results] = ([[] for _ in LOADS], [[] for _ in LOADS])
    path = feed.SERVICE + method
    with Generator() as generator, service() as ours, service({"PBA_LATENCY_TARGET": "0s"}) as control:
        for one in (ours, control):
            generator.run(
                "benchmarks.harness.feed:fill", target=one.target, links=LINKS, samples=SAMPLES, end_ms=now_ms()
            )
        bodies = [base64.b64encode(REQUESTS[method](feed.name(i)).SerializeToString()).decode() for i in range(LINKS)]
        asked = {"path": path, "bodies": bodies}
        sustained: list[float] = []
        for _ in range(rounds):
            closed = generator.run(
                "benchmarks.harness.load:closed", target=ours.target, callers=CALLERS, seconds=seconds / 2, **asked
            )
            sustained.append(closed["rate"])
            for i, share in enumerate(LOADS):
                for one, results in zip((ours, control), found, strict=True):
                    rate = max(share * sustained[-1], 1.0)
                    one_run = generator.run(
                        "benchmarks.overload.offer:offer", target=one.target, rate=rate, seconds=seconds, **asked
                    )
                    results[i].append(one_run)
                    print(f"{share:g} {'service' if one is ours else 'control'} {one_run}", flush=True)
    return statistics.median(sustained), *found


def median(results: list[dict[str, Any]], name: str) -> float:
    """Over the rounds; NaN where nothing was of that kind."""
    values = [one[name] for one in results if not math.isnan(one[name])]
    return statistics.median(values) if values else math.nan


def times(results: list[dict[str, Any]], kind: str) -> str:
    """The median and the 99th percentile of those answered or refused."""
    return f"{median(results, f'{kind}_p50_ms'):.1f}, {median(results, f'{kind}_p99_ms'):.1f}"


def report(method: str, sustained: float, ours: Results, control: Results) -> str:
    """The table, in Markdown."""
    head = (
        f"`{method}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores shared with the generator and other work; "
        f"sustainable: {sustained:.0f} calls a second."
    )
    lines = [head, "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for share, mine, theirs in zip(LOADS, ours, control, strict=True):
        refused = times(mine, "refused") if median(mine, "refused") > 0 else "-"
        lines.append(
            f"| {share:g} | {median(mine, 'offered'):.0f} | {median(mine, 'answered'):.0f} | "
            f"{times(mine, 'answered')} | {median(mine, 'refused'):.0f} | {refused} | "
            f"{median(theirs, 'answered'):.0f} | {times(theirs, 'answered')} |"
        )
    failed = sum(one["failed"] for results in (*ours, *control) for one in results)
    return "\n".join([*lines, "", f"{failed} calls failed otherwise."])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=REQUESTS, default="GetOptimalParameters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    sustained, ours, control = measure(options.method, options.rounds, options.seconds)
    text = report(options.method, sustained, ours, control)
    print(text)
    if options.write:
        put_into_page("overload", text)


if __name__ == "__main__":
    main()
