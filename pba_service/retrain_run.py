"""One retraining: history from the store, a model from that, and the model to where replicas find it.

The run holds the lease that `domain.retraining` describes, and says again and again that it lives. Its model is
published first and named in the record after: only what the record names is ever tried, and a run that lost its lease
cannot name anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from pba_service.domain.errors import LinkUnknownError, ModelRefusedError, PbaError, StoreUnavailableError
from pba_service.domain.retraining import LEASE_MS, LeaseLostError, Outcome, Phase, Trigger
from pba_service.domain.samples import Series
from pba_service.engine.model_ports import ModelBundle
from pba_service.engine.retraining_record import Lease, RetrainingRecords
from pba_service.engine.upkeep import all_links
from pba_service.retrain_scratch import scratch
from pba_service.runtime.folder import LocalFolder
from pba_service.storage.connect import open_server
from pba_service.storage.documents import RedisDocuments
from pba_service.storage.registry import RedisRegistry
from pba_service.surroundings import now_ms, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from pba_service.engine.model_ports import ModelRegistry
    from pba_service.engine.ports import Store
    from pba_service.settings import Settings

MOST_LINKS = 256
"""Links that one run learns from, others each time: it must fit into memory."""

LEAST_LINK_SAMPLES = 600
"""Of a link that has fewer, nothing would be left to tune and to test on."""

_DAY_MS = 86_400_000

_log = structlog.get_logger(__name__)


class TooLittleDataError(Exception):
    """The links have too little history to learn from; the text says how much."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a model is to be made from.

    Attributes:
        output: The folder for `model.onnx` and `manifest.json`.
        parent: The folder of the model to go on from; None: from scratch.
        history: Links by id with their samples.
        file: Measurements in a file, instead.
        on_epoch: Told how many passes are done, of how many; what it raises ends the training.
        base_ms: The service's collection interval: the windows of training are those that it serves.
    """

    output: Path
    parent: Path | None
    history: Sequence[tuple[str, Series]]
    file: Path | None
    on_epoch: Callable[[int, int], None]
    base_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a run.

    Attributes:
        token: Of a run that was begun for this process; 0: begin one.
        from_scratch: Whether it shall begin with a fresh network; a run that was begun says so itself.
        file: Measurements to learn from instead of the store's history.
    """

    token: int = 0
    from_scratch: bool = False
    file: Path | None = None


