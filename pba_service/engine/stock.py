"""Where a version comes from: this replica's folder or what other replicas published; proved before it is given out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from pba_service.domain.errors import CapacityExceededError, ModelConflictError, ModelRefusedError
from pba_service.engine.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from pba_service.domain.lifecycle import Desired
    from pba_service.engine.arrivals import Arrival
    from pba_service.engine.model_ports import ModelBundle, ModelFolder, ModelRegistry
    from pba_service.engine.ports import Model, ModelInfo
    from pba_service.observability.metrics import Metrics

RETRY_S = 30.0
"""How long a version that was refused is not tried again, unless its file changes."""

PUBLISHED_KEPT = 30
"""Published models that nothing refers to are forgotten beyond so many, the oldest first."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What the operator decides about models.

    Attributes:
        replica: This replica's name.
        poll_s: How often the folder and the desired state are looked at.
        activate_arrivals: Whether a model that appears in the folder serves at once; else it waits to be activated.
        share: Whether models are given to the other replicas through the store.
    """

    replica: str
    poll_s: float
    activate_arrivals: bool = True
    share: bool = True

    @property
    def report_ttl_s(self) -> float:
        """A replica that was not heard of for so long is gone."""
        return 5 * self.poll_s + 5


@dataclass(frozen=True, slots=True)
class Known:
    """A model that this replica or the store knows of.

    Attributes:
        info: What it says of itself.
        loaded: Whether this replica has loaded it.
        local: Where its files lie in this replica's folder; empty where they do not.
        published: Whether any replica can get it from the store.
        refused: Why this replica did not load it, if it tried.
    """

    info: ModelInfo
    loaded: bool
    local: str
    published: bool
    refused: str


class Stock:
    """The models that this replica can get at.

    Attributes:
        refused: By version why it could not be loaded when that was tried last.

    Args:
        shared: What replicas share.
        folder: The model folder.
        loader: A thread that nothing else needs.
        metrics: Told of what is done.
        options: What the operator decides.
    """

    def __init__(
        self,
        shared: ModelRegistry,
        folder: ModelFolder,
        loader: Executor,
        metrics: Metrics,
        options: RegistryOptions,
    ) -> None:
        self.refused: dict[str, str] = {}
        self._retry_at_s: dict[str, float] = {}
        self._arrivals = Arrivals(folder, lambda error: metrics.model_refused(error.kind))
        self._shared = shared
        self._folder = folder
        self._loader = loader
        self._metrics = metrics
        self._share = options.share

    async def arrivals(self, *, at_start: bool) -> list[Arrival]:
        """What is new in the folder; what was refused before may be tried again."""
        arrivals = await self._in_thread(self._arrivals.first if at_start else self._arrivals.look)
        for arrival in arrivals:
            self.retry(arrival.info.version)
        return arrivals

    async def meant(self) -> Model:
        """The model that `PBA_MODEL_PATH` means. Raises `ModelRefusedError`."""
        return await self.load(await self._in_thread(self._folder.meant))

    def retry(self, version: str) -> None:
        """Lets a version be tried at once, also if it was refused a moment ago."""
        self._retry_at_s.pop(version, None)

    async def known(self, loaded: list[ModelInfo]) -> list[Known]:
        """Every model that is loaded, lies in the folder or is published; the newest first."""
        infos = {info.version: info for info in await self._shared.catalogue()}
        published, local = set(infos), self._arrivals.local
        infos |= {version: one.info for version, one in local.items()}
        in_memory = {info.version: info for info in loaded}
        infos |= in_memory
        return [
            Known(
                info=info,
                loaded=version in in_memory,
                local=local[version].found.where if version in local else "",
                published=version in published,
                refused=self.refused.get(version, ""),
            )
            for version, info in sorted(infos.items(), key=lambda item: item[1].created_at_ms, reverse=True)
        ]

    async def obtain(self, version: str) -> Model | None:
        """A version loaded, from the folder or from the store; None where that is not possible now."""
        now = asyncio.get_running_loop().time()
        if self._retry_at_s.get(version, now) > now:
            return None
        try:
            bundle = await self._bundle(version)
            if bundle is None:
                return None
            model = await self.load(bundle)
            if model.info.version != version:
                raise ModelRefusedError(bundle.where, f"it is {model.info.version}, not {version}")  # noqa: TRY301 - told as any other
        except ModelRefusedError as error:
            self._retry_at_s[version] = now + RETRY_S
            self.refused[version] = error.reason
            return None
        self.refused.pop(version, None)
        return model

    async def _bundle(self, version: str) -> ModelBundle | None:
        local = self._arrivals.local.get(version)
        if local:
            try:
                return await self._in_thread(self._folder.read, local.found)
            except ModelRefusedError as error:
                _log.info("model_file_gone", version=version, reason=error.reason)
        return await self._shared.fetch(version)

    async def load(self, bundle: ModelBundle) -> Model:
        """Loads and proves a model. Raises `ModelRefusedError`, which is logged and counted."""
        try:
            model = await self._in_thread(self._folder.load, bundle)
        except ModelRefusedError as error:
            _log.warning("model_refused", where=bundle.where, reason=error.reason)
            self._metrics.model_refused(error.kind)
            raise
        self._metrics.model_proved()
        return model

    async def publish(self, version: str) -> None:
        """Gives a version that lies in this folder to the other replicas, if that is wanted and possible."""
        local = self._arrivals.local.get(version)
        if local is None or not self._share:
            return
        try:
            bundle = await self._in_thread(self._folder.read, local.found)
            # it may have been written since it was looked at: then what lies there is another model, or half of one
            info = await self._in_thread(self._folder.describe, bundle)
            if (info.version, info.checksum_sha256) != (version, local.info.checksum_sha256):
                raise ModelRefusedError(bundle.where, f"it is {info.version} by now", "unreadable")  # noqa: TRY301 - told as any other
            await self._shared.publish(bundle, info)
        except (ModelRefusedError, CapacityExceededError, ModelConflictError) as error:
            _log.warning("model_not_shared", version=version, reason=str(error))

    async def publish_what_is_missing(self, desired: Desired) -> None:
        """Publishes what is desired and lies here, where the store has lost it; and forgets what nothing refers to."""
        if not self._share:
            return
        published = await self._shared.catalogue()
        versions = {info.version for info in published}
        for version in desired.versions:
            if version not in versions:
                await self.publish(version)
        needed = {*desired.versions, *desired.previous}
        spare = [info.version for info in published if info.version not in needed]
        if len(spare) > PUBLISHED_KEPT:
            await self._shared.forget(spare[PUBLISHED_KEPT:])

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, lambda: work(*arguments))
