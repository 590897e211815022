"""`pba watch`: links followed live."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from pba_service.cli import connect
from pba_service.cli.board import Board, Selection
from pba_service.cli.table import line, table
from pba_service.cli.told import tell

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pba_service.cli.board import LinkState

DRAW_EVERY_S = 0.5


def run_watch(target: str, link_ids: tuple[str, ...], *, prefix: str, region: str, rows: int, updates: int) -> None:
    """Follows links until interrupted, or for so many updates."""
    asyncio.run(_watch(target, Selection(link_ids, prefix, region), rows, updates))


async def _watch(target: str, selection: Selection, rows: int, updates: int) -> None:
    async with connect.async_client(target) as client:
        board = Board(client, selection, rows)
        enough = asyncio.Event()
        left = updates

        def count(changed: list[LinkState]) -> None:
            nonlocal left
            left -= len(changed)
            if updates and left <= 0:
                enough.set()

        if sys.stdout.isatty():
            draw = draw_table(board, f"PBA at {target}", "Ctrl-C ends it; more: pba predict LINK, pba params LINK")
            await first_of(enough.wait(), board.follow(count, timedelta(seconds=DRAW_EVERY_S)), board.poll(), draw)
        else:

            def say(changed: list[LinkState]) -> None:
                for state in changed:
                    typer.echo(line(state))
                sys.stdout.flush()
                count(changed)

            await first_of(enough.wait(), board.follow(say), _tell_trouble(board))


async def first_of(*work: Coroutine[object, object, object]) -> None:
    """Runs several things until the first of them ends or fails, and ends the others; raises what failed."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def draw_table(board: Board, title: str, note: str, console: Console | None = None) -> None:
    """Draws the table for ever."""
    with Live(console=console or Console(), auto_refresh=False) as live:
        while True:
            live.update(table(board.shown(), title=title, note=note_of(board, note)), refresh=True)
            await asyncio.sleep(DRAW_EVERY_S)


def note_of(board: Board, note: str) -> str:
    """What stands below the table."""
    if board.trouble:
        return f"[red]{escape(board.trouble)}[/red]"
    if not board.shown():
        return "no link is known yet"
    return note + ("; more links than rows: see --rows, --prefix" if board.more_links else "")


async def _tell_trouble(board: Board) -> None:
    """Tells on standard error when the connection is lost and when it is back, for ever."""
    told = ""
    while True:
        if board.trouble != told:
            told = board.trouble
            tell(f"pba: {told}" if told else "pba: the service is back")
        await asyncio.sleep(DRAW_EVERY_S)
