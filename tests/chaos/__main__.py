"""Breaks everything under load: `python -m tests.chaos [scene ...] [--write]`, or `make chaos`.

Twelve clients push, others ask and follow, while something fails. Then every acknowledged sample is looked for in Redis
itself. The run fails when one is missing or there twice, when something is there that nobody sent, when a prediction is
of another link or not from the newest sample, or when a writer had to wait too long. `--write` puts the table into
docs/reliability.md.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import scenes
from tests.chaos.page import put_into_page

COLUMNS = (
    "fault",
    "acknowledged",
    "missing",
    "twice",
    "failed attempts",
    "longest wait, s",
    "answered from memory",
    "unanswered",
    "streams interrupted",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def row(one):
    """Of the table."""
    return (
        f"| {one.fault} | {one.acknowledged:,} | {one.balance.missing} | {one.balance.duplicated} | {one.failures} | "
        f"{one.silence_s:.1f} | {one.stale} | {one.unanswered} | {one.interruptions} |"
    )


async def run(names):
    """All outcomes of some scenes."""
    outcomes = []
    print(HEAD)
    for scene in scenes.SUITE:
        if names and scene.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="pba-chaos-", ignore_cleanup_errors=True) as folder:
            async for outcome in scene(Path(folder)):
                outcomes.append(outcome)
                print(row(outcome), flush=True)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", help=", ".join(scene.__name__ for scene in scenes.SUITE))
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    outcomes = asyncio.run(run(options.scenes))
    total = sum(one.acknowledged for one in outcomes)
    faults = [fault for one in outcomes for fault in one.faults]
    summary = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores shared with other work: {total:,} samples acknowledged, "
        f"{sum(one.balance.missing for one in outcomes)} missing, "
        f"{sum(one.balance.duplicated for one in outcomes)} twice."
    )
    print(summary, *faults, sep="\n")
    if options.write:
        put_into_page("chaos", "\n".join([summary, "", HEAD, *map(row, outcomes)]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
