"""`pba plan`: the fleet for a number of links."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import typer

from pba_service.capacity import measured, plan
from pba_service.cli.told import CommandError, ExitCode

if TYPE_CHECKING:
    from pba_service.capacity import Demand, Measured, Plan

_GIB = 2**30


def print_plan(demand: Demand, *, replicas: int | None, primaries: int | None, as_json: bool) -> None:
    """Prints the plan; a fleet that was given and is too small ends with `ExitCode.FAILED`."""
    known = measured()
    try:
        made = plan(demand, known.costs, replicas=replicas, primaries=primaries)
    except OverflowError as error:
        raise CommandError(str(error)) from None
    typer.echo(json.dumps(as_object(made, known), indent=2) if as_json else as_text(made, known))
    if not made.carries:
        raise typer.Exit(ExitCode.FAILED)


def as_object(made: Plan, known: Measured) -> dict[str, Any]:
    """The plan for programs: units are in the names, nothing is rounded; a queue that never ends is None."""
    told = dataclasses.asdict(made)
    if math.isinf(made.use.queue_ms):  # JSON knows no infinity
        told["use"]["queue_ms"] = None
    return {
        **told,
        "carries": made.carries,
        "runs_out_first": made.runs_out_first,
        "measured": known.machine,
    }


def as_text(made: Plan, known: Measured) -> str:
    """The plan for people."""
    demand, fleet, used = made.demand, made.fleet, made.use
    each = "" if made.cells == 1 else " in each cell"
    primaries = "primary" if fleet.primaries == 1 else "primaries of a Cluster"
    rows = {
        "replicas": f"{fleet.replicas:,}{_workers(fleet.workers)}{each}; the fullest process uses {used.process:.0%} "
        f"of a core, {used.process_fixed:.0%} for announcements and sweeps",
        "replica memory": f"{used.process_bytes * fleet.workers / 2**20:,.0f} MiB",
        "replica network": f"{used.replica_mbps:,.1f} Mbit/s, both ways together",
        "Redis": f"{fleet.primaries:,} {primaries}{each}; the fullest uses {used.store:.0%} of its core, "
        f"{used.store_fixed:.0%} for readers of announcements",
        "Redis memory": f"{used.store_bytes / _GIB:,.2f} GiB{each}, once histories and ledgers are full",
        "Redis writes": f"{used.store_ops:,.0f} links/s, {used.disk_mbps:,.1f} Mbit/s to disk{each}",
        "Redis network": f"{used.store_mbps:,.1f} Mbit/s at the fullest primary",
        "clients": f"{used.clients_mbps:,.1f} Mbit/s, both ways together{each}",
        "queueing": "grows without end" if math.isinf(used.queue_ms) else f"{used.queue_ms:.2f} ms in the mean",
    }
    if made.cells > 1:
        rows = {"cells": f"{made.cells:,}: a service and a Redis of its own each, with its share of the links"} | rows
    asked = (
        f"{demand.links:,} links, a sample each {demand.interval_s:g} s: {demand.rate:,.1f} samples/s, "
        f"{demand.samples_kept:,.0f} samples and {demand.forecasts_kept:,.0f} forecasts kept of each"
    )
    lines = [
        asked,
        "",
        *(f"{name:<18}{told}" for name, told in rows.items()),
        "",
        *_too_full(made),
        f"One process and one primary carry some {made.single_links:,} such links; short first: {made.runs_out_first}.",
        f"Constants: {known.machine['machine']}, {known.machine['date']}.",
    ]
    return "\n".join(lines)


def _workers(workers: int) -> str:
    return f" of {workers} workers" if workers > 1 else ""


def _too_full(made: Plan) -> list[str]:
    over = {name: value for name, value in made.fullness.items() if value > 1}
    if not over:
        return []
    named = ", ".join(f"{name} {value:.0%}" for name, value in over.items())
    return [f"TOO SMALL, relative to what may be used: {named}"]
