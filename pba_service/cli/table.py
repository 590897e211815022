"""The live table, and one link in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pba_client import ParametersSource
from pba_service.cli.words import METRICS, ago, interval, mib, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_client import Parameters, Prediction, Sample
    from pba_service.cli.board import LinkState
from pba_service.cli.words import Metric

FRESH_S = 6.0
"""How long after its sample a link is highlighted."""

_SURE, _UNSURE = 0.8, 0.6


def table(states: Sequence[LinkState], *, title: str = "", note: str = "", now: datetime | None = None) -> Table:
    """The links, one row each.

    Args:
        states: The links in order.
        title: Above.
        note: Below.
        now: The time.
    """
    now = now or datetime.now(UTC)
    heading = Text(title, style="table.title") if title else None  # an address in brackets is no markup
    grid = Table(title=heading, caption=note or None, title_justify="left", caption_justify="left", expand=False)
    grid.add_column("link", no_wrap=True, max_width=32)
    for metric in METRICS:
        grid.add_column(f"{metric.title} {metric.unit}\nnow → in 15 min\n(90 % interval)", justify="right")
    grid.add_column("confi-\ndence", justify="right")
    grid.add_column("streams x buffer\nat most", justify="left", no_wrap=True)
    for state in states:
        grid.add_row(
            _link_cell(state, now),
            *(_metric_cell(state.sample, state.prediction, metric) for metric in METRICS),
            _confidence_cell(state.prediction),
            _parameters_cell(state.parameters),
        )
    return grid


def _link_cell(state: LinkState, now: datetime) -> Text:
    text = Text(state.link_id, style="bold")
    if state.sample is None:
        return text
    age_s = (now - state.sample.measured_at).total_seconds()
    text.append(f"\n{state.sample_count} samples, {ago(state.sample.measured_at, now)}", style="dim not bold")
    if age_s < FRESH_S:
        text.stylize("green", 0, len(state.link_id))
    return text


def _metric_cell(sample: Sample | None, prediction: Prediction | None, metric: Metric) -> Text:
    now = number(getattr(sample, metric.field) if sample else None, metric.scale)
    ahead = number(getattr(prediction, metric.field) if prediction else None, metric.scale)
    text = Text(f"{now} → ")
    text.append(ahead, style="bold cyan")
    bounds = interval(getattr(prediction, metric.quantiles), metric) if prediction else ""
    if bounds:
        text.append(f"\n{bounds}", style="dim")
    return text


def _confidence_cell(prediction: Prediction | None) -> Text:
    if prediction is None:
        return Text("-")
    sure = prediction.confidence
    style = "green" if sure >= _SURE else "yellow" if sure >= _UNSURE else "red"
    return Text(f"{sure:.0%}", style=style)


def _parameters_cell(parameters: Parameters | None) -> Text:
    if parameters is None:
        return Text("-")
    pace = "unpaced" if parameters.pacing_mbps is None else f"{number(parameters.pacing_mbps)} Mbit/s"
    text = Text(f"{parameters.streams} x {mib(parameters.buffer_bytes)}")
    text.append(f"\n{pace}", style="dim")
    if parameters.source is not ParametersSource.PREDICTION:
        text.append(f" by {parameters.source.name.lower()}", style="dim yellow")
    return text


def line(state: LinkState) -> str:
    """A link in one line, for where there is no terminal."""
    sample, prediction, parameters = state.sample, state.prediction, state.parameters
    parts = [f"{prediction.made_at:%H:%M:%S}" if prediction else "--:--:--", state.link_id]
    for metric in METRICS:
        ahead = getattr(prediction, metric.field) if prediction else None
        if ahead is None:
            continue
        now = number(getattr(sample, metric.field) if sample else None, metric.scale)
        part = f"{metric.short} {now} -> {number(ahead, metric.scale)}"
        bounds = interval(getattr(prediction, metric.quantiles), metric)
        if bounds:
            part += f" ({bounds})"
        parts.append(f"{part} {metric.unit}")
    if prediction:
        parts.append(f"confidence {prediction.confidence:.0%}")
    if parameters:
        parts.append(f"use {parameters.streams} x {mib(parameters.buffer_bytes)} by {parameters.source.name.lower()}")
    return "  ".join(parts)
