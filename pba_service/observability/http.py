"""The HTTP port: what Prometheus scrapes, and a site beside it."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

    Admits = Callable[[str | None, tuple[str, ...]], bool]
    """Whether who shows a token, or a certificate with these names, may read."""

TIMEOUT_S = 10.0

_NAMES = "pba.certificate_names"
_BEARER = "bearer "
_BACKLOG = 16
_NO_ROOM_S = 0.1


class MetricsServer:
    """Serves a registry over HTTP from threads of its own until closed; a context manager.

    Args:
        registry: What is served.
        host: Name or address to listen on.
        port: 0 takes a free one; see `port`.
        tls: Encrypts connections; see `use`. None: plain text.
        admits: Who may read; None: everybody.
        timeout_s: For one request from the handshake on: who is slow holds a thread no longer.

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        admits: Admits | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._app = _Application(make_wsgi_app(registry), admits)
        family, address = next(
            (family, address[0])
            for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )
        self._server = _Server((str(address), port), family, timeout_s)
        self._server.tls = tls
        self._server.set_app(self._app)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def use(self, tls: ssl.SSLContext) -> None:
        """Encrypts connections that begin from now on with other certificates."""
        self._server.tls = tls

    def mount(self, site: WSGIApplication, open_paths: Collection[str]) -> None:
        """Answers every path but `/metrics` by a site from now on; `open_paths` of it to everybody."""
        self._app.mount(site, open_paths)

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


class _Handler(WSGIRequestHandler):
    """Without a line in the log for each scrape, and with the names of the caller's certificate."""

    server: _Server

    def setup(self) -> None:
        """Prepares to read: a byte now and then does not make the time begin anew."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_InTime(self.connection, self.server.timeout_s))

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def get_environ(self) -> WSGIEnvironment:
        """What the application is told."""
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        return {**super().get_environ(), _NAMES: _names(certificate or {})}


class _InTime(io.RawIOBase):
    """What comes on a connection within a time; after it, `TimeoutError`."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._until_s = time.monotonic() + timeout_s

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for the next bytes, but not beyond the time."""
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._timeout_s)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, in which the handshake takes place too: one that stalls stops nobody else."""

    daemon_threads = True
    request_queue_size = _BACKLOG
    tls: ssl.SSLContext | None = None

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, timeout_s: float) -> None:
        self.address_family = family
        self.timeout_s = timeout_s
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Binds; without asking for the host's name, which can take long."""
        super(WSGIServer, self).server_bind()
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        try:
            connection, address = super().get_request()
        except OSError:
            # Such as for want of descriptors: who calls still waits there, and would be taken again at once, for ever.
            time.sleep(_NO_ROOM_S)
            raise
        connection.settimeout(self.timeout_s)
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, *_: Any) -> None:
        """Says nothing of callers who hang up or speak something else."""


def server_context(certificate: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """TLS from files. Callers may show a certificate of `client_ca`; whether they must is for `admits`.

    Raises:
        OSError: A file cannot be read, or is broken.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Application:
    """Metrics, a site beside them, and who may read."""

    def __init__(self, metrics: WSGIApplication, admits: Admits | None) -> None:
        self._metrics = metrics
        self._admits = admits
        self._site: tuple[WSGIApplication, frozenset[str]] = metrics, frozenset()

    def mount(self, site: WSGIApplication, open_paths: Collection[str]) -> None:
        """Answers every path but `/metrics` from now on."""
        self._site = site, frozenset(open_paths)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        (site, open_paths), path = self._site, environ.get("PATH_INFO", "")
        if path in open_paths or self._may_read(environ):
            return (self._metrics if path == "/metrics" else site)(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
        return [b"authentication is required\n"]

    def _may_read(self, environ: WSGIEnvironment) -> bool:
        if self._admits is None:
            return True
        given = environ.get("HTTP_AUTHORIZATION", "")
        token = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else None
        return self._admits(token, environ[_NAMES])


def _names(certificate: dict[str, Any]) -> tuple[str, ...]:
    """The alternative names of a certificate; the common name of one without."""
    alternative = tuple(value for _, value in certificate.get("subjectAltName", ()))
    common = tuple(value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    return alternative or common
