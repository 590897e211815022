"""Commands that bring measurements in and out."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, End, Start, Target, parse_duration

DataFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", envvar="PBA_DATA_PATH", dir_okay=False, help="A JSONL file; a name that ends in .gz is zipped."
    ),
]
ExportedFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        envvar=["OUTPUT_FILE", "PBA_DATA_PATH"],
        dir_okay=False,
        help="A JSONL file; a name that ends in .gz is zipped. From Prometheus: .csv or .parquet.",
    ),
]
InFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV, JSONL (also .gz) or parquet.")
]
_LONGEST = timedelta(days=3660)
LinkOfFile = Annotated[str, typer.Option("--link", help="The link of all rows, for a file without a link column.")]


def push(
    file: InFile,
    target: Target = DEFAULT_TARGET,
    link: LinkOfFile = "",
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be used.")] = False,
) -> None:
    """Push a file of measurements as it is, with its own times.

    Columns: timestamp, link_id, bandwidth_mbps, latency_ms, packet_loss, jitter_ms (and node, peer, region); a value
    that was not measured is left empty. Pushing a file again stores nothing twice. The service refuses what is older
    than its retention: to feed an old file as if it were new, use replay.
    """
    from pba_service.cli.push import push_file

    push_file(file, target, link_id=link, strict=strict)


def import_(file: DataFile, target: Target = DEFAULT_TARGET) -> None:
    """Bring an exported history back. The file is PBA_DATA_PATH unless given."""
    from pba_service.cli.push import push_file

    push_file(file, target, link_id="", strict=False)


def export(
    file: ExportedFile,
    target: Target = DEFAULT_TARGET,
    prefix: Annotated[str, typer.Option(help="Only links whose id begins so.")] = "",
    region: Annotated[str, typer.Option(help="Only links of this region.")] = "",
    start: Start = None,
    end: End = None,
    *,
    from_prometheus: Annotated[
        bool, typer.Option("--from-prometheus", help="Write what Prometheus scraped instead, as CSV or parquet.")
    ] = False,
    prometheus_url: Annotated[
        str, typer.Option(envvar="PROMETHEUS_URL", help="Its address.", show_default="http://localhost:9090")
    ] = "http://localhost:9090",
    days_back: Annotated[float, typer.Option(envvar="DAYS_BACK", min=0, help="How far back, with it.")] = 30.0,
    step: Annotated[
        timedelta,
        typer.Option(
            parser=parse_duration,
            metavar="SPAN",
            help="Its points in time: no longer than links measure.",
            show_default="30s",
        ),
    ] = timedelta(seconds=30),
) -> None:
    """Write the stored history of all or some links as JSONL. The file is OUTPUT_FILE or PBA_DATA_PATH unless given.

    From Prometheus: each sample that was scraped, once, at the time it was measured; what was not scraped is missing.
    Interrupted, the same command goes on where it was.
    """
    if from_prometheus:
        from pba_service.cli.prometheus import export_prometheus

        if prefix or region or start or end:
            raise typer.BadParameter("--prefix, --region, --start and --end are not for --from-prometheus")
        export_prometheus(file, prometheus_url, days_back=days_back, step_s=step.total_seconds())
        return
    from pba_service.cli.export import export_file

    export_file(file, target, prefix=prefix, region=region, start=start, end=end)


def replay(
    file: InFile,
    target: Target = DEFAULT_TARGET,
    link: LinkOfFile = "",
    speed: Annotated[
        float, typer.Option(min=0, help="How many times faster than measured; 0: everything at once.")
    ] = 1.0,
    past: Annotated[
        timedelta,
        typer.Option(
            parser=parse_duration,
            metavar="SPAN",
            help="How much of the beginning is pushed at once.",
            show_default="6h",
        ),
    ] = timedelta(hours=6),
    max_age: Annotated[
        timedelta,
        typer.Option(
            parser=parse_duration,
            metavar="SPAN",
            help="Leave out what would be older: the retention.",
            show_default="30d",
        ),
    ] = timedelta(days=30),
    prefix: Annotated[str, typer.Option(help="Put before each link id.")] = "",
    *,
    together: Annotated[
        bool,
        typer.Option("--together", help="Keep the links' times relative to each other, instead of each link alone."),
    ] = False,
) -> None:
    """Feed a file of measurements as if it were happening now.

    Times are shifted, never stretched: each link keeps its cadence. The first part is pushed at once, dated back, so
    that predictions appear immediately; the rest follows sample by sample at the chosen speed. Above speed 1 times run
    faster than the clock, so the shift is such that the last sample is the one that arrives at its own time.
    """
    from pba_service.cli.replay import replay_file

    replay_file(
        file,
        target,
        link_id=link,
        speed=speed,
        past=past,
        max_age=max_age,
        prefix=prefix,
        together=together,
    )


def simulate(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", dir_okay=False, help="JSONL file to write.")] = None,
    links: Annotated[int, typer.Option(min=1, max=10_000, help="How many links.")] = 6,
    span: Annotated[
        timedelta,
        typer.Option(parser=parse_duration, metavar="SPAN", help="How long their past is.", show_default="1d"),
    ] = timedelta(days=1),
    cadence: Annotated[
        timedelta,
        typer.Option(parser=parse_duration, metavar="SPAN", help="Time between samples of a link.", show_default="60s"),
    ] = timedelta(minutes=1),
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Kinds of link, in turn: wan, metro, transcontinental, satellite, wireless, daily. [all]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other links of the same kinds.")] = 1,
    prefix: Annotated[str, typer.Option(help="Put before each link id.")] = "sim/",
    target: Target = DEFAULT_TARGET,
    *,
    push: Annotated[bool, typer.Option("--push", help="Push the past to a service and go on live.")] = False,
) -> None:
    """Make up realistic links: daily cycles, regimes, congestion, outages, correlated metrics.

    Writes a file, or with --push feeds a service until interrupted. The same seed and time give the same values.
    """
    if span > _LONGEST:
        raise typer.BadParameter(f"--span: at most {_LONGEST.days}d")
    from pba_service.cli.links import simulated_links
    from pba_service.cli.simulate import push_simulated, write_file

    chosen = simulated_links(links, profile or [], seed, prefix, cadence)
    if push:
        push_simulated(chosen, target, span)
    elif file is not None:
        write_file(chosen, file, span)
    else:
        raise typer.BadParameter("give a FILE to write, or --push")
