"""Runs the benchmarks: `python -m benchmarks.amst [sweep|real|transfers|changing|report]`; without a word all of them.

Args by word: sweep needs nothing; transfers and changing want TRACES_DIR; real and changing want root, gcc, iproute2
and /dev/net/tun, and take about half an hour and four minutes. Results go to benchmarks/amst/data.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path as File

import numpy as np

from benchmarks.amst import changing, completion, errors, real, replay, scoring, sweep
from benchmarks.amst.rules import RULES

HERE = File(__file__).parent
RUNS, CHANGING = HERE / "data" / "real_runs.csv", HERE / "data" / "changing.csv"
NAMES = [*RULES, "predicted"]
CHANGING_HEADER = [
    "episode", "rtt_ms", "loss_ratio", "way", "most_streams", "goodput_mbps", "queue_ms", "retransmitted_ratio",
    "sized_transfer_s", "valid",
]  # fmt: skip


def run_sweep(_replays: list[replay.Replay]) -> None:
    """Scores on the recorded sweep."""
    print(sweep.table())


def run_real(replays: list[replay.Replay]) -> None:
    """Runs grid, random paths, BBR paths and the class kept apart; the errors only where there are traces."""
    paths = {"grid": real.grid(), "random": real.drawn(13, 11, "cubic"), "bbr": real.drawn(7, 8, "bbr")}
    todo = [job for group, chosen in paths.items() for job in real.jobs(group, chosen, RULES)]
    if replays:
        moments, chance = errors.moments(replays), np.random.default_rng(5)
        todo += [
            real.Job(group, path, errors.predicted(path, moments, chance), "predicted")
            for group, chosen in paths.items()
            for path in chosen
            for _ in range(2)
        ]
    random.Random(2).shuffle(todo)  # noqa: S311 - an order, no secret
    todo += list(real.jobs("bursty", real.drawn(8, 9, "cubic", bursty=True), RULES))
    RUNS.unlink(missing_ok=True)
    real.run_all(todo, RUNS)


def run_transfers(replays: list[replay.Replay]) -> None:
    """Scores estimates of transfers."""
    print(completion.table(completion.rows(replays, every=30, offset=15)))


def run_changing(replays: list[replay.Replay]) -> None:
    """Runs changing paths."""
    episodes = changing.drawn_up()
    if replays:
        episodes += changing.recorded([one for one in replays if len(one.ends) > 60], 6, 3)
    rows = changing.run(episodes, lambda line: print(line, flush=True))
    with CHANGING.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CHANGING_HEADER)
        writer.writerows(rows)


def run_report(_replays: list[replay.Replay]) -> None:
    """Prints the tables of the real runs and draws their picture."""
    scored = scoring.scores(scoring.read([RUNS]))
    for groups in (("grid", "random", "bbr"), ("bursty",)):
        print(f"\n{', '.join(groups)}\n\n{scoring.table(scored, NAMES, groups)}")
    scoring.picture(scored, NAMES, ("grid", "random", "bbr"), HERE / "goodput.png")


WORDS = {
    "sweep": run_sweep,
    "real": run_real,
    "transfers": run_transfers,
    "changing": run_changing,
    "report": run_report,
}


def main(words: list[str]) -> None:
    """Runs what the words name; with none everything."""
    if unknown := set(words) - WORDS.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORDS)}")
    chosen = [word for word in WORDS if word in words or not words]
    folder = replay.traces_folder()
    replays: list[replay.Replay] = []
    if folder is not None and {"real", "transfers", "changing"} & set(chosen):
        print("predicting over recorded links, some minutes ...", flush=True)
        replays = replay.replay(replay.links_with_bandwidth(folder))
    for word in chosen:
        if word == "transfers" and not replays:
            print("transfers: skipped, TRACES_DIR names no folder with dev.parquet")
            continue
        print(f"== {word}", flush=True)
        WORDS[word](replays)


if __name__ == "__main__":
    main(sys.argv[1:])
