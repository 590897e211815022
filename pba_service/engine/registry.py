"""Keeps this replica's models as they are desired: loads, proves, swaps, then frees; says what it serves.

The desired state is shared and replicas converge on it by themselves. A model that cannot be loaded is refused with a
reason, and what served before goes on. Loading happens in a thread of its own: no call waits for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import (
    ModelConflictError,
    ModelUnknownError,
    PbaError,
    StoreUnavailableError,
)
from pba_service.domain.lifecycle import Desired
from pba_service.engine.model_ports import ReplicaReport
from pba_service.engine.models import ModelSet
from pba_service.engine.stock import Stock

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from pba_service.domain.lifecycle import Pin, Scope
    from pba_service.engine.arrivals import Arrival
    from pba_service.engine.model_ports import ModelBundle, ModelFolder, ModelRegistry
    from pba_service.engine.ports import Clock, Model, ModelInfo
    from pba_service.engine.refresh import Refresher
    from pba_service.engine.stock import Known, RegistryOptions
    from pba_service.observability.metrics import Metrics

MAX_ATTEMPTS = 20
"""How often a change of the desired state is tried because another replica was faster."""

_log = structlog.get_logger(__name__)


class Registry:
    """The life of this replica's models.

    Args:
        shared: What replicas share.
        folder: The model folder.
        refresher: What predicts with them.
        loader: A thread that nothing else needs.
        metrics: Told of what is done.
        options: What the operator decides.
        clock: Wall-clock time.
    """

    def __init__(
        self,
        *,
        shared: ModelRegistry,
        folder: ModelFolder,
        refresher: Refresher,
        loader: Executor,
        metrics: Metrics,
        options: RegistryOptions,
        clock: Clock,
    ) -> None:
        self.desired = Desired()
        self._shared = shared
        self._stock = Stock(shared, folder, loader, metrics, options)
        self._refresher = refresher
        self._metrics = metrics
        self._options = options
        self._started_at_ms = clock()
        self._waiting: list[Arrival] = []
        self._prepared: dict[str, Model] = {}
        self._lock = asyncio.Lock()

    @property
    def models(self) -> ModelSet:
        """What serves now."""
        return self._refresher.router.models

    async def start(self) -> None:
        """Serves with what is desired, or as long as the store is away with what the folder offers.

        Raises:
            ModelRefusedError: Neither could be loaded; with the reason of the folder's.
        """
        self._waiting = await self._stock.arrivals(at_start=True)
        try:
            self.desired = await self._shared.desired()
            await self._take_in()
        except StoreUnavailableError:
            _log.warning("models_not_shared_yet")
        await self._converge()
        if self.models.default is None:
            model = await self._stock.meant()
            self._serve({model.info.version: model})

    async def run(self) -> None:
        """Follows the folder and the desired state until cancelled."""
        while True:
            await asyncio.sleep(self._options.poll_s)
            await self.turn()

    async def turn(self) -> None:
        """One round of `run`."""
        try:
            self.desired = await self._shared.desired()
            self._waiting += await self._stock.arrivals(at_start=False)
            await self._take_in()
            await self._converge()
            await self._stock.publish_what_is_missing(self.desired)
            await self._shared.report(self.report(), self._options.report_ttl_s)
        except PbaError as error:
            _log.warning("models_not_followed", reason=str(error))

    async def stop(self) -> None:
        """Says goodbye, so that nobody waits for the report to expire."""
        try:
            await self._shared.leave(self._options.replica)
        except StoreUnavailableError:
            _log.info("replica_left_unannounced")

    def report(self) -> ReplicaReport:
        """What this replica serves."""
        models = self.models
        return ReplicaReport(
            replica=self._options.replica,
            serving=models.default.info.version if models.default else "",
            loaded=tuple(models.loaded),
            refused={one: self._stock.refused[one] for one in self.desired.versions if one in self._stock.refused},
            revision=models.desired.revision,
            started_at_ms=self._started_at_ms,
        )

    async def replicas(self) -> list[ReplicaReport]:
        """The living replicas, this one as it is now."""
        others = {report.replica: report for report in await self._shared.replicas()}
        return [one for _, one in sorted((others | {self._options.replica: self.report()}).items())]

    async def known(self) -> list[Known]:
        """Every model that is loaded, lies in the folder or is published; the newest first."""
        return await self._stock.known(self.models.infos)

    async def change(self, step: Callable[[Desired], Desired]) -> Desired:
        """Changes what is desired, whoever else does so at the same time, and converges on it here.

        Args:
            step: Gives the next state of the one it is given; may be called again. Its `PbaError` is raised.

        Raises:
            ModelConflictError: Others changed it all the time.
        """
        for _ in range(MAX_ATTEMPTS):
            before = await self._shared.desired()
            after = step(before)
            if after is not before:
                if not await self._shared.propose(after, read_revision=before.revision):
                    continue
                _log.info("models_desired", revision=after.revision, active=after.active, held=after.held)
            self.desired = after
            await self._converge()
            return after
        raise ModelConflictError("what is desired of the models was changed by others all the time")

    async def activate(self, version: str) -> Desired:
        """Serves links without a pin with a version, on every replica.

        Raises:
            ModelUnknownError: There is no such version.
            ModelConflictError: It cannot be loaded, or the active version is held.
        """
        await self.prepare(version)
        return await self.change(lambda desired: desired.activated(version))

    async def rollback(self, from_version: str = "") -> Desired:
        """Goes back to the version that was active before, if `from_version`, unless empty, is active.

        Raises:
            ModelConflictError: It is not, there was none before, or the active version is held.
        """

        def back(desired: Desired) -> Desired:
            if from_version and desired.active != from_version:
                raise ModelConflictError(f"{desired.active} is active, not {from_version}")
            return desired.rolled_back()

        target = back(await self._shared.desired()).active
        await self.prepare(target)
        return await self.change(back)

    async def pin(self, pin: Pin) -> Desired:
        """Serves some links with versions of their own. Raises what `activate` raises."""
        for version in pin.versions:
            await self.prepare(version)
        return await self.change(lambda desired: desired.pinned(pin))

    async def unpin(self, scope: Scope, value: str) -> Desired:
        """Takes a pin away. Raises `ModelUnknownError` where there is none."""
        return await self.change(lambda desired: desired.unpinned(scope, value))

    async def hold(self, version: str = "") -> Desired:
        """Keeps the active version until `release`; with a version, activates that first."""
        if version:
            await self.prepare(version)
        return await self.change(lambda desired: (desired.activated(version) if version else desired).hold())

    async def release(self) -> Desired:
        """Lets the active version be replaced again."""
        return await self.change(Desired.released)

    async def register(self, bundle: ModelBundle) -> ModelInfo:
        """Proves a model and gives it to all replicas; it serves nobody yet.

        Raises:
            ModelRefusedError: It did not pass.
            ModelConflictError: Another file is known under its version.
        """
        model = await self._stock.load(bundle)
        await self._shared.publish(bundle, model.info)
        _log.info("model_registered", version=model.info.version, where=bundle.where)
        return model.info

    async def prepare(self, version: str) -> None:
        """Makes sure that a version can serve: loads it once, and gives it to the other replicas.

        Raises:
            ModelUnknownError: There is no such version.
            ModelConflictError: It is refused, with the reason.
        """
        self._stock.retry(version)
        if not await self._ready(version):
            reason = self._stock.refused.get(version)
            raise ModelConflictError(f"{version}: {reason}") if reason else ModelUnknownError(f"model {version!r}")
        await self._stock.publish(version)

    async def _ready(self, version: str) -> bool:
        """Loads a version, if it is not, for the moment in which it is desired."""
        async with self._lock:
            if version not in self.models.loaded and version not in self._prepared:
                model = await self._stock.obtain(version)
                if model is None:
                    return False
                self._prepared[version] = model
        return True

    async def _take_in(self) -> None:
        """Proves what arrived in the folder, gives it to the others, and lets it serve where that is wanted.

        What cannot be taken in now, because the store is away, waits for the next time.
        """
        arrivals = [arrival for arrival in self._waiting if self._is_itself(arrival)]
        while arrivals:
            chosen = self._after(self.desired, arrivals).active
            if chosen == self.desired.active:
                break
            if await self._ready(chosen):
                _log.info("model_arrived", version=chosen)
                await self._stock.publish(chosen)
                break
            arrivals = [arrival for arrival in arrivals if arrival.info.version != chosen]
        if arrivals and self._after(self.desired, arrivals) is not self.desired:
            await self.change(lambda desired: self._after(desired, arrivals))
        self._waiting = []

    def _after(self, desired: Desired, arrivals: list[Arrival]) -> Desired:
        """What is desired once arrivals are taken into account; of those at a first start only the meant one serves."""
        nothing_yet = desired.revision == 0
        for arrival in arrivals:
            desired = desired.arrived(
                arrival.info.version,
                arrival.identity,
                meant=arrival.meant,
                at_start=arrival.at_start,
                activate=self._options.activate_arrivals and not (nothing_yet and desired.active),
            )
        return desired

    def _is_itself(self, arrival: Arrival) -> bool:
        """Whether it is not another file under the version of one that is loaded."""
        loaded = self.models.loaded.get(arrival.info.version)
        if loaded is None or loaded.info.checksum_sha256 == arrival.info.checksum_sha256:
            return True
        _log.warning("model_refused", where=arrival.found.where, reason="another file of this version is loaded")
        self._metrics.model_refused("checksum")
        return False

    async def _converge(self) -> None:
        """Loads what is desired and not loaded, swaps, and frees what is not wanted any more."""
        async with self._lock:
            desired, before = self.desired, self.models
            loaded = {**before.loaded, **self._prepared}
            self._prepared = {}
            for version in desired.versions:
                if version not in loaded and (model := await self._stock.obtain(version)):
                    loaded[version] = model
            kept = {version: loaded[version] for version in desired.versions if version in loaded}
            if desired.active not in kept and before.default:
                kept[before.default.info.version] = before.default  # goes on serving
            self._metrics.models_converged(
                revision=desired.revision, missing=sum(version not in kept for version in desired.versions)
            )
            if kept and (kept.keys() != before.loaded.keys() or desired != before.desired):
                self._serve(kept)

    def _serve(self, loaded: dict[str, Model]) -> None:
        models = ModelSet(loaded, self.desired)
        was, now = self.models.default, models.default
        self._refresher.serve_with(models)
        self._metrics.models_loaded(loaded)
        if now is not None and now is not was:
            _log.info("model_serving", name=now.info.name, version=now.info.version)
