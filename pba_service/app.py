"""The composition root: builds the service from its settings, starts it, and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from pba_service import transfer
from pba_service.access.links import LinkBound
from pba_service.access.watched import FileRefusedError
from pba_service.console.app import OPEN_PATHS, Console
from pba_service.console.relay import answer_on_socket
from pba_service.domain.errors import StoreUnavailableError
from pba_service.domain.parameters import TransportBounds
from pba_service.domain.samples import Limits
from pba_service.doors import open_doors
from pba_service.engine.advance import Options
from pba_service.engine.gathered import Gathered
from pba_service.engine.ingest import Ingest
from pba_service.engine.lastknown import LastKnown, PatientDirectory
from pba_service.engine.population import Population
from pba_service.engine.refresh import Refresher
from pba_service.engine.service import PbaService, Policy
from pba_service.engine.subscriptions import Subscriptions
from pba_service.engine.supervisor import Supervisor
from pba_service.engine.upkeep import follow, pulse, recall, sweep
from pba_service.experiment_life import follow_experiments
from pba_service.model_life import follow_models
from pba_service.observability.access import AccessMetrics
from pba_service.observability.metrics import Metrics, installed, service_registry
from pba_service.observability.round_trips import RoundTrips
from pba_service.observability.told import tell_on_socket
from pba_service.observability.tracing import open_tracing
from pba_service.retrain_life import follow_retraining
from pba_service.serving.admission import AdmissionOptions
from pba_service.serving.limiter import LimitOptions
from pba_service.serving.options import ServerOptions
from pba_service.serving.server import Server
from pba_service.settings import Settings, SettingsError
from pba_service.storage import address
from pba_service.storage.connect import open_server
from pba_service.storage.documents import RedisDocuments
from pba_service.storage.durability import Durability
from pba_service.storage.guarded import GuardedStore, GuardOptions
from pba_service.storage.keeper import Keeper
from pba_service.storage.registry import RedisRegistry
from pba_service.surroundings import (
    now_ms,
    open_metrics,
    open_store,
    redis_at,
    started_before,
    watch_files,
    write_ports,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pba_service.doors import Doors
    from pba_service.engine.ports import Clock
    from pba_service.observability.http import MetricsServer
    from pba_service.observability.spans import Tracing

ROUND_TRIPS_PER_CALL = 2.5
"""One call of the store may take so many times as long as the longest round trip."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """What of the service a process does; by default everything.

    Attributes:
        worker: Its place among the processes of one service.
        leads: Whether it does what one process does for all: going through all links, round after round.
        shares_port: Whether other processes listen on the gRPC port too.
        metrics_socket: A unix socket where it tells its metrics, instead of the endpoint that Prometheus scrapes.
        console_socket: A unix socket where it answers for the console, instead of the HTTP port.
    """

    worker: int = 0
    leads: bool = True
    shares_port: bool = False
    metrics_socket: Path | None = None
    console_socket: Path | None = None


ALL = Part()


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


async def run(settings: Settings, clock: Clock = now_ms) -> None:
    """Serves until SIGTERM or SIGINT, then stops in order.

    Args:
        settings: What it serves with.
        clock: Wall-clock time; a test may let it run faster.

    Raises:
        ListenError: A port cannot be listened on.
        ModelRefusedError: The model cannot be loaded.
        EmbeddedServerError: No Redis was named and none could be started.
        DurabilityUnmetError: Redis is not set as `PBA_DURABILITY` wants it.
        FileRefusedError: A file that a setting names cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop.set)
    async with AsyncExitStack() as stack:
        if await started_before(stop, stack.enter_async_context(running(settings, clock=clock))):
            keep_from_collection()
            await stop.wait()
            _log.info("stopping")
    _log.info("stopped")


