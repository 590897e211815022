"""The composition root: builds the service from its settings, starts it, and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from pba_service import transfer
from pba_service.access.watched import FileRefusedError
from pba_service.domain.errors import StoreUnavailableError
from pba_service.domain.parameters import TransportBounds
from pba_service.domain.samples import Limits
from pba_service.doors import open_doors
from pba_service.engine.advance import Options
from pba_service.engine.ingest import Ingest
from pba_service.engine.lastknown import LastKnown, PatientDirectory
from pba_service.engine.refresh import Refresher
from pba_service.engine.registry import Registry
from pba_service.engine.service import PbaService, Policy
from pba_service.engine.stock import RegistryOptions
from pba_service.engine.subscriptions import Subscriptions
from pba_service.engine.supervisor import Supervisor
from pba_service.engine.upkeep import follow, pulse, sweep
from pba_service.observability.access import AccessMetrics
from pba_service.observability.http import MetricsServer
from pba_service.observability.metrics import Metrics, service_registry
from pba_service.runtime.folder import LocalFolder
from pba_service.serving.options import ServerOptions
from pba_service.serving.server import ListenError, Server
from pba_service.settings import Settings, SettingsError
from pba_service.storage import address
from pba_service.storage.connect import open_server
from pba_service.storage.durability import Durability
from pba_service.storage.embedded import EmbeddedServer
from pba_service.storage.guarded import GuardedStore, GuardOptions
from pba_service.storage.keeper import Keeper
from pba_service.storage.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pba_service.doors import Doors
    from pba_service.storage.registry import RedisRegistry

ROUND_TRIPS_PER_CALL = 2.5
"""One call of the store may take so many times as long as the longest round trip."""

MODELS_POLL_S = 2.0
"""How often the model folder and the desired state are looked at, at least."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers.

    Attributes:
        grpc_port: Where calls are answered.
        metrics_port: Where Prometheus scrapes.
        service: The use cases, for those in the same process.
    """

    grpc_port: int
    metrics_port: int
    service: PbaService


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings, with all that can be wrong with them found before anything starts.

    Raises:
        SettingsError: It lists every fault.
    """
    faults: list[str] = []
    settings = None
    try:
        settings = Settings.from_env(environment)
    except SettingsError as error:
        faults += error.faults
    url = environment.get("PBA_REDIS_URL", "").strip()
    if url and not any(fault.startswith("PBA_REDIS_URL") for fault in faults):
        try:
            address.parse(url)
        except ValueError as fault:
            faults.append(f"PBA_REDIS_URL=***: {fault}")
    if settings is not None and not faults:
        try:
            open_doors(settings, AccessMetrics(CollectorRegistry()))
        except FileRefusedError as refused:
            faults.append(str(refused))
    if settings is None or faults:
        raise SettingsError(faults)
    return settings


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then stops in order.

    Raises:
        ListenError: A port cannot be listened on.
        ModelRefusedError: The model cannot be loaded.
        EmbeddedServerError: No Redis was named and none could be started.
        DurabilityUnmetError: Redis is not set as `PBA_DURABILITY` wants it.
        FileRefusedError: A file of certificates, callers or keys cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop.set)
    async with running(settings):
        await stop.wait()
        _log.info("stopping")
    _log.info("stopped")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A running service; leaving the context stops it in order. Raises what `run` raises.

    The order: health says NOT_SERVING, streams end, calls end, what waits is stored, the history is written to
    `PBA_DATA_PATH`, connections close, the embedded server ends.
    """
    async with AsyncExitStack() as stack:
        registry = service_registry()
        metrics = Metrics(registry, settings.metrics_max_links)
        doors = open_doors(settings, AccessMetrics(registry))
        doors.warn()
        metrics_server = stack.enter_context(_metrics_server(registry, settings, doors))
        worker = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="compute"))
        store, keeper, shared = await _store(stack, settings, metrics)
        if settings.data_path:
            stack.push_async_callback(transfer.export_history, store, settings.data_path)
        service, refresher = await _service(stack, settings, store=store, keeper=keeper, worker=worker, metrics=metrics)
        models = await _models(stack, settings, shared=shared, refresher=refresher, metrics=metrics)
        if settings.data_path:
            await transfer.import_history(service, settings.data_path)
        gate = doors.gate(service.subscriptions.regions)
        server = Server(
            service,
            models=models,
            options=ServerOptions(
                host=settings.grpc_host,
                port=settings.grpc_port,
                drain_grace_s=settings.drain_timeout_ms / 1000,
                max_connection_age_s=settings.max_connection_age_ms / 1000 or None,
            ),
            checks={"store": store.check, "durability": keeper.check},
            registry=registry,
            gate=gate,
            tls=doors.tls,
        )
        watching = Supervisor()
        stack.push_async_callback(watching.stop)
        watching.start("files", lambda: doors.watch(gate, metrics_server))
        stack.push_async_callback(server.stop)
        port = await server.start()
        started = Running(port, metrics_server.port, service)
        if settings.ports_file:
            _write_ports(settings.ports_file, started)
        yield started


async def _store(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics
) -> tuple[GuardedStore, Keeper, RedisRegistry]:
    """The store, who sees to its durability, and what replicas share of models in it.

    Raises:
        DurabilityUnmetError: It answers, and is not set as `PBA_DURABILITY` wants it.
    """
    url, wanted = settings.redis_url, Durability(settings.durability)
    if url is None:
        level = Durability.ALWAYS if wanted is Durability.AUTO else wanted
        embedded = await stack.enter_async_context(EmbeddedServer(settings.data_dir, durability=level))
        url = embedded.url
    server = open_server(url, settings.store_timeout_ms / 1000)
    store = RedisStore(
        server,
        max_samples=settings.max_samples,
        retention_ms=settings.retention_ms,
        ledger_retention_ms=settings.ledger_retention_ms,
        max_links=settings.max_links,
        clock=now_ms,
    )
    stack.push_async_callback(store.close)
    keeper = Keeper(server, wanted, settings.replicas)
    with contextlib.suppress(StoreUnavailableError):  # then it is found out once it answers
        await keeper.verify()
        await keeper.check()
    guard = GuardOptions(timeout_s=ROUND_TRIPS_PER_CALL * settings.store_timeout_ms / 1000)
    guarded = GuardedStore(store, guard, clock=now_ms, on_circuit=metrics.store_circuit, keep=keeper.keep)
    return guarded, keeper, store.models


async def _service(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    store: GuardedStore,
    keeper: Keeper,
    worker: ThreadPoolExecutor,
    metrics: Metrics,
) -> tuple[PbaService, Refresher]:
    """The use cases and the loops behind them; leaving the stack stores what waits and ends the loops."""
    options = Options(base_ms=settings.collect_interval_ms, catch_up=settings.catch_up_samples)
    inference = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="inference"))
    refresher = Refresher(store, options, worker, metrics, inference=inference)
    ingest = Ingest(store, metrics, refresher)
    last_known = LastKnown(store, max_age_ms=settings.max_staleness_ms)
    subscriptions = Subscriptions(
        PatientDirectory(store, last_known, now_ms),
        max_subscribers=settings.max_subscribers,
        on_skipped=metrics.updates_skipped,
    )
    service = PbaService(
        store=store,
        ingest=ingest,
        refresher=refresher,
        subscriptions=subscriptions,
        worker=worker,
        options=options,
        policy=Policy(
            sample_limits=Limits(max_ahead_ms=settings.max_clock_skew_ms, max_age_ms=settings.retention_ms),
            bounds=TransportBounds(
                settings.min_streams, settings.max_streams, settings.min_buffer_bytes, settings.max_buffer_bytes
            ),
            confidence_threshold=settings.confidence_threshold,
        ),
        clock=now_ms,
        metrics=metrics,
        last_known=last_known,
    )
    supervisor = Supervisor()
    stack.push_async_callback(supervisor.stop)
    supervisor.start("durability", keeper.run)
    supervisor.start("pulse", lambda: pulse(metrics))
    supervisor.start("ingest", ingest.run)
    supervisor.start("refresh", refresher.run)
    supervisor.start("follow", lambda: follow(store, subscriptions, metrics, last_known))
    supervisor.start("sweep", lambda: sweep(store, refresher, metrics, settings.update_interval_ms / 1000, last_known))
    stack.push_async_callback(ingest.drain)
    return service, refresher


async def _models(
    stack: AsyncExitStack, settings: Settings, *, shared: RedisRegistry, refresher: Refresher, metrics: Metrics
) -> Registry:
    """What keeps this replica's models as they are desired, with models that serve already."""
    poll_s = min(settings.update_interval_ms / 2_000, MODELS_POLL_S)
    registry = Registry(
        shared=shared,
        folder=LocalFolder(settings.model_path),
        refresher=refresher,
        loader=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="models")),
        metrics=metrics,
        options=RegistryOptions(
            replica=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",
            poll_s=poll_s,
            activate_arrivals=settings.model_reload == "activate",
            share=settings.model_sharing == "store",
        ),
        clock=now_ms,
    )
    await registry.start()
    supervisor = Supervisor()
    stack.push_async_callback(registry.stop)
    stack.push_async_callback(supervisor.stop)
    supervisor.start("models", registry.run)
    return registry


def _metrics_server(registry: CollectorRegistry, settings: Settings, doors: Doors) -> MetricsServer:
    try:
        return MetricsServer(
            registry,
            settings.metrics_host,
            settings.metrics_port,
            tls=doors.metrics_context(),
            admits=doors.admits_to_metrics,
        )
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ListenError(f"cannot listen on {where} for metrics: {error.strerror or error}") from None


def _write_ports(file: Path, started: Running) -> None:
    """Appears whole: who waits for the file may read it as soon as it is there."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"grpc_port": started.grpc_port, "metrics_port": started.metrics_port}))
    partial.replace(file)


def now_ms() -> int:
    """The system's time."""
    return time.time_ns() // 1_000_000
