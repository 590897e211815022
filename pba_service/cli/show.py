"""Commands that ask once and print: text for people, JSON for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from pba_client import Health
from pba_service.cli import connect
from pba_service.cli.told import CommandError, ExitCode
from pba_service.cli.words import METRICS, ago, clock, interval, mib, number, value_and_unit

if TYPE_CHECKING:
    from pba_client import CongestionControl, Parameters, Prediction

SHOWN_FORECASTERS = 3
SHOWN_ATTRIBUTIONS = 4


def plain(value: Any) -> Any:
    """A result as JSON has it: times in ISO 8601, spans as seconds under a name that ends in _s."""
    if is_dataclass(value) and not isinstance(value, type):
        record = {}
        for field in fields(value):
            inner = getattr(value, field.name)
            record[f"{field.name}_s" if isinstance(inner, timedelta) else field.name] = plain(inner)
        return record
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.name.lower() if isinstance(value, Enum) else value


def print_json(value: Any) -> None:
    """Prints a result as one line of JSON."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def print_health(target: str, service: str) -> None:
    """Prints what the service says of its health."""
    with connect.client(target) as client:
        health = client.health(service)
    typer.echo(health.name)
    if health is not Health.SERVING:
        raise CommandError(f"{service or 'the service'} is not serving", ExitCode.UNAVAILABLE)


def print_prediction(target: str, link_id: str, *, as_json: bool) -> None:
    """Prints a link's prediction."""
    with connect.client(target) as client:
        prediction = client.predict(link_id)
    if as_json:
        print_json(prediction)
        return
    typer.echo(
        f"{link_id} at {clock(prediction.valid_until)}, {prediction.horizon.total_seconds() / 60:g} min after its "
        f"newest sample ({ago(prediction.made_at)})"
    )
    typer.echo(_prediction_lines(prediction))


def _prediction_lines(prediction: Prediction) -> str:
    lines = []
    for metric in METRICS:
        value = getattr(prediction, metric.field)
        if value is None:
            lines.append(f"  {metric.title:<12} not measured")
            continue
        bounds = interval(getattr(prediction, metric.quantiles), metric)
        within = f"90 %: {bounds}" if bounds else ""
        lines.append(f"  {metric.title:<12} {value_and_unit(value, metric):<16} {within}".rstrip())
    lines.append(f"  {'confidence':<12} {prediction.confidence:.0%} that bandwidth and latency come within 20 %")
    lines.append(f"  {'made by':<12} model {prediction.model_version}, {prediction.source.name.lower()}")
    if prediction.condition is not None:
        told = prediction.condition
        where = ", ".join(told.metrics)
        lines.append(f"  {'condition':<12} {told.kind.name.lower().replace('_', ' ')} since {ago(told.since)}: {where}")
    if prediction.stale_since is not None:
        lines.append(f"  {'stale':<12} the store last answered {ago(prediction.stale_since)}; newer samples may exist")
    return "\n".join(lines)


def print_parameters(
    target: str,
    link_id: str,
    *,
    current_streams: int | None,
    congestion_control: CongestionControl,
    max_streams: int | None,
    max_buffer_bytes: int | None,
    memory_budget_bytes: int | None,
    current_buffer_bytes: int | None,
    current_pacing_mbps: float | None,
    loss_probes: int | None,
    as_json: bool,
) -> None:
    """Prints transport parameters."""
    with connect.client(target) as client:
        chosen = client.parameters(
            link_id,
            current_streams=current_streams,
            congestion_control=congestion_control,
            max_streams=max_streams,
            max_buffer_bytes=max_buffer_bytes,
            memory_budget_bytes=memory_budget_bytes,
            current_buffer_bytes=current_buffer_bytes,
            current_pacing_mbps=current_pacing_mbps,
            loss_probes=loss_probes,
        )
    if as_json:
        print_json(chosen)
        return
    pacing = "none" if chosen.pacing_mbps is None else f"{number(chosen.pacing_mbps)} Mbit/s"
    reasons = ", ".join(reason.name.lower().replace("_", " ") for reason in chosen.reasons)
    typer.echo(f"{link_id}: {'change over' if chosen.should_adjust else 'keep what you have'}")
    for title, text in (
        ("streams", str(chosen.streams)),
        ("buffer", f"{mib(chosen.buffer_bytes)} each"),
        ("chunk", mib(chosen.chunk_bytes)),
        ("pacing", pacing),
        ("unsent", f"at most {mib(chosen.not_sent_bytes)} in each socket" if chosen.not_sent_bytes else ""),
        ("goodput", _goodput(chosen)),
        ("rests on", chosen.source.name.lower()),
        ("because", reasons),
        ("", chosen.explanation),
        ("from", clock(chosen.apply_at) if chosen.apply_at else ""),
        ("valid until", clock(chosen.valid_until)),
    ):
        if text:
            typer.echo(f"  {title:<12} {text}")


