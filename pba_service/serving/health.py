"""Health as `grpc.health.v1` defines it: what is told of each service, and the monitor that finds it out.

grpc_health's own servicer has no List, and its Watch never ends, so that it would hold up every shutdown.
"""
# ruff: noqa: ARG002, N802 - the signatures are those of the generated base class

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pba_service.domain.errors import PbaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

_log = structlog.get_logger(__name__)

LIVENESS = "liveness"
"""The service name that asks only whether the process still answers; never NOT_SERVING, not even in a shutdown."""

_Status = health_pb2.HealthCheckResponse.ServingStatus


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """Tells the health of services; those it does not know are NOT_FOUND."""

    def __init__(self, services: tuple[str, ...]) -> None:
        """Starts with every service NOT_SERVING and `LIVENESS` SERVING."""
        self._serving = dict.fromkeys(services, False) | {LIVENESS: True}
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, service: str, *, serving: bool) -> None:
        """Changes what is told of a service."""
        if self._closed or self._serving[service] is serving:
            return
        self._serving[service] = serving
        _log.info("health_changed", service=service, serving=serving)
        self._wake()

    def shut_down(self) -> None:
        """Tells NOT_SERVING of everything but `LIVENESS`, for good."""
        for service in self._serving:
            if service != LIVENESS:
                self.set(service, serving=False)
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        """Wakes every watcher: each waits for the event that was current when it looked."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return health_pb2.HealthCheckResponse(status=_Status.SERVICE_UNKNOWN)
        return health_pb2.HealthCheckResponse(status=_Status.SERVING if serving else _Status.NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """The health of a service now."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._status(request.service)

    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        """The health of all services now."""
        return health_pb2.HealthListResponse(statuses={service: self._status(service) for service in self._serving})

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The health of a service now and whenever it changes, until the server shuts down."""
        told = None
        while True:
            changed, closed = self._changed, self._closed
            status = self._status(request.service)
            if status != told:
                told = status
                yield status
            if closed:
                return
            await changed.wait()


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """How quickly a dependency is given up and trusted again.

    Attributes:
        interval_s: Between two rounds of checks.
        timeout_s: A check that takes longer has failed.
        down_after: Failures in a row that make a service NOT_SERVING; fewer do not, as when a primary changes over.
        up_after: Successes in a row that make it SERVING again.
        damping_s: A dependency that fails again within this time after it was trusted again has to earn twice as many
            successes next time, up to `max_up_after`: health that comes and goes sends callers to and fro.
        max_up_after: See there.
    """

    interval_s: float = 1.0
    timeout_s: float = 1.0
    down_after: int = 3
    up_after: int = 2
    damping_s: float = 60.0
    max_up_after: int = 16


class HealthMonitor:
    """Checks dependencies round after round and tells the health servicer."""

    def __init__(
        self,
        health: HealthServicer,
        *,
        checks: Mapping[str, Callable[[], Awaitable[None]]],
        needs: Mapping[str, tuple[str, ...]],
        options: MonitorOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares a monitor.

        Args:
            health: Told of each service.
            checks: By name, what returns when a dependency is usable and raises otherwise.
            needs: For each service the names of the checks it depends on.
            options: How quickly.
            clock: Monotonic seconds.
        """
        self._health = health
        self._checks = checks
        self._needs = needs
        self._options = options
        self._usable: dict[str, bool | None] = dict.fromkeys(checks)  # None: never seen usable
        self._in_a_row = dict.fromkeys(checks, 0)
        self._clock = clock
        self._up_after = dict.fromkeys(checks, options.up_after)
        self._trusted_at_s = dict.fromkeys(checks, -math.inf)

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(self._options.interval_s)

    async def round(self) -> None:
        """Runs each check once."""
        results = await asyncio.gather(*map(self._check, self._checks))
        for name, failure in zip(self._checks, results, strict=True):
            self._judge(name, failure)
        for service, needs in self._needs.items():
            self._health.set(service, serving=all(self._usable[name] for name in needs))

    async def _check(self, name: str) -> str | None:
        """None, or why a dependency is not usable."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._checks[name]()
        except TimeoutError:
            return f"no answer in {self._options.timeout_s:g} s"
        except PbaError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a check that fails in an unforeseen way has failed, the monitor lives
            return f"{type(error).__name__}: {error}"
        return None

    def _judge(self, name: str, failure: str | None) -> None:
        usable, before = failure is None, self._usable[name]
        if usable is bool(before):
            self._in_a_row[name] = 0
            return
        self._in_a_row[name] += 1
        # The first success is believed at once, so that a start takes no longer than it must.
        needed = 1 if before is None else self._up_after[name] if usable else self._options.down_after
        if self._in_a_row[name] >= needed:
            self._usable[name], self._in_a_row[name] = usable, 0
            self._damp(name, usable=usable, first=before is None)
            _log.log(
                logging.INFO if usable else logging.WARNING,
                "dependency_changed",
                dependency=name,
                usable=usable,
                failure=failure,
            )

    def _damp(self, name: str, *, usable: bool, first: bool) -> None:
        now_s = self._clock()
        if usable and first:
            return
        if usable:
            self._trusted_at_s[name] = now_s
        elif now_s - self._trusted_at_s[name] < self._options.damping_s:
            self._up_after[name] = min(2 * self._up_after[name], self._options.max_up_after)
        else:
            self._up_after[name] = self._options.up_after
