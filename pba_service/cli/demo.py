"""`pba serve --demo`: the service, simulated links that feed it, and the live table, in one terminal.

The service is exactly the one that `pba serve` runs, and the rest of this process is an ordinary client of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from pba_service.app import running
from pba_service.cli import connect
from pba_service.cli import links as simulated
from pba_service.cli.board import Board, Selection
from pba_service.cli.commands.options import DEFAULT_TARGET
from pba_service.cli.serve import log_format, settings_in_effect, starting
from pba_service.cli.table import table
from pba_service.cli.told import CommandError
from pba_service.cli.watch import draw_table, first_of, note_of
from pba_service.observability.logs import configure_logs

if TYPE_CHECKING:
    from pba_service.settings import Settings

PAST = timedelta(hours=6)
PREFIX = "demo/"
CADENCE = timedelta(minutes=1)
PLAIN_EVERY_S = 5.0
PLAIN_WIDTH = 140
LOG_FILE = "demo.log"


def run_demo(links: int) -> None:
    """Runs the demonstration until interrupted.

    Args:
        links: How many are simulated.
    """
    settings = settings_in_effect()
    with ExitStack() as stack:
        if sys.stdout.isatty():
            # the terminal belongs to the table
            try:
                settings.data_dir.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context((settings.data_dir / LOG_FILE).open("a", encoding="utf-8"))
            except OSError as error:
                raise CommandError(f"{settings.data_dir}: {error.strerror or error}") from None
            configure_logs(settings.log_level, "json", log)
        else:
            configure_logs(settings.log_level, log_format(settings))
        with starting():
            asyncio.run(_demo(settings, links))


async def _demo(settings: Settings, count: int) -> None:
    stop = asyncio.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(kind, stop.set)
    links = simulated.simulated_links(count, (), 1, PREFIX, CADENCE)
    async with running(settings) as service:
        target = address(settings.grpc_host, service.grpc_port)
        async with connect.async_client(target) as client:
            until_ms = simulated.now_ms()
            await simulated.push_past(client, links, PAST, until_ms)
            board = Board(client, Selection(prefix=PREFIX), count)
            queries = how_to_query(target, links[0].info.link_id)
            typer.echo(f"PBA serves at {target}, fed by {count} simulated links: {PAST.total_seconds() / 3600:g} h of")
            typer.echo("past, then a sample of each link a minute. In another terminal:")
            typer.echo("\n".join(f"  {query}" for query in queries))
            typer.echo(f"  curl http://{address(settings.metrics_host, service.metrics_port)}/metrics")
            note = f"elsewhere: {queries[0]}; Ctrl-C ends it"
            show = draw_table(board, "", note) if sys.stdout.isatty() else _print_tables(board)
            await first_of(
                stop.wait(), simulated.push_live(client, links, until_ms), board.follow(), board.poll(), show
            )
    typer.echo("stopped; what was measured is kept")


def address(host: str, port: int) -> str:
    """Where something that listens on a host can be reached from this machine."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def how_to_query(target: str, link_id: str) -> list[str]:
    """What to type in another terminal."""
    option = "" if target == DEFAULT_TARGET else f" --target {target}"
    return [
        f"{own_name()} predict {link_id}{option}",
        f"{own_name()} params {link_id}{option}",
        f"{own_name()} watch{option}",
        f'grpcurl -plaintext -d \'{{"link_id":"{link_id}"}}\' {target} pba.v1.PredictionService/Predict',
    ]


def own_name() -> str:
    """How this command line can be called again."""
    if shutil.which("pba"):
        return "pba"
    script = Path(sys.argv[0])
    return os.path.relpath(script) if script.name == "pba" else "python -m pba_service"


async def _print_tables(board: Board) -> None:
    """Prints the table now and then, for ever: as soon as there is one, then at intervals."""
    console = Console(width=PLAIN_WIDTH)
    while True:
        ready = any(state.prediction and state.parameters for state in board.shown())
        if ready:
            console.print(table(board.shown(), note=note_of(board, "")))
            sys.stdout.flush()
        await asyncio.sleep(PLAIN_EVERY_S if ready else simulated.POLL_S)