def print_link(target: str, link_id: str, *, as_json: bool) -> None:
    """Prints all about a link."""
    with connect.client(target) as client:
        record = client.link(link_id)
    if as_json:
        print_json(record)
        return
    summary = record.summary
    newest = "never" if summary.newest_sample is None else ago(summary.newest_sample.measured_at)
    typer.echo(f"{link_id}: {summary.sample_count} samples, the newest {newest}")
    typer.echo(f"  {record.hit_ratio:.0%} of the recent predictions came true, {record.pending} wait for their time")
    for metric, learned in zip(METRICS, record.metrics, strict=False):
        if not learned.settled:
            continue
        heavy = sorted(learned.weights, key=lambda one: -one.weight)[:SHOWN_FORECASTERS]
        drivers = ", ".join(f"{one.forecaster} {one.weight:.0%}" for one in heavy)
        error = number(learned.mean_absolute_error, metric.scale)
        typer.echo(f"  {metric.title:<10} off by {error} {metric.unit} over {learned.settled} predictions; {drivers}")


def print_explanation(target: str, link_id: str, *, as_json: bool) -> None:
    """Prints what a link's prediction rests on."""
    with connect.client(target) as client:
        explanation = client.explain(link_id)
    if as_json:
        print_json(explanation)
        return
    typer.echo(f"{link_id} at {clock(explanation.prediction.valid_until)}")
    by_field = {metric.field: metric for metric in METRICS}
    for one in explanation.metrics:
        metric = by_field[one.metric]
        served = number(getattr(explanation.prediction, metric.field), metric.scale)
        steady, model = number(one.baseline_forecast, metric.scale), number(one.model_forecast, metric.scale)
        typer.echo(f"{metric.title}: {served} {metric.unit}; the model alone {model}, {steady} if nothing had moved")
        for moved in sorted(one.attributions, key=lambda a: -abs(a.value))[:SHOWN_ATTRIBUTIONS]:
            if moved.value:
                sign = "+" if moved.value > 0 else ""
                when = "now" if moved.lag == 0 else f"{moved.lag} slots before"
                typer.echo(f"  {sign}{number(moved.value, metric.scale)} {metric.unit} by {moved.input}, {when}")
        for part in sorted(one.contributions, key=lambda c: -c.weight)[:SHOWN_FORECASTERS]:
            typer.echo(f"  {part.weight:4.0%} {part.forecaster}: {number(part.forecast, metric.scale)} {metric.unit}")


def _goodput(chosen: Parameters) -> str:
    if chosen.expected_goodput_mbps is None:
        return ""
    told = f"{number(chosen.expected_goodput_mbps)} Mbit/s to be expected"
    if chosen.current_expected_goodput_mbps is None:
        return told
    return f"{told}, {number(chosen.current_expected_goodput_mbps)} with what you have"


def print_links(target: str, *, prefix: str, region: str, as_json: bool) -> None:
    """Prints the known links, one a line."""
    count = 0
    with connect.client(target) as client:
        for link in client.links(prefix=prefix, region=region):
            count += 1
            if as_json:
                print_json(link)
                continue
            newest = link.newest_sample
            cells = [f"{link.link_id:<32}", f"{link.sample_count:>7} samples"]
            if newest is not None:
                cells.append(f"newest {ago(newest.measured_at):<14}")
                cells += [
                    f"{metric.short} {value_and_unit(getattr(newest, metric.field), metric)}"
                    for metric in METRICS
                    if getattr(newest, metric.field) is not None
                ]
            cells += [
                text for text in (link.region, f"{link.node} - {link.peer}" if link.node or link.peer else "") if text
            ]
            typer.echo("  ".join(cells))
    if not count and not as_json:
        typer.echo("no link is known yet: push samples, or start the service with --demo")


def print_history(target: str, link_id: str, start: datetime | None, end: datetime | None, *, as_json: bool) -> None:
    """Prints stored samples."""
    with connect.client(target) as client:
        if not as_json:
            typer.echo(f"{'measured at':<24}" + "".join(f"{f'{m.title} {m.unit}':>20}" for m in METRICS))
        for sample in client.history(link_id, start, end):
            if as_json:
                print_json(sample)
                continue
            cells = (number(getattr(sample, m.field), m.scale) for m in METRICS)
            typer.echo(f"{plain(sample.measured_at):<24}" + "".join(f"{cell:>20}" for cell in cells))


def print_ledger(target: str, link_id: str, start: datetime | None, end: datetime | None, *, as_json: bool) -> None:
    """Prints predictions beside what came true, and their mean absolute errors."""
    errors: dict[str, list[float]] = defaultdict(list)
    hits = entries = 0
    with connect.client(target) as client:
        for entry in client.ledger(link_id, start, end):
            entries, hits = entries + 1, hits + entry.hit
            for metric in METRICS:
                error = getattr(entry.absolute_error, metric.field)
                if error is not None:
                    errors[metric.field].append(error)
            if as_json:
                print_json(entry)
                continue
            pairs = [
                f"{m.short} {number(getattr(entry.predicted, m.field), m.scale)} -> "
                f"{number(getattr(entry.actual, m.field), m.scale)} {m.unit}"
                for m in METRICS
                if getattr(entry.absolute_error, m.field) is not None
            ]
            typer.echo(
                "  ".join((clock(entry.target), "hit " if entry.hit else "miss", f"{entry.confidence:4.0%}", *pairs))
            )
    if as_json:
        return
    if not entries:
        typer.echo("no prediction has come to its time yet")
        return
    means = ", ".join(
        f"{m.title} {number(sum(errors[m.field]) / len(errors[m.field]), m.scale)} {m.unit}"
        for m in METRICS
        if errors[m.field]
    )
    typer.echo(f"{entries} predictions, {hits / entries:.0%} hits; mean absolute errors: {means}")
