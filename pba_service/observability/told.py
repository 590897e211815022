"""How one process of several tells its metrics: on a unix socket, to whoever makes one answer of all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

END = b"# EOF\n"
"""Follows all metrics: what ends otherwise is not all of them. A comment, as parsers see it."""

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry


@contextlib.asynccontextmanager
async def tell_on_socket(registry: CollectorRegistry, where: Path) -> AsyncIterator[None]:
    """Tells all metrics, as text, to whoever connects to a unix socket; who may connect is its folder's matter."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(generate_latest(registry) + END)
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(tell, str(where))  # asyncio removes a socket that was left there
    try:
        yield
    finally:
        server.close()
