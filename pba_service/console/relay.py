"""The console of a service of several processes: whoever has the HTTP port passes requests on to one that serves.

A process answers on a unix socket in a folder that only its owner may enter; who may read has been decided before.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TIMEOUT_S = 12.0
"""A little longer than a console takes at most, so that its own words about that arrive."""

_PASSED_ON = ("Content-Type", "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control")

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def answer_on_socket(site: WSGIApplication, where: Path) -> Iterator[None]:
    """Answers on a unix socket, from threads of its own."""
    where.unlink(missing_ok=True)  # of a process before this one
    server = _Server(str(where), _Handler)  # type: ignore[arg-type]  # the address of a unix socket is a path
    server.set_app(site)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="console")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Relay:
    """A site that lets one of several processes answer, whichever does.

    Args:
        sockets: Where each of them answers.
    """

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._sockets = tuple(sockets)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Passes one request on."""
        path = quote(environ.get("PATH_INFO", "/"))
        if query := environ.get("QUERY_STRING"):
            path = f"{path}?{quote(query, safe='=&%+')}"
        for where in self._sockets:
            try:
                status, headers, body = _ask(where, environ["REQUEST_METHOD"], path)
            except (OSError, http.client.HTTPException) as error:
                _log.debug("console_worker_away", socket=where.name, reason=str(error))
                continue
            start_response(status, [*headers, ("Content-Length", str(len(body)))])
            return [body]
        start_response("503 Service Unavailable", [("Content-Type", "application/json")])
        return [b'{"error":"no process serves now"}']


def _ask(where: Path, method: str, path: str) -> tuple[str, list[tuple[str, str]], bytes]:
    with contextlib.closing(_Connection("localhost", timeout=TIMEOUT_S)) as connection:
        connection.where = str(where)
        connection.request(method, path)
        answer = connection.getresponse()
        headers = [(name, value) for name in _PASSED_ON if (value := answer.getheader(name))]
        return f"{answer.status} {answer.reason}", headers, answer.read()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    where = ""

    def connect(self) -> None:
        """Connects to the socket instead of the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.where)


class _Handler(WSGIRequestHandler):
    """Without a line in the log for each request."""

    timeout = TIMEOUT_S

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def address_string(self) -> str:
        """A unix socket's other end has no address."""
        return ""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Binds; a path has no port."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection, with something in place of an address."""
        connection, _ = super().get_request()
        return connection, ("", 0)

    def handle_error(self, *_: Any) -> None:
        """Says nothing of callers who hang up."""