class Retrainer:
    """One run, from its lease to its end.

    Args:
        settings: The service's.
        store: Where the history is.
        lease: The right to do it.
        shared: Where models are published.
        train: Trains; blocking. Raises `TooLittleDataError`, and whatever else can go wrong.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        lease: Lease,
        *,
        shared: ModelRegistry,
        train: Callable[[Job], object],
    ) -> None:
        self._settings = settings
        self._store = store
        self._lease = lease
        self._shared = shared
        self._train = train
        self._folder = LocalFolder(settings.model_path)
        self._phase, self._done_ratio = Phase.READING, 0.0
        self._abandoned = threading.Event()

    async def run(self, file: Path | None) -> tuple[Outcome, str]:
        """Does it all; returns the outcome, and the version or the reason. Raises `LeaseLostError`."""
        outcome, reason, version = Outcome.FAILED, "", ""
        try:
            version = await self._beating(self._work(file))
            outcome = Outcome.TRAINED
        except TooLittleDataError as error:
            outcome, reason = Outcome.TOO_LITTLE_DATA, str(error)
        except asyncio.CancelledError:
            outcome, reason = Outcome.STOPPED, "its process was told to stop"
        except StoreUnavailableError:
            reason = "Redis is away"
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename or 'a file of the run'}"
        except (PbaError, ModelRefusedError) as error:
            reason = str(error)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever training may raise, serving goes on and it is told
            _log.exception("retraining_failed")
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._abandoned.set()
        try:
            await self._lease.end(outcome, reason=reason, version=version)
        except LeaseLostError:
            if version:
                await self._forget(version)
            raise
        return outcome, version or reason

    async def _work(self, file: Path | None) -> str:
        with scratch(self._settings.data_dir) as folder:
            history = [] if file else await self._history()
            parent = None if self._lease.run.from_scratch else await self._parent(folder / "parent")
            self._enter(Phase.TRAINING)
            base_ms = self._settings.collect_interval_ms
            job = Job(folder / "model", parent, history, file, self._on_epoch, base_ms)
            await self._in_thread(job)
            self._enter(Phase.REGISTERING)
            return await self._publish(folder / "model")

    async def _beating(self, work: Coroutine[Any, Any, str]) -> str:
        """Does the work while saying that the run lives; ends it when another holds the lease."""
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        heard_s = loop.time()
        try:
            while not task.done():
                try:
                    await self._lease.beat(phase=self._phase, done_ratio=self._done_ratio)
                    heard_s = loop.time()
                except StoreUnavailableError:
                    if loop.time() - heard_s > LEASE_MS / 1000:
                        raise
                await asyncio.wait((task,), timeout=LEASE_MS / 1000 / 8)
            return str(task.result())
        finally:
            task.cancel()
            self._abandoned.set()
            with suppress(asyncio.CancelledError, Exception):
                await task  # what it holds is given back before anybody else may hold it

    def _enter(self, phase: Phase) -> None:
        _log.info("retraining_phase", phase=phase.value)
        self._phase, self._done_ratio = phase, 0.0

    def _on_epoch(self, done: int, of: int) -> None:
        if self._abandoned.is_set():
            raise LeaseLostError("nobody waits for this training any more")
        self._done_ratio = done / of

    async def _history(self) -> list[tuple[str, Series]]:
        """The newest days of some links. Raises `TooLittleDataError`."""
        start_ms = now_ms() - self._settings.training_data_days * _DAY_MS
        salt = self._lease.run.token.to_bytes(8, "little")
        found = [link.info.link_id async for link in all_links(self._store) if link.sample_count >= LEAST_LINK_SAMPLES]
        found.sort(key=lambda link_id: hashlib.blake2b(link_id.encode(), digest_size=8, key=salt).digest())
        history = []
        for place, link_id in enumerate(chosen := sorted(found[:MOST_LINKS])):
            series = await self._series(link_id, start_ms)
            if len(series) >= LEAST_LINK_SAMPLES:
                history.append((link_id, series))
            self._done_ratio = (place + 1) / len(chosen)
        if not history:
            raise TooLittleDataError(
                f"no link has {LEAST_LINK_SAMPLES} samples of the last {self._settings.training_data_days} days"
            )
        samples = sum(len(series) for _, series in history)
        await self._lease.beat(phase=self._phase, links=len(history), samples=samples)
        _log.info("retraining_read", links=len(history), samples=samples)
        return history

    async def _series(self, link_id: str, start_ms: int) -> Series:
        try:
            parts = [part async for part in self._store.history(link_id, start_ms, None)]
        except LinkUnknownError:  # it expired meanwhile
            parts = []
        if not parts:
            return Series.empty()
        return Series(np.concatenate([p.times_ms for p in parts]), np.concatenate([p.values for p in parts]))

    async def _parent(self, folder: Path) -> Path | None:
        """The serving model's files, if they can be had."""
        desired = await self._shared.desired()
        bundle = await self._shared.fetch(desired.active) if desired.active else None
        if bundle is None:
            bundle = await asyncio.to_thread(self._local, desired.active)
        if bundle is None or not bundle.manifest:
            return None
        await asyncio.to_thread(_write, folder, bundle)
        await self._lease.beat(parent=desired.active)
        return folder

    def _local(self, version: str) -> ModelBundle | None:
        for found in self._folder.scan():
            with suppress(ModelRefusedError):
                bundle = self._folder.read(found)
                if self._folder.describe(bundle).version == version:
                    return bundle
        return None

    async def _publish(self, folder: Path) -> str:
        """Gives the model to all replicas; it must be one that could be loaded."""
        own = LocalFolder(folder)
        bundle = await asyncio.to_thread(own.meant)
        info = await asyncio.to_thread(lambda: own.load(bundle).info)
        # a trainer that could not go on from the serving model began anew: then it has no parent
        await self._lease.beat(phase=self._phase, parent=info.parent)
        await self._shared.publish(ModelBundle("a retraining", bundle.manifest, bundle.onnx), info)
        return info.version

    async def _forget(self, version: str) -> None:
        """Takes back what was published under a lease that is lost, unless somebody uses the same."""
        with suppress(PbaError):
            desired = await self._shared.desired()
            if version not in {*desired.versions, *desired.previous}:
                await self._shared.forget([version])

    async def _in_thread(self, job: Job) -> None:
        """Trains in a thread that the process does not wait for: training cannot be cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def work() -> None:
            try:
                self._train(job)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                outcome: BaseException | None = error
            else:
                outcome = None
            with suppress(RuntimeError):  # the loop has closed: nobody waits
                loop.call_soon_threadsafe(tell, outcome)

        threading.Thread(target=work, name="training", daemon=True).start()
        await done


async def retrain(settings: Settings, wanted: Wanted, train: Callable[[Job], object]) -> tuple[Outcome, str]:
    """One run in this process; returns the outcome, and the version or the reason.

    Raises:
        ModelConflictError: Another run is going on.
        LeaseLostError: It was, or another has begun.
        StoreUnavailableError: Redis is away.
    """
    async with AsyncExitStack() as stack:
        server = open_server(settings.redis_url or "", settings.store_timeout_ms / 1000)
        store = open_store(stack, server, settings)
        records = RetrainingRecords(RedisDocuments(server), now_ms)
        if wanted.token:
            lease = await Lease.resume(records, wanted.token, now_ms)
        else:
            holder = f"{socket.gethostname()}-{os.getpid()}"
            lease = await Lease.begin(records, holder, Trigger.HAND, now_ms, from_scratch=wanted.from_scratch)
        retrainer = Retrainer(settings, store, lease, shared=RedisRegistry(server), train=train)
        return await retrainer.run(wanted.file)


def _write(folder: Path, bundle: ModelBundle) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bundle.onnx)
    (folder / "manifest.json").write_bytes(bundle.manifest)
