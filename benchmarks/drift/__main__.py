"""python -m benchmarks.drift [--days 10] [--links 6] [--traces FILE]: false alarms and delays of `domain.drift`.

On simulated links of each kind without shifts, outages and congestion; on measured ones (parquet, CSV or JSONL) every
condition that is told is counted, true or not, for nobody knows.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from pba_service.domain.columns import Columns
from pba_service.domain.drift import ConditionKind, Record, decode, encode, follow
from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import Series
from pba_service.domain.simulate import LinkSimulator
from pba_service.domain.window import steps_ms
from pba_service.training.dataset import read_traces

START_MS = 1_767_225_600_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
AT_HAND = 500
WATCHED = 200
FACTORS = (0.5, 0.25, 4.0)


def watch(series: Series, first: int, last: int, blob: bytes, step_ms: int) -> tuple[bytes, list[tuple[int, str]]]:
    """Follows a link over samples first to last; what is newly told, and after how many samples."""
    told, before = [], None
    for k in range(first, last):
        part = slice(max(0, k - AT_HAND), k)
        columns = Columns.of([Series(series.times_ms[part], series.values[part])])
        [blob], [now] = follow([blob], columns, [step_ms])
        if now and (before is None or (now.kind, now.since_ms) != (before.kind, before.since_ms)):
            told.append((k - first, now.kind.name.lower()))
        before = now
    return blob, told


def simulated(days: int, links: int) -> None:
    """False alarms by kind of link, and how soon a step of the bandwidth is told."""
    for name, profile in PROFILES.items():
        quiet = replace(profile, regimes_per_day=0.0, outages_per_day=0.0, episodes_per_day=0.0)
        alarms: Counter[str] = Counter()
        delays: dict[float, list[float]] = {factor: [] for factor in FACTORS}
        for link in range(links):
            series = LinkSimulator(quiet, 100 + link).measured(
                START_MS, START_MS + days * DAY_MS + 2 * WATCHED * MINUTE_MS, MINUTE_MS
            )
            end = len(series) - WATCHED - 1
            blob, told = watch(series, 5, end, b"", MINUTE_MS)
            alarms.update(kind for _, kind in told)
            calm = encode(replace(decode(blob), shift=None, shift_until_ms=0))
            for factor, found in delays.items():
                values = series.values.copy()
                values[end:, 0] *= factor
                _, after = watch(Series(series.times_ms, values), end + 1, end + WATCHED, calm, MINUTE_MS)
                shifts = [k + 1 for k, kind in after if kind == ConditionKind.LEVEL_SHIFT.name.lower()]
                found.append(shifts[0] if shifts else np.inf)
        soon = "; ".join(
            f"x {factor:g}: {np.isfinite(found).sum()} of {links}, median {np.median(found):.0f} samples"
            for factor, found in delays.items()
        )
        print(f"{name:<18} in {days * links} days of links: {dict(alarms) or 'nothing'}; bandwidth {soon}", flush=True)


def measured(file: Path, most: int) -> None:
    """What is told of measured links, by collection."""
    told: dict[str, Counter[str]] = {}
    for trace in read_traces(file):
        series = Series(trace.series.times_ms[-most:], trace.series.values[-most:])
        step = int(steps_ms(series.times_ms, np.array([len(series) - 1]), MINUTE_MS)[0])
        counts = told.setdefault(trace.collection, Counter())
        counts["samples"] += len(series)
        counts.update(kind for _, kind in watch(series, 5, len(series), b"", step)[1])
    for collection, counts in sorted(told.items()):
        rates = {kind: round(counts["samples"] / n) for kind, n in counts.items() if kind != "samples"}
        print(f"{collection:<18} {counts['samples']} samples; one in so many: {rates or 'nothing'}", flush=True)


def main() -> None:
    """Prints what docs/experiments.md says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--links", type=int, default=6)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--most", type=int, default=3_000, help="samples of each measured link")
    arguments = parser.parse_args()
    print(f"a link's record: {len(encode(Record()))} bytes while nothing is told", flush=True)
    if arguments.traces:
        measured(arguments.traces, arguments.most)
    else:
        simulated(arguments.days, arguments.links)


if __name__ == "__main__":
    main()
