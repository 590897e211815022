"""What `pba ab` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pba_client import ExperimentKind
from pba_service.cli import connect
from pba_service.cli.show import print_json
from pba_service.cli.words import ago

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client import Client, Experiment


def print_experiments(target: str, name: str, *, as_json: bool) -> None:
    """Prints the experiments, or one of them with its evidence by metric."""
    with connect.client(target) as client:
        found = [client.experiment(name)] if name else client.experiments()
    for one in found:
        if as_json:
            print_json(one)
        else:
            _print(one, whole=bool(name))
    if not found and not as_json:
        typer.echo("no experiment has run lately")


def change(target: str, step: Callable[[Client], Experiment], *, as_json: bool) -> None:
    """Starts or ends an experiment, and prints it."""
    with connect.client(target) as client:
        one = step(client)
    if as_json:
        print_json(one)
    else:
        _print(one, whole=False)


def _print(one: Experiment, *, whole: bool) -> None:
    seen = one.evidence
    since = f"for {ago(one.started_at).removesuffix(' ago')}" if one.ended_at is None else ago(one.ended_at)
    served = f", serving {one.share:.0%} of the links" if one.share else ""
    beside = "watched beside" if one.kind is ExperimentKind.WATCH else "tried beside"
    first, second = (
        (one.champion, one.challenger) if one.kind is ExperimentKind.WATCH else (one.challenger, one.champion)
    )
    waits = "" if one.automatic else ", waits for a person"
    typer.echo(f"{one.name}  {one.status.name.lower()} {since}{waits}: {first} {beside} {second}{served}")
    typer.echo(
        f"  {one.challenger} errs {seen.advantage:+.1%} of a usual error less ({seen.advantage_low:+.1%} to "
        f"{seen.advantage_high:+.1%}) over {seen.periods} of {seen.max_periods} hours, {seen.targets} pairs"
    )
    typer.echo(
        f"  evidence that it is better {seen.promote_wealth:.3g} of {seen.promote_at:g}, that it is worse "
        f"{seen.reject_wealth:.3g} of {seen.reject_at:g}"
    )
    for metric in seen.metrics if whole else ():
        typer.echo(
            f"  {metric.metric}: {metric.champion_error:.3f} against {metric.challenger_error:.3f} usual errors "
            f"over {metric.targets} pairs"
        )
