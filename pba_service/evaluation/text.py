"""A summary as plain text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pba_service.domain.samples import METRICS
from pba_service.evaluation.summary import ALL, FORECASTERS, MEAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pba_service.evaluation.summary import Summary

_COLUMNS = (*METRICS, MEAN, ALL)
_HEADS = ("bandwidth", "latency", "loss", "jitter", "mean", "all")


def text_table(summary: Summary) -> str:
    """The whole summary, for a terminal."""
    whole, best = summary.coverage_long, summary.near_best
    links, collections = _count(summary.links, "link"), _count(len(summary.collections), "collection")
    lines = [f"{links} of {collections}; mean absolute error at 15 minutes relative to the last value's"]
    lines += [_row("", _HEADS)]
    lines += [_row(name, _cells(summary.ratios[name])) for name in FORECASTERS]
    lines += ["", "served error relative to"]
    lines += [_row("better of last, median10", _cells(summary.to_better))]
    lines += [_row("best simple in hindsight", _cells(summary.to_best))]
    lines += [_row("itself without the model", _cells(summary.to_without_model)), ""]
    lines += [f"within 1.05 of the best forecaster, after 1,000 forecasts: {_percent(best)} of link-metrics"]
    covered = [_percent(share) for share in summary.mean_coverage]
    lines += [f"90 % intervals cover {covered[1]} on average, 80 % intervals {covered[0]}"]
    lines += [f"  88 to 92 % on {_percent(whole)} of the link-metrics with 1,000 forecasts"]
    lines += [f"  85 to 95 % on {_percent(summary.coverage_medium)} of those with 200"]
    lines += [f"  at least 80 % in the worst stretch of 200 on {_percent(summary.worst_stretch)}"]
    ratios = [_number(summary.interval_ratios[name]) for name in ("model", "recent")]
    lines += [f"  interval score {ratios[0]} of the model's uncalibrated, {ratios[1]} of recent quantiles'"]
    lines += [f"confidence: expected calibration error {_number(summary.calibration_error)}"]
    sure, true = _percent(summary.sure_share), _percent(summary.sure_hits)
    lines += [f"  at least 0.8 for {sure} of the forecasts, of which {true} came true"]
    bins = [row for row in summary.reliability if row[2]]
    lines += [_row("  said", [_number(said, 2) for said, _, _ in bins])]
    lines += [_row("  came true", [_number(came, 2) for _, came, _ in bins])]
    lines += [_row("  forecasts", [str(n) for _, _, n in bins])]
    lines += ["", "mean absolute percentage error, median link (served / last value)"]
    lines += [
        f"  {name:<24} bandwidth {_pair(errors, 'bandwidth_mbps')}   latency {_pair(errors, 'latency_ms')}"
        for name, errors in summary.mape.items()
    ]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _row(name: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"{name:<26}" + "".join(f"{cell:>10}" for cell in cells)


def _cells(values: Mapping[str, float]) -> list[str]:
    return [_number(values[column]) for column in _COLUMNS]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def _pair(names: Mapping[str, float], metric: str) -> str:
    return " / ".join(_percent(names.get(f"{metric}/{who}", math.nan)) for who in ("served", "last"))
