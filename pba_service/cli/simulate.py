"""`pba simulate`: links made up, into a file or live into a service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pba_service.cli import connect
from pba_service.cli import links as simulated
from pba_service.cli.told import CommandError, tell
from pba_service.files import JsonlWriter, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from pathlib import Path

    from pba_service.cli.links import SimulatedLink


def write_file(links: Sequence[SimulatedLink], file: Path, span: timedelta) -> None:
    """Writes the links' past as JSONL.

    Raises:
        CommandError: The file cannot be written.
    """
    until_ms = simulated.now_ms()
    try:
        with replacing(file) as stream:
            writer = JsonlWriter(stream)
            for link in links:
                for series in link.parts(until_ms - round(span.total_seconds() * 1000), until_ms):
                    writer.write(link.info, series)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
    tell(f"wrote {writer.rows} samples of {len(links)} links to {file}")


def push_simulated(links: Sequence[SimulatedLink], target: str, span: timedelta) -> None:
    """Pushes the links' past, then goes on live until interrupted."""
    asyncio.run(_push(links, target, span))


async def _push(links: Sequence[SimulatedLink], target: str, span: timedelta) -> None:
    async with connect.async_client(target) as client:
        until_ms = simulated.now_ms()
        pushed = await simulated.push_past(client, links, span, until_ms)
        tell(f"pushed {pushed} samples of {len(links)} links; going on live, Ctrl-C ends it")
        await simulated.push_live(client, links, until_ms)
