"""The endpoint that Prometheus scrapes, on a port of its own; and a socket for one process of several."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from prometheus_client import generate_latest, start_wsgi_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from prometheus_client import CollectorRegistry


class MetricsServer:
    """Serves a registry over HTTP from threads of its own until closed; a context manager.

    Args:
        registry: What is served.
        host: Name or address to listen on.
        port: 0 takes a free one; see `port`.

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server, self._thread = start_wsgi_server(port, host, registry)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Ends it; returns when the port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextlib.asynccontextmanager
async def tell_on_socket(registry: CollectorRegistry, where: Path) -> AsyncIterator[None]:
    """Tells all metrics, as text, to whoever connects to a unix socket; who may connect is its folder's matter."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(generate_latest(registry))
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(tell, str(where))  # asyncio removes a socket that was left there
    try:
        yield
    finally:
        server.close()
