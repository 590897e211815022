"""`pba serve --demo`: the service, simulated links that feed it, and the live table, in one terminal.

The service is exactly the one that `pba serve` runs, and the rest of this process is an ordinary client of it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from pba_client import AsyncClient
from pba_service.app import running
from pba_service.cli import links as simulated
from pba_service.cli.board import Board, Selection
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
        target = f"127.0.0.1:{service.grpc_port}"
        async with AsyncClient(target) as client:
            until_ms = simulated.now_ms()
            await simulated.push_past(client, links, PAST, until_ms)
            board = Board(client, Selection(prefix=PREFIX), count)
            typer.echo(how_to_query(target, settings.metrics_host, service.metrics_port, links[0].info.link_id))
            show = draw_table(board, "", "Ctrl-C ends it") if sys.stdout.isatty() else _print_tables(board)
            await first_of(
                stop.wait(), simulated.push_live(client, links, until_ms), board.follow(), board.poll(), show
            )
    typer.echo("stopped; what was measured is kept")


def how_to_query(target: str, metrics_host: str, metrics_port: int, link_id: str) -> str:
    """What to type in another terminal."""
    return (
        f"PBA serves at {target}, fed by simulated links: {PAST.total_seconds() / 3600:g} h of past, then a sample of "
        "each link a minute.\n"
        "In another terminal:\n"
        f"  pba predict {link_id} --target {target}\n"
        f"  pba params {link_id} --target {target}\n"
        f"  pba links --target {target}\n"
        f'  grpcurl -plaintext -d \'{{"link_id":"{link_id}"}}\' {target} pba.v1.PredictionService/Predict\n'
        f"  curl http://{metrics_host}:{metrics_port}/metrics\n"
    )


async def _print_tables(board: Board) -> None:
    """Prints the table now and then, for ever: as soon as there is one, then at intervals."""
    console = Console(width=PLAIN_WIDTH)
    while True:
        ready = any(state.prediction and state.parameters for state in board.shown())
        if ready:
            console.print(table(board.shown(), note=note_of(board, "")))
            sys.stdout.flush()
        await asyncio.sleep(PLAIN_EVERY_S if ready else simulated.POLL_S)
