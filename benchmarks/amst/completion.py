"""Estimates of transfers over recorded links, beside what came: coverage of the 80 % intervals, and errors.

The truth: a measurement stands for the time since the one before it. Stretches with gaps of over four steps are left
out. Sizes are what the link's median carries in 0.7, 3, 10 and 30 of its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.amst.completion import COMPLETION_LEVELS, bandwidth_forecast, completion_times_s
from pba_service.domain.forecast import Prediction, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.amst.replay import Replay

SIZES_STEPS = (0.7, 3, 10, 30)
HORIZON = 1


def rows(replays: Sequence[Replay], *, every: int, offset: int) -> list[tuple[str, float, bool, float, float, float]]:
    """(link, size in steps, covered, relative errors of ours, bytes/last, bytes/median of 10) per moment and size."""
    return [row for one in replays for k in range(offset, len(one.ends), every) for row in _moment(one, k)]


def _moment(one: Replay, k: int) -> Iterator[tuple[str, float, bool, float, float, float]]:
    known = np.isfinite(one.series.values[:, 0])
    times, mbps = one.series.times_ms[known], one.series.values[known, 0].astype(float)
    made_at, step_ms = int(one.series.times_ms[one.ends[k]]), int(one.step_ms[k])
    if not np.isfinite(one.values[k, 0]):
        return
    prediction = Prediction(
        one.link_id, made_at, step_ms, made_at + int(one.horizons_ms[k, HORIZON]), one.values[k], one.quantiles[k],
        float(one.confidence[k]), "replayed", Source.COMBINED,
    )  # fmt: skip
    forecast = bandwidth_forecast(prediction, zip(one.horizons_ms[k].tolist(), one.model[k], strict=True))
    now = int(np.searchsorted(times, made_at, side="right"))
    past, ahead = mbps[max(now - 10, 0) : now], slice(now, now + 400)
    spans = np.diff(np.concatenate([[made_at], times[ahead]])) / 1e3
    sent = np.cumsum(mbps[ahead] * spans)
    for steps in SIZES_STEPS:
        bits = float(np.median(mbps)) * steps * step_ms / 1e3
        if not len(sent) or sent[-1] < bits or spans[: max(int(3 * steps), 2)].max() > 4 * step_ms / 1e3:
            continue
        last = int(np.argmax(sent >= bits))
        before = sent[last - 1] if last else 0.0
        truth = spans[:last].sum() + (bits - before) / mbps[ahead][last]
        times_s = completion_times_s(forecast, transfer_bytes=max(round(bits * 1e6 / 8), 1), start_ms=made_at)
        low, middle, high = np.quantile(times_s, COMPLETION_LEVELS, method="inverted_cdf")
        by_last, by_median = bits / max(past[-1], 1e-3), bits / max(float(np.median(past)), 1e-3)
        errors = [abs(guess / truth - 1) for guess in (middle, by_last, by_median)]
        yield one.link_id, steps, bool(low <= truth <= high), *errors


def table(found: Sequence[tuple[str, float, bool, float, float, float]]) -> str:
    """A table in Markdown, by size."""
    lines = [
        "| size | estimates | within the 80 % interval | MdAPE ours | bytes / last | bytes / median of 10 |",
        "|---|---|---|---|---|---|",
    ]
    for size in (*SIZES_STEPS, None):
        own = [row for row in found if size is None or row[1] == size]
        covered = np.mean([row[2] for row in own])
        errors = np.median(np.array([row[3:] for row in own]), axis=0)
        name = "all" if size is None else f"{size:g} steps"
        lines.append(f"| {name} | {len(own)} | {covered:.1%} | {errors[0]:.3f} | {errors[1]:.3f} | {errors[2]:.3f} |")
    return "\n".join(lines)