def keep_from_collection() -> None:
    """Takes what there is by now from the collector of garbage: it stays, and looking through it holds callers up."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def running(settings: Settings, part: Part = ALL, clock: Clock = now_ms) -> AsyncIterator[Running]:
    """A running service, or a part of one; leaving the context stops it in order. Raises what `run` raises.

    The order: health says NOT_SERVING, streams end, calls end, what waits is stored, the history is written to
    `PBA_DATA_PATH`, connections close, the embedded server ends. One of several processes leaves the history's export
    and the embedded server to whoever started them.
    """
    async with AsyncExitStack() as stack:
        registry = service_registry()
        tracing = open_tracing(os.environ, installed("pba"))
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        metrics = Metrics(registry, settings.metrics_max_links)
        doors = open_doors(settings, AccessMetrics(registry))
        metrics_server = await _tell_metrics(stack, registry, doors, part)
        worker = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="compute"))
        redis_url = await redis_at(stack, settings)
        store, keeper, shared, documents = await _store(
            stack, settings, metrics, redis_url, round_trips=RoundTrips(registry, tracing), clock=clock
        )
        imported = asyncio.Event()
        if settings.data_path and not part.shares_port:
            stack.push_async_callback(transfer.export_history, store, settings.data_path, imported)
        population = Population(clock, metrics) if part.leads else None
        service, refresher = await _service(
            stack,
            settings,
            population,
            store=store,
            keeper=keeper,
            worker=worker,
            metrics=metrics,
            tracing=tracing,
            clock=clock,
        )
        models = await follow_models(stack, settings, shared=shared, refresher=refresher, metrics=metrics, clock=clock)
        trials = follow_experiments(
            stack,
            settings,
            documents=documents,
            models=models,
            refresher=refresher,
            metrics=metrics,
            clock=clock,
        )
        retraining = follow_retraining(
            stack,
            settings,
            redis_url=redis_url,
            documents=documents,
            models=models,
            trials=trials,
            population=population,
            metrics=metrics,
            clock=clock,
        )
        if settings.data_path:
            await transfer.import_history(service, settings.data_path)
            imported.set()
        if doors.shows_console:
            console = Console(service, asyncio.get_running_loop(), _bounds(settings), trials)
            if metrics_server is not None:
                metrics_server.mount(console, OPEN_PATHS)
            elif part.console_socket is not None:
                stack.enter_context(answer_on_socket(console, part.console_socket))
        gate = doors.gate(service.subscriptions.regions, LinkBound(store, settings.caller_links))
        server = Server(
            service,
            models=models,
            trials=trials,
            retraining=retraining,
            options=ServerOptions(
                host=settings.grpc_host,
                port=settings.grpc_port,
                share_port=part.shares_port,
                drain_grace_s=settings.drain_timeout_ms / 1000,
                max_connection_age_s=settings.max_connection_age_ms / 1000 or None,
                max_pending_calls=settings.max_waiting,
                admission=AdmissionOptions(limit=LimitOptions(target_s=settings.latency_target_ms / 1000))
                if settings.latency_target_ms
                else None,
            ),
            checks={"store": store.check, "durability": keeper.check},
            registry=registry,
            gate=gate,
            tls=doors.tls,
            tracing=tracing,
        )
        watch_files(stack, doors, gate, metrics_server)
        stack.push_async_callback(server.stop)
        port = await server.start()
        metrics_port = metrics_server.port if metrics_server else 0
        if settings.ports_file:
            write_ports(settings.ports_file, port, metrics_port)
        yield Running(port, metrics_port, service)


async def _store(
    stack: AsyncExitStack,
    settings: Settings,
    metrics: Metrics,
    redis_url: str,
    *,
    round_trips: RoundTrips,
    clock: Clock,
) -> tuple[GuardedStore, Keeper, RedisRegistry, RedisDocuments]:
    """The store, who sees to its durability, and what replicas share in it of models and of experiments.

    Raises:
        DurabilityUnmetError: It answers, and is not set as `PBA_DURABILITY` wants it.
    """
    wanted = Durability(settings.durability)
    server = open_server(redis_url, settings.store_timeout_ms / 1000)
    server.watched = round_trips.around
    store = open_store(stack, server, settings, clock)
    keeper = Keeper(server, wanted, settings.replicas)
    with contextlib.suppress(StoreUnavailableError):  # then it is found out once it answers
        await keeper.verify()
        await keeper.check()
    guard = GuardOptions(timeout_s=ROUND_TRIPS_PER_CALL * settings.store_timeout_ms / 1000)
    guarded = GuardedStore(store, guard, clock=clock, on_circuit=metrics.store_circuit, keep=keeper.keep)
    return guarded, keeper, RedisRegistry(server), RedisDocuments(server)


async def _service(
    stack: AsyncExitStack,
    settings: Settings,
    population: Population | None,
    *,
    store: GuardedStore,
    keeper: Keeper,
    worker: ThreadPoolExecutor,
    metrics: Metrics,
    tracing: Tracing | None,
    clock: Clock,
) -> tuple[PbaService, Refresher]:
    """The use cases and the loops behind them; leaving the stack stores what waits and ends the loops."""
    options = Options(base_ms=settings.collect_interval_ms, catch_up=settings.catch_up_samples)
    inference = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="inference"))
    refresher = Refresher(store, options, worker, metrics, inference=inference, tracing=tracing)
    ingest = Ingest(store, metrics, refresher, tracing)
    last_known = LastKnown(store, max_age_ms=settings.max_staleness_ms)
    subscriptions = Subscriptions(
        Gathered(PatientDirectory(store, last_known, clock)),
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
            bounds=_bounds(settings),
            confidence_threshold=settings.confidence_threshold,
        ),
        clock=clock,
        metrics=metrics,
        last_known=last_known,
    )
    supervisor = Supervisor()
    stack.push_async_callback(supervisor.stop)
    supervisor.start("durability", keeper.run)
    queues = {
        "samples": lambda: ingest.waiting,
        "links": lambda: refresher.marked,
        "updates": subscriptions.longest_wait,
    }
    supervisor.start("pulse", lambda: pulse(metrics, queues))
    supervisor.start("ingest", ingest.run)
    supervisor.start("refresh", refresher.run)
    supervisor.start("follow", lambda: follow(store, subscriptions, metrics, last_known))
    if population is not None:
        every_s = settings.update_interval_ms / 1000
        supervisor.start(
            "sweep",
            lambda: sweep(store, refresher, metrics, every_s, last_known=last_known, population=population),
        )
    else:
        supervisor.start("recall", lambda: recall(store, last_known))
    stack.push_async_callback(ingest.drain)
    return service, refresher


def _bounds(settings: Settings) -> TransportBounds:
    return TransportBounds(
        settings.min_streams, settings.max_streams, settings.min_buffer_bytes, settings.max_buffer_bytes
    )


async def _tell_metrics(
    stack: AsyncExitStack, registry: CollectorRegistry, doors: Doors, part: Part
) -> MetricsServer | None:
    """Tells metrics where this process should; the endpoint that Prometheus scrapes, if it has one."""
    if part.metrics_socket is None:
        return open_metrics(stack, registry, doors)
    await stack.enter_async_context(tell_on_socket(registry, part.metrics_socket))
    return None
