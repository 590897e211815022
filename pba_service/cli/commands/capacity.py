"""How much is needed for a number of links."""

from datetime import timedelta
from typing import Annotated

import typer

from pba_service.cli.commands.options import Json, parse_duration

_COUNT = 1_000_000_000


def _span(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, parser=parse_duration, metavar="DURATION", help=what)
    return option


def plan(
    *,
    links: Annotated[int, typer.Option(min=1, max=_COUNT, help="How many links.")],
    interval: Annotated[timedelta, _span("--interval", "Between two samples of a link.")] = timedelta(seconds=60),
    together: Annotated[
        int, typer.Option("--samples-per-message", min=1, max=10_000, help="1: nodes of one link; more: gateways.")
    ] = 1,
    updates: Annotated[
        float, typer.Option(min=0, max=_COUNT, help="Updates to subscribers for each prediction.")
    ] = 1.0,
    asks: Annotated[float, typer.Option(min=0, max=_COUNT, help="GetOptimalParameters calls for each sample.")] = 1.0,
    predicts: Annotated[float, typer.Option(min=0, max=_COUNT, help="Predict calls for each sample.")] = 0.0,
    streams: Annotated[int, typer.Option(min=0, max=_COUNT, help="Prediction streams that are open.")] = 0,
    sticky: Annotated[
        bool, typer.Option("--sticky", help="A link's samples keep coming to one process, as on a long stream.")
    ] = False,
    replicas: Annotated[int | None, typer.Option(min=1, help="Look whether so many will do.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="PBA_WORKERS of each replica.")] = 1,
    primaries: Annotated[int | None, typer.Option(min=1, help="Look whether so many Redis primaries will do.")] = None,
    max_samples: Annotated[int, typer.Option(min=100, help="PBA_MAX_SAMPLES.")] = 10_000,
    retention: Annotated[timedelta, _span("--retention", "PBA_RETENTION.")] = timedelta(days=30),
    ledger: Annotated[timedelta, _span("--ledger-retention", "PBA_LEDGER_RETENTION.")] = timedelta(days=7),
    sweep: Annotated[timedelta, _span("--update-interval", "PBA_UPDATE_INTERVAL.")] = timedelta(seconds=60),
    fill: Annotated[
        float, typer.Option("--use", min=0.05, max=0.95, help="How much of a core, memory or network may be in use.")
    ] = 0.6,
    memory: Annotated[
        float, typer.Option("--redis-memory", min=0.1, max=_COUNT, help="GiB of a machine of Redis.")
    ] = 32.0,
    network: Annotated[float, typer.Option(min=1, max=_COUNT, help="Mbit/s of a network card, each way.")] = 10_000.0,
    as_json: Json = False,
) -> None:
    """Say what a number of links takes: replicas, memory, Redis and network; docs/capacity.md tells how it is known.

    Exit code 1: the replicas or primaries that were given are too few.
    """
    from pba_service.capacity import Demand
    from pba_service.cli.plan import print_plan

    demand = Demand(
        links=links,
        interval_s=interval.total_seconds(),
        together=together,
        updates=updates,
        predicts=predicts,
        parameters=asks,
        streams=streams,
        sticky=sticky,
        retention_s=retention.total_seconds(),
        max_samples=max_samples,
        ledger_s=ledger.total_seconds(),
        sweep_s=sweep.total_seconds(),
        workers=workers,
        fill=fill,
        primary_bytes=memory * 2**30,
        card_mbps=network,
    )
    print_plan(demand, replicas=replicas, primaries=primaries, as_json=as_json)
