"""Commands that ask the service."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, End, Json, Start, Target, parse_duration

Link = Annotated[str, typer.Argument(metavar="LINK", help="The link's id.")]

_UINT32 = 2**32 - 1
_UINT64 = 2**64 - 1
"""The largest that the contract's fields hold."""


class Congestion(StrEnum):
    """Congestion control of the caller's sockets."""

    CUBIC = "cubic"
    BBR = "bbr"
    RENO = "reno"


def watch(
    link: Annotated[list[str] | None, typer.Argument(metavar="[LINK]...", help="Link ids. [all]")] = None,
    target: Target = DEFAULT_TARGET,
    prefix: Annotated[str, typer.Option(help="Links whose id begins so.")] = "",
    region: Annotated[str, typer.Option(help="Links of this region.")] = "",
    rows: Annotated[int, typer.Option(min=1, max=500, help="Most links shown.")] = 30,
    updates: Annotated[int, typer.Option(min=0, help="End after so many updates; 0: never.")] = 0,
) -> None:
    """Follow links live: current and predicted values, intervals, confidence, parameters.

    A table in a terminal; one line per update where there is none.
    """
    from pba_service.cli.watch import run_watch

    run_watch(target, tuple(link or ()), prefix=prefix, region=region, rows=rows, updates=updates)


def predict(link: Link, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Print a link's prediction, 15 minutes ahead."""
    from pba_service.cli.show import print_prediction

    print_prediction(target, link, as_json=json)


def explain(link: Link, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Print what a link's prediction rests on: which inputs moved it, which forecasters made it."""
    from pba_service.cli.show import print_explanation

    print_explanation(target, link, as_json=json)


def link_(link: Link, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Print all about a link: how right its predictions are, and what drives them."""
    from pba_service.cli.show import print_link

    print_link(target, link, as_json=json)


def params(
    link: Link,
    target: Target = DEFAULT_TARGET,
    streams: Annotated[int | None, typer.Option(min=0, max=_UINT32, help="Streams that are open now.")] = None,
    congestion: Annotated[Congestion | None, typer.Option(help="Congestion control in use.")] = None,
    max_streams: Annotated[
        int | None, typer.Option(min=1, max=_UINT32, help="The most streams that can be opened.")
    ] = None,
    max_buffer: Annotated[
        int | None, typer.Option(min=4096, max=_UINT32, help="The largest socket buffer, in bytes.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(min=4096, max=_UINT64, help="Memory for all buffers together, in bytes.")
    ] = None,
    buffer: Annotated[int | None, typer.Option(min=1, max=_UINT32, help="Their socket buffer now, in bytes.")] = None,
    pacing: Annotated[float | None, typer.Option(min=0.000001, help="Their pace together now, in Mbit/s.")] = None,
    probes: Annotated[
        int | None, typer.Option(min=1, max=_UINT32, help="Probes that a loss measurement comes from.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Print how to send over a link now, and why."""
    from pba_client import CongestionControl
    from pba_service.cli.show import print_parameters

    print_parameters(
        target,
        link,
        current_streams=streams,
        congestion_control=CongestionControl[congestion.name] if congestion else CongestionControl.UNSPECIFIED,
        max_streams=max_streams,
        max_buffer_bytes=max_buffer,
        memory_budget_bytes=memory,
        current_buffer_bytes=buffer,
        current_pacing_mbps=pacing,
        loss_probes=probes,
        as_json=json,
    )


def transfer(
    size: Annotated[str, typer.Option("--bytes", metavar="SIZE", help="How much, such as 40G, 500M or 123456.")],
    links: Annotated[str, typer.Option(metavar="A,B,...", help="The links that could carry it, with commas.")],
    target: Target = DEFAULT_TARGET,
    deadline: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="TIME", help="By when from now on, such as 10m."),
    ] = None,
    within: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="TIME", help="Look at starts up to so much later, such as 4h."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Print how long a transfer takes on each of some links, and which is best."""
    from pba_service.cli.transfers import parse_size, print_transfer

    print_transfer(target, parse_size(size), [one for one in links.split(",") if one], deadline, within, as_json=json)


def links(
    target: Target = DEFAULT_TARGET,
    prefix: Annotated[str, typer.Option(help="Only links whose id begins so.")] = "",
    region: Annotated[str, typer.Option(help="Only links of this region.")] = "",
    *,
    json: Json = False,
) -> None:
    """List the known links with their newest sample and prediction."""
    from pba_service.cli.show import print_links

    print_links(target, prefix=prefix, region=region, as_json=json)


def history(
    link: Link, target: Target = DEFAULT_TARGET, start: Start = None, end: End = None, *, json: Json = False
) -> None:
    """Print the stored samples of a link, oldest first."""
    from pba_service.cli.show import print_history

    print_history(target, link, start, end, as_json=json)


def ledger(
    link: Link, target: Target = DEFAULT_TARGET, start: Start = None, end: End = None, *, json: Json = False
) -> None:
    """Print a link's predictions beside what came true, and their mean errors."""
    from pba_service.cli.show import print_ledger

    print_ledger(target, link, start, end, as_json=json)
