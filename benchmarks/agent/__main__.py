"""Runs the benchmarks, as root: `python -m benchmarks.agent [accuracy [LOAD ...]|cost|loop]`; without a word all."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path as File

from benchmarks.agent import accuracy, cost, loop

HERE = File(__file__).parent
STORED = HERE / "accuracy.csv"
LOOP_MINUTES = 28


def _tell(line: str) -> None:
    print(line, flush=True)


def run_accuracy(words: list[str]) -> None:
    """Measures paths and stores each value beside the truth; of loads that are not named, what is stored stays."""
    loads = [load for load in accuracy.LOADS if load in words] or list(accuracy.LOADS)
    rows = accuracy.run(_tell, loads=loads)
    if STORED.exists():
        with STORED.open(newline="") as file:
            stored = [accuracy.Row.of(cells) for cells in list(csv.reader(file))[1:]]
        rows += [row for row in stored if row.load not in loads]
    with STORED.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(accuracy.HEADER)
        writer.writerows(row.cells() for row in rows)
    print(accuracy.table(rows))


def run_cost(_words: list[str]) -> None:
    """Measures what the agent costs."""
    print(cost.table(cost.run(_tell)))


def run_loop(_words: list[str]) -> None:
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
    known = {*WORDS, *accuracy.LOADS}
    if unknown := set(words) - known:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    for word, run in WORDS.items():
        if word in words or not words:
            print(f"== {word}", flush=True)
            run(words)


if __name__ == "__main__":
    main(sys.argv[1:])
