"""What `pba models` prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from pba_client import NotPermittedError
from pba_service.cli import connect
from pba_service.cli.show import print_json
from pba_service.cli.words import clock, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client import Client, Model, ModelState, PinScope

_CHECKSUM_DIGITS = 12


def list_models(target: str, *, as_json: bool) -> None:
    """Prints the known models, what is desired of them, and which replica serves which."""
    with connect.client(target) as client:
        models = client.models()
        state, serving, replicas = None, Counter[str](), 0
        if not as_json:
            with suppress(NotPermittedError):  # what is desired is for admins
                state = client.model_state()
                serving.update(replica.serving_version for replica in client.replicas())
                replicas = serving.total()
    if as_json:
        for one in models:
            print_json(one)
        return
    width = max((len(one.version) for one in models), default=0)
    for one in models:
        words = [
            "active" * bool(state and one.version == state.active_version),
            f"serving on {serving[one.version]} of {replicas}" * bool(serving[one.version]),
            "serving" * (one.serving and not replicas),
            "loaded" * (one.loaded and not one.serving),
            "published" * one.published,
        ]
        typer.echo(f"{one.version:<{width}}  trained {_made(one)}  {', '.join(filter(None, words))}".rstrip())
    if state:
        typer.echo("")
        print_state(state, as_json=False)


def show_model(target: str, version: str, *, as_json: bool) -> None:
    """Prints all about a model."""
    with connect.client(target) as client:
        one = client.model(version)
    if as_json:
        print_json(one)
        return
    horizons = ", ".join(f"{horizon.total_seconds() / 60:g}" for horizon in one.horizons)
    typer.echo(f"{one.name} {one.version}{', serving' if one.serving else ''}")
    typer.echo(f"  trained {_made(one)}, {one.parameter_count or 'an unknown number of'} parameters")
    typer.echo(f"  predicts {horizons} min ahead from {one.window_slots} slots")
    typer.echo(f"  sha256 {one.checksum_sha256}")
    if one.parent_version:
        typer.echo(f"  made from {one.parent_version}")
    if data := one.training:
        times = [clock(time) for time in (data.first_measured_at, data.last_measured_at) if time]
        between = f", {' to '.join(times)}" if times else ""
        print_ = f", fingerprint {data.fingerprint_sha256[:_CHECKSUM_DIGITS]}" if data.fingerprint_sha256 else ""
        typer.echo(f"  trained on {data.rows} measurements of {data.links} links{between}{print_}")
    typer.echo(f"  {'published' if one.published else 'not published'}{f', at {one.location}' if one.location else ''}")
    if one.refusal:
        typer.echo(f"  refused: {one.refusal}")
    by_metric: dict[str, list[str]] = defaultdict(list)
    for score in sorted(one.scores, key=lambda score: score.mae_ratio):
        by_metric[score.metric].append(f"{score.forecaster} {score.mae_ratio:.3f}")
    for metric, scores in by_metric.items():
        typer.echo(f"  error relative to the last value, {metric}: {', '.join(scores)}")


def change(target: str, step: Callable[[Client], ModelState], *, as_json: bool) -> None:
    """Changes what is desired, and prints it."""
    with connect.client(target) as client:
        print_state(step(client), as_json=as_json)


def print_replicas(target: str, *, as_json: bool) -> None:
    """Prints the living replicas and what each serves."""
    with connect.client(target) as client:
        replicas = client.replicas()
    for one in replicas:
        if as_json:
            print_json(one)
            continue
        here = ", answering" if one.answering else ""
        up = span((datetime.now(UTC) - one.started_at).total_seconds())
        typer.echo(f"{one.name}  {one.serving_version or 'no model'}  revision {one.revision}, up {up}{here}")
        for version, reason in one.refused.items():
            typer.echo(f"  {version} refused: {reason}")


def print_state(state: ModelState, *, as_json: bool) -> None:
    """Prints what is desired of the models."""
    if as_json:
        print_json(state)
        return
    held = ", pinned" if state.held else ""
    before = f", before it {', '.join(state.previous_versions)}" if state.previous_versions else ""
    typer.echo(f"active {state.active_version or 'none'}{held}{before} (revision {state.revision})")
    for pin in state.pins:
        typer.echo(f"  {scope_word(pin.scope)} {pin.value}: {', then '.join(pin.versions)}")


def scope_word(scope: PinScope) -> str:
    """As the command line says it."""
    return scope.name.lower()


def _made(one: Model) -> str:
    """When it was trained; a file without a manifest does not say."""
    return clock(one.created_at) if one.created_at.timestamp() > 0 else "at an unknown time"
