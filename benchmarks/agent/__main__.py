"""Runs the benchmarks, as root: `python -m benchmarks.agent [accuracy|cost|loop]`; without a word all of them."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path as File

from benchmarks.agent import accuracy, cost, loop

HERE = File(__file__).parent
LOOP_MINUTES = 28


def _tell(line: str) -> None:
    print(line, flush=True)


def run_accuracy() -> None:
    """Measures paths and stores each value beside the truth."""
    rows = accuracy.run(_tell)
    with (HERE / "accuracy.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(accuracy.HEADER)
        writer.writerows(row.cells() for row in rows)
    print(accuracy.table(rows))


def run_cost() -> None:
    """Measures what the agent costs."""
    print(cost.table(cost.run(_tell)))


def run_loop() -> None:
    """Closes the loop, and draws it."""
    if "TRACES_DIR" not in os.environ:
        print("loop: skipped, TRACES_DIR names no folder with dev.parquet")
        return
    outcomes = loop.run(LOOP_MINUTES, _tell)
    print(loop.table(outcomes))
    loop.picture(outcomes, HERE / "loop.png")


WORDS = {"accuracy": run_accuracy, "cost": run_cost, "loop": run_loop}


def main(words: list[str]) -> None:
    """Runs what the words name; with none everything."""
    if unknown := set(words) - WORDS.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORDS)}")
    for word, run in WORDS.items():
        if word in words or not words:
            print(f"== {word}", flush=True)
            run()


if __name__ == "__main__":
    main(sys.argv[1:])
