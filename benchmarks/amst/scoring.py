"""From the rows of real runs to the numbers that are claimed, and their pictures."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.amst.tcp import PAYLOAD_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path as File

ENOUGH = 0.95
PATH_FIELDS = ("rate_mbps", "rtt_ms", "loss_ratio", "queue_share", "congestion_control", "bursty")


@dataclass(frozen=True, slots=True)
class Scored:
    """One run of a rule: goodput over the best, own retransmissions, streams over the fewest that reach 95 %."""

    group: str
    rule: str
    goodput: float
    own_loss: float
    streams_over_fewest: float


def read(files: Iterable[File]) -> list[dict[str, str]]:
    """The valid runs of results files."""
    rows = []
    for file in files:
        with file.open() as lines:
            rows += [row for row in csv.DictReader(lines) if row["valid"] == "True"]
    return rows


def scores(rows: list[dict[str, str]]) -> list[Scored]:
    """Scores every run on its path. The best is the best valid run, but no more than the path can carry."""
    paths: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        paths[tuple(row[field] for field in PATH_FIELDS)].append(row)
    found = []
    for runs in paths.values():
        loss = float(runs[0]["loss_ratio"])
        most = float(runs[0]["rate_mbps"]) * PAYLOAD_SHARE * (1 - loss)
        best = min(max(float(run["goodput_mbps"]) for run in runs), most)
        enough = [int(run["streams"]) for run in runs if float(run["goodput_mbps"]) >= ENOUGH * best]
        fewest = max(min(enough), 2)
        for run in runs:
            found += [
                Scored(
                    run["group"],
                    rule,
                    min(float(run["goodput_mbps"]) / best, 1.0),
                    max(float(run["retransmitted_ratio"]) - loss, 0.0),
                    int(run["streams"]) / fewest,
                )
                for rule in run["rules"].split("+")
                if rule != "search"
            ]
    return found


def table(scored: list[Scored], rules: Iterable[str], groups: Iterable[str]) -> str:
    """A table in Markdown of some rules over some groups of paths."""
    chosen, lines = set(groups), []
    lines.append("| rule | paths | median | 5th percentile | least | own retransmissions, 95th | streams / fewest |")
    lines.append("|---|---|---|---|---|---|---|")
    for rule in rules:
        own = [one for one in scored if one.rule == rule and one.group in chosen]
        if not own:
            continue
        goodput = np.array([one.goodput for one in own])
        loss = np.quantile([one.own_loss for one in own], 0.95)
        ratio = np.array([one.streams_over_fewest for one in own])
        lines.append(
            f"| {rule} | {len(own)} | {np.median(goodput):.3f} | {np.quantile(goodput, 0.05):.3f} | "
            f"{goodput.min():.3f} | {loss:.1%} | {np.median(ratio):.1f} (most {ratio.max():.1f}) |"
        )
    return "\n".join(lines)


def picture(scored: list[Scored], rules: Iterable[str], groups: Iterable[str], file: File) -> None:
    """Goodput over the best, sorted, one line a rule."""
    import matplotlib as mpl  # noqa: PLC0415 - scoring in tests needs no pictures

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its backend was chosen

    chosen = set(groups)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for rule in rules:
        goodput = np.sort([one.goodput for one in scored if one.rule == rule and one.group in chosen])
        if len(goodput):
            share = np.linspace(0, 1, len(goodput))
            wide = 2.5 if rule in {"ours", "predicted"} else 1.2
            axes.plot(share, goodput, label=rule, linewidth=wide)
    axes.set_xlabel("share of paths")
    axes.set_ylabel("goodput / best found")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
