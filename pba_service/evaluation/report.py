"""A summary as one HTML page with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pba_service.domain.samples import METRICS
from pba_service.evaluation.summary import FORECASTERS, MEAN
from pba_service.evaluation.text import text_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.evaluation.replay import Replayed
    from pba_service.evaluation.scores import LinkScores
    from pba_service.evaluation.summary import Summary

FAN_FORECASTS = 300
"""Forecasts in a fan chart: the newest."""

MAX_FANS = 6
_HOUR_MS = 3_600_000
_SERVED, _BASE = "#1f6feb", "#8b949e"
_UNITS = ("bandwidth, Mbit/s", "latency, ms", "loss ratio", "jitter, ms")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1c2128; }}
pre {{ overflow-x: auto; background: #f6f8fa; padding: 1rem; }} img {{ max-width: 100%; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: .15rem .7rem; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} tr:nth-child(even) {{ background: #f6f8fa; }}
</style></head><body><h1>{title}</h1>
<pre>{table}</pre>
<h2>Relative error</h2>{ratios}
<h2>Forecast and what came true</h2><p>The newest forecasts of some links: the served value, its 80 % and 90 %
intervals, and the sample of the target.</p>{fans}
<h2>Error by hour of day (UTC)</h2>{hours}
<h2>Reliability of the confidence</h2>{reliability}
<h2>Links</h2><table><tr><th>link</th><th>metric</th><th>forecasts</th><th>served</th><th>last</th><th>median of 10</th>
<th>best simple</th><th>MASE</th><th>pinball</th><th>90 % covers</th><th>width</th></tr>{rows}</table>
</body></html>
"""


def html_report(
    title: str, summary: Summary, scored: Sequence[LinkScores], replayed: Sequence[Replayed], *, part: float
) -> str:
    """The page. Pictures are of the scored part (0 to 1) of each link; they show at most `MAX_FANS` links."""
    shown = sorted(replayed, key=len, reverse=True)[:MAX_FANS]
    return _PAGE.format(
        title=html.escape(title),
        table=html.escape(text_table(summary)),
        ratios=_image(_ratios(summary), "relative errors"),
        fans="".join(_image(_fan(link), link.link_id) for link in shown),
        hours=_image(_hours(replayed, part), "error by hour"),
        reliability=_image(_reliability(summary), "reliability"),
        rows="".join(_row(link, metric) for link in scored for metric in link.metrics),
    )


def _row(link: LinkScores, metric: Any) -> str:
    best = metric.best_simple
    cells = [
        html.escape(link.link_id),
        metric.metric,
        str(metric.forecasts),
        *(f"{metric.mae[name]:.4g}" for name in ("served", "last", "median10")),
        f"{metric.mae[best]:.4g} ({best})",
        f"{metric.mase:.3f}",
        f"{metric.pinball:.4g}",
        f"{100 * metric.coverage_90:.1f} %",
        f"{metric.width_90:.4g}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def _image(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></p>'


def _ratios(summary: Summary) -> Figure:
    figure, [axis] = _figure(1, 9, 3.6)
    names = [name for name in FORECASTERS if np.isfinite(summary.ratios[name][MEAN])]
    values = [summary.ratios[name][MEAN] for name in names]
    bars = axis.barh(names[::-1], values[::-1], color=[_SERVED if name == "served" else _BASE for name in names[::-1]])
    axis.bar_label(bars, fmt="%.3f", padding=3)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel("mean absolute error relative to the last value's, mean of the metrics")
    return figure


def _fan(link: Replayed) -> Figure:
    columns = [c for c in range(len(METRICS)) if np.isfinite(link.actual[-FAN_FORECASTS:, c]).any()]
    figure, axes = _figure(max(len(columns), 1), 11, 2.6)
    figure.suptitle(link.link_id, fontsize=10)
    hours = (link.target_ms[-FAN_FORECASTS:] - link.target_ms[-1]) / _HOUR_MS
    for axis, column in zip(axes, columns, strict=False):
        quantiles = link.quantiles[-FAN_FORECASTS:, column]
        axis.fill_between(hours, quantiles[:, 0], quantiles[:, 4], color=_SERVED, alpha=0.15, linewidth=0)
        axis.fill_between(hours, quantiles[:, 1], quantiles[:, 3], color=_SERVED, alpha=0.25, linewidth=0)
        axis.plot(hours, link.actual[-FAN_FORECASTS:, column], ".", color="black", markersize=2)
        axis.plot(hours, link.values[-FAN_FORECASTS:, column], color=_SERVED, linewidth=1)
        axis.set_title(_UNITS[column])
        axis.set_xlabel("hours before the newest target")
    return figure


def _hours(replayed: Sequence[Replayed], part: float) -> Figure:
    """Served error by the target's hour relative to each link-metric's mean error; the last value's beside it."""
    figure, axes = _figure(len(METRICS), 11, 2.6)
    for axis, column in zip(axes, range(len(METRICS)), strict=True):
        for forecaster, colour in (("served", _SERVED), ("last", _BASE)):
            sums, counts = np.zeros(24), np.zeros(24)
            for link in replayed:
                first = len(link) - round(len(link) * part)
                said = link.values if forecaster == "served" else link.experts[:, :, 0]
                errors = np.abs(link.actual[first:, column] - said[first:, column]).astype(np.float64)
                reference = np.abs(link.actual[first:, column] - link.experts[first:, column, 0])
                if not np.isfinite(reference).any() or not np.nanmean(reference):
                    continue
                known = np.isfinite(errors)
                hour = (link.target_ms[first:][known] // _HOUR_MS % 24).astype(int)
                relative = errors[known] / np.nanmean(reference)
                sums += np.bincount(hour, relative, 24)
                counts += np.bincount(hour, minlength=24)
            axis.plot(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), color=colour, label=forecaster)
        axis.set_title(_UNITS[column])
        axis.set_xlabel("hour")
    axes[0].set_ylabel("error / last value's mean error")
    axes[0].legend(frameon=False)
    return figure


def _reliability(summary: Summary) -> Figure:
    figure, [axis, counts] = _figure(2, 9, 3.4)
    bins = [row for row in summary.reliability if row[2]]
    axis.plot([0, 1], [0, 1], color=_BASE, linewidth=0.8)
    axis.plot([said for said, _, _ in bins], [true for _, true, _ in bins], "o-", color=_SERVED)
    axis.set_xlabel("confidence said")
    axis.set_ylabel("share that came true")
    counts.bar([said for said, _, _ in bins], [n for _, _, n in bins], width=0.07, color=_SERVED)
    counts.set_xlabel("confidence said")
    counts.set_ylabel("forecasts")
    return figure
