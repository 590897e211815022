"""The page and its data as a WSGI application, for the HTTP server that also answers Prometheus.

That server has threads of its own; what is asked of the service runs in the service's event loop.
"""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import TimeoutError as OutOfTimeError
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog

from pba_service.console import views
from pba_service.domain.errors import InvalidRequestError, LinkUnknownError, PbaError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pba_service.domain.parameters import TransportBounds
    from pba_service.engine.api import ModelTrials, Service

TIMEOUT_S = 10.0
MAX_HOURS = 168

_log = structlog.get_logger(__name__)

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
}
OPEN_PATHS = frozenset(_FILES)
"""What says nothing of any link, and may be shown to anybody."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing from elsewhere, nothing inline, and no frame around it."""

_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


class Console:
    """Answers GET of the page, its files, and `/api/...`.

    Args:
        service: What is shown.
        loop: Where the service runs.
        bounds: Bounds of transport parameters.
        trials: Experiments on models, which are shown as well.
    """

    def __init__(
        self, service: Service, loop: asyncio.AbstractEventLoop, bounds: TransportBounds, trials: ModelTrials
    ) -> None:
        self._service = service
        self._trials = trials
        self._loop = loop
        self._bounds = bounds
        folder = resources.files(__package__) / "static"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._api: dict[str, Callable[[dict[str, str]], Coroutine[Any, Any, dict[str, Any]]]] = {
            "/api/links": self._links,
            "/api/link": self._link,
            "/api/models": self._models,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        status, kind, body = self._respond(environ)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _respond(self, environ: WSGIEnvironment) -> tuple[HTTPStatus, str, bytes]:
        path = environ.get("PATH_INFO", "/")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _failed(HTTPStatus.METHOD_NOT_ALLOWED, "this page is for reading")
        if path in self._files:
            body, kind = self._files[path]
            return HTTPStatus.OK, kind, body
        if path not in self._api:
            return _failed(HTTPStatus.NOT_FOUND, "there is nothing here")
        query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        return self._ask(path, query)

    def _ask(self, path: str, query: dict[str, str]) -> tuple[HTTPStatus, str, bytes]:
        asked = asyncio.run_coroutine_threadsafe(self._api[path](query), self._loop)
        try:
            return _json(HTTPStatus.OK, asked.result(TIMEOUT_S))
        except OutOfTimeError:
            asked.cancel()
            return _failed(HTTPStatus.GATEWAY_TIMEOUT, f"no answer within {TIMEOUT_S:g} s")
        except LinkUnknownError as error:
            return _failed(HTTPStatus.NOT_FOUND, str(error))
        except InvalidRequestError as error:
            return _failed(HTTPStatus.BAD_REQUEST, str(error))
        except PbaError as error:
            return _failed(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception:  # noqa: BLE001 - logged; whoever asked is told nothing of the inside
            _log.exception("console_failed", path=path)
            return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the log says more")

    async def _links(self, query: dict[str, str]) -> dict[str, Any]:
        return await views.overview(self._service, prefix=query.get("prefix", ""), after=query.get("after", ""))

    async def _link(self, query: dict[str, str]) -> dict[str, Any]:
        hours = query.get("hours", "6")
        if not re.fullmatch("[0-9]{1,3}", hours) or not 1 <= int(hours) <= MAX_HOURS:
            hours = "6"
        return await views.link(self._service, query.get("id", ""), hours=int(hours), bounds=self._bounds)

    async def _models(self, query: dict[str, str]) -> dict[str, Any]:
        del query
        return await views.models(self._service, self._trials)


def _json(status: HTTPStatus, content: dict[str, Any]) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _failed(status: HTTPStatus, why: str) -> tuple[HTTPStatus, str, bytes]:
    return _json(status, {"error": why})
