"""The endpoint that Prometheus scrapes, on a port of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from prometheus_client import start_wsgi_server

if TYPE_CHECKING:
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
