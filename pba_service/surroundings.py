"""What a service stands on, whether one process serves or several: its Redis, its metrics endpoint, its ports."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pba_service import transfer
from pba_service.access.watched import FileRefusedError
from pba_service.engine.supervisor import Supervisor
from pba_service.observability.http import MetricsServer
from pba_service.serving.server import ListenError
from pba_service.storage.connect import open_server
from pba_service.storage.durability import Durability
from pba_service.storage.embedded import EmbeddedServer
from pba_service.storage.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from pba_service.doors import Doors
    from pba_service.engine.ports import Clock
    from pba_service.serving.gate import Gate
    from pba_service.settings import Settings
    from pba_service.storage.server import Server


def now_ms() -> int:
    """The system's time."""
    return time.time_ns() // 1_000_000


async def redis_at(stack: AsyncExitStack, settings: Settings) -> str:
    """The URL of the Redis that was named, else of an embedded one that runs as long as the stack."""
    if settings.redis_url is not None:
        return settings.redis_url
    wanted = Durability(settings.durability)
    level = Durability.ALWAYS if wanted is Durability.AUTO else wanted
    embedded = await stack.enter_async_context(EmbeddedServer(settings.data_dir, durability=level))
    return embedded.url


async def started_before(stop: asyncio.Event, start: Awaitable[object]) -> bool:
    """Whether something had started before `stop` was set; else its start is broken off. Raises what the start does."""
    starting, stopping = asyncio.ensure_future(start), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    finally:
        stopping.cancel()


def open_store(stack: AsyncExitStack, server: Server, settings: Settings, clock: Clock = now_ms) -> RedisStore:
    """The store on a server, as long as the stack."""
    store = RedisStore(
        server,
        max_samples=settings.max_samples,
        retention_ms=settings.retention_ms,
        ledger_retention_ms=settings.ledger_retention_ms,
        max_links=settings.max_links,
        clock=clock,
    )
    stack.push_async_callback(store.close)
    return store


async def export_once(settings: Settings, redis_url: str, imported: asyncio.Event) -> None:
    """Writes all samples to `PBA_DATA_PATH`, when no process serves any more, if it was imported."""
    async with AsyncExitStack() as stack:
        store = open_store(stack, open_server(redis_url, settings.store_timeout_ms / 1000), settings)
        if settings.data_path:
            await transfer.export_history(store, settings.data_path, imported)


def open_metrics(stack: AsyncExitStack, registry: CollectorRegistry, doors: Doors) -> MetricsServer:
    """The endpoint that Prometheus scrapes, as long as the stack. Raises `ListenError`."""
    settings = doors.settings
    doors.warn()
    try:
        server = MetricsServer(
            registry,
            settings.metrics_host,
            settings.metrics_port,
            tls=doors.metrics_context(),
            admits=doors.admits_to_metrics,
        )
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ListenError(f"cannot listen on {where} for metrics: {error.strerror or error}") from None
    return stack.enter_context(server)


def watch_files(stack: AsyncExitStack, doors: Doors, gate: Gate | None, metrics_server: MetricsServer | None) -> None:
    """Takes up certificates and callers' files that change, as long as the stack."""
    watching = Supervisor()
    stack.push_async_callback(watching.stop)
    watching.start("files", lambda: doors.watch(gate, metrics_server))


def write_ports(file: Path, grpc_port: int, metrics_port: int) -> None:
    """Appears whole: who waits for the file may read it as soon as it is there. Raises `FileRefusedError`."""
    partial = file.with_suffix(".partial")
    try:
        partial.write_text(json.dumps({"grpc_port": grpc_port, "metrics_port": metrics_port}))
        partial.replace(file)
    except OSError as error:
        raise FileRefusedError(f"PBA_PORTS_FILE={file} cannot be written: {error.strerror or error}") from error
