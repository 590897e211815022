"""The gRPC server: what it serves, how it starts, and how it stops without hurting its callers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from pba.v1 import model_service_pb2 as model_pb
from pba.v1 import model_service_pb2_grpc, prediction_service_pb2_grpc
from pba.v1 import prediction_service_pb2 as pb

from pba_service.domain.errors import ModelUnavailableError
from pba_service.serving.admission import Admission
from pba_service.serving.counted import RpcMetrics
from pba_service.serving.health import HealthMonitor, HealthServicer
from pba_service.serving.interceptors import Guard
from pba_service.serving.models import ModelServicer
from pba_service.serving.servicers import PredictionServicer
from pba_service.serving.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry

    from pba_service.access.certificates import Certificates
    from pba_service.access.watched import Watched
    from pba_service.engine.api import ModelRetraining, Models, ModelTrials, Service
    from pba_service.observability.spans import Tracing
    from pba_service.serving.gate import Gate
    from pba_service.serving.options import ServerOptions

_log = structlog.get_logger(__name__)

PREDICTION_SERVICE = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL_SERVICE = model_pb.DESCRIPTOR.services_by_name["ModelService"].full_name


class ListenError(Exception):
    """The server cannot listen where it should; the text says where and why."""


class Server:
    """Serves one `Service` over gRPC."""

    def __init__(
        self,
        service: Service,
        *,
        models: Models,
        trials: ModelTrials,
        retraining: ModelRetraining,
        options: ServerOptions,
        checks: Mapping[str, Callable[[], Awaitable[None]]],
        registry: CollectorRegistry,
        gate: Gate | None = None,
        tls: Watched[Certificates] | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Builds a server; nothing is opened before `start`.

        Args:
            service: What is served.
            models: The life of its models.
            trials: Experiments on them.
            retraining: What retrains them.
            options: How.
            checks: By name, what returns when something the service depends on is usable and raises otherwise, such
                as the store. That a model is loaded is checked as well.
            registry: Where the metrics of calls go.
            gate: Lets calls in; None: all of them.
            tls: The certificates to listen with; None: in plain text.
            tracing: Makes a span of each call; None: nothing does.
        """
        self._service = service
        self._models = models
        self._trials = trials
        self._retraining = retraining
        self._options = options
        self._closing = asyncio.Event()
        self._health = HealthServicer(("", PREDICTION_SERVICE, MODEL_SERVICE))
        everything = (*checks, "model")
        self._monitor = HealthMonitor(
            self._health,
            checks={**checks, "model": self._check_model},
            needs={"": everything, PREDICTION_SERVICE: everything, MODEL_SERVICE: ("model",)},
            options=options.monitor,
        )
        self._monitoring: asyncio.Task[None] | None = None
        self._metrics = RpcMetrics(registry)
        self._admission = Admission(options.admission, registry) if options.admission else None
        self._gate = gate
        self._tls = tls
        self._tracing = tracing
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listens, and returns the port. Raises `ListenError`.

        Health is found out before the first call is accepted.
        """
        server = grpc.aio.server(options=self._options.channel_options())
        guarded: Any = Guard(self._metrics, self._gate, self._admission, self._tracing).registration(server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self._service, self._closing), guarded
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self._models, self._trials, self._retraining), guarded
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, guarded)
        names = (PREDICTION_SERVICE, MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), guarded)
        try:
            if self._tls is None:
                port = server.add_insecure_port(self._options.address)
            else:
                port = server.add_secure_port(self._options.address, server_credentials(self._tls))
        except RuntimeError:
            await server.stop(None)
            raise ListenError(_why_not(self._options)) from None
        await self._monitor.round()
        await server.start()
        self._server = server
        self._monitoring = asyncio.create_task(self._monitor.run())
        _log.info("grpc_listening", host=self._options.host, port=port)
        return port

    async def stop(self) -> None:
        """Stops: tells NOT_SERVING, waits a little, ends the streams, lets calls end, closes.

        Returns within the two times that the options give to it. A second call returns at once.
        """
        server, self._server = self._server, None
        if server is None:
            return
        if self._monitoring is not None:
            self._monitoring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._monitoring
        self._health.shut_down()
        await asyncio.sleep(self._options.drain_wait_s)
        self._closing.set()
        self._service.subscriptions.close()
        await server.stop(self._options.drain_grace_s)
        _log.info("grpc_stopped")

    async def _check_model(self) -> None:
        if not self._service.models():
            raise ModelUnavailableError


def _why_not(options: ServerOptions) -> str:
    """Why an address cannot be listened on: gRPC does not say, so a plain socket is asked."""
    where = f"cannot listen on {options.address}"
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            options.host.strip("[]"), options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    return where
