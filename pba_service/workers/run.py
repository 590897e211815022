"""The supervisor: what is done once for all workers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from pba_service.app import Part
from pba_service.console.app import OPEN_PATHS
from pba_service.console.relay import Relay
from pba_service.doors import open_doors
from pba_service.observability.access import AccessMetrics
from pba_service.observability.metrics import service_registry
from pba_service.surroundings import export_once, open_metrics, redis_at, started_before, watch_files, write_ports
from pba_service.workers.child import Task
from pba_service.workers.fleet import Fleet
from pba_service.workers.port import SharedPort
from pba_service.workers.process import WorkerProcess, spawn
from pba_service.workers.scrape import Workers

if TYPE_CHECKING:
    from pba_service.observability.logs import LogFormat
    from pba_service.settings import Settings

STOP_MARGIN_S = 10.0
"""What a worker may take to stop beyond its drain: what waits is stored, connections close."""

_log = structlog.get_logger(__name__)


def console_of(metrics_socket: Path) -> Path:
    """Where a worker answers for the console."""
    return metrics_socket.with_suffix(".console")


async def run(settings: Settings) -> None:
    """Serves with `settings.workers` processes until SIGTERM or SIGINT, then stops in order.

    Raises:
        ListenError: A port cannot be listened on.
        WorkerStartError: A worker cannot serve; the text says why.
        EmbeddedServerError: No Redis was named and none could be started.
        FileRefusedError: A file that a setting names cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        port = stack.enter_context(contextlib.closing(SharedPort(settings.grpc_host, settings.grpc_port)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pba-")))
        sockets = [folder / str(place) for place in range(settings.workers)]
        own, registry = service_registry(), CollectorRegistry()
        collector = Workers(sockets, settings.metrics_max_links, own=own)
        registry.register(collector)
        doors = open_doors(settings, AccessMetrics(own))
        metrics = open_metrics(stack, registry, doors)
        watch_files(stack, doors, None, metrics)
        if doors.shows_console:
            metrics.mount(Relay([console_of(where) for where in sockets]), OPEN_PATHS)
        redis = asyncio.ensure_future(redis_at(stack, settings))
        if not await started_before(stop, redis):
            return
        redis_url = redis.result()
        started = asyncio.Event()
        if settings.data_path:
            stack.push_async_callback(export_once, settings, redis_url, started)
        shared = replace(settings, redis_url=redis_url, grpc_port=port.number, ports_file=None)

        async def start(place: int) -> WorkerProcess:
            told = shared if place == 0 and not started.is_set() else replace(shared, data_path=None)
            part = Part(
                worker=place,
                leads=place == 0,
                shares_port=True,
                metrics_socket=sockets[place],
                console_socket=console_of(sockets[place]),
            )
            return await spawn(Task(told, part, _format(settings)))

        fleet = Fleet(start, settings.workers, on_exit=collector.ended)
        stack.push_async_callback(fleet.stop, settings.drain_timeout_ms / 1000 + STOP_MARGIN_S)
        if not await started_before(stop, fleet.start()):
            return
        started.set()
        _log.info("workers_serving", workers=settings.workers, port=port.number)
        if settings.ports_file:
            write_ports(settings.ports_file, port.number, metrics.port)
        await stop.wait()
        _log.info("stopping")
    _log.info("stopped")


def _format(settings: Settings) -> LogFormat:
    """The form of the workers' logs: what 'auto' means is decided here, where the terminal is."""
    if settings.log_format == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return "json" if settings.log_format == "json" else "console"
