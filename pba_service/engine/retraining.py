"""Retraining, as all replicas share it: who runs it, when it is due, and what becomes of its model.

A run is a process of its own (`pba retrain`), started by a replica or by anybody else. It writes its model's version
into the record together with its end, by compare-and-set against its token: a run that lost its lease cannot. From
there a replica offers the model as a challenger; what serves is for the experiment to decide.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from pba_service.domain.errors import ModelConflictError, ModelUnknownError, PbaError
from pba_service.domain.experiments import Kind
from pba_service.domain.retraining import LeaseLostError, Outcome
from pba_service.engine.retraining_record import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pba_service.domain.experiments import Record as Trial
    from pba_service.domain.retraining import Record, Run
    from pba_service.engine.ports import Clock
    from pba_service.engine.retraining_record import RetrainingRecords

_log = structlog.get_logger(__name__)


class Challenges(Protocol):
    """Where a new model is tried."""

    async def known(self) -> Sequence[tuple[Trial, object]]:
        """The experiments that run or have ended lately."""
        ...

    async def start(self, challenger: str, *, champion: str = "", share: float = 0.0) -> Trial:
        """Tries a version beside the active one. Raises `ModelUnknownError`, `ModelConflictError`."""
        ...


class Models(Protocol):
    """Who can load a new model."""

    async def prepare(self, version: str) -> None:
        """Makes sure that a version can serve. Raises `ModelUnknownError`, `ModelConflictError`."""
        ...


class Trainer(Protocol):
    """Runs retraining in a process of its own."""

    @property
    def absent(self) -> str:
        """Why this replica cannot train; empty where it can."""
        ...

    def launch(self, run: Run) -> None:
        """Starts a process for a run that has begun. Raises `OSError`."""
        ...

    def ended(self) -> int | None:
        """The exit code of the process that was launched, once; None while it runs or where there is none."""
        ...

    def tidy(self) -> None:
        """Removes what runs left behind that were killed."""
        ...

    async def stop(self) -> None:
        """Ends the process, if one runs."""
        ...


class RetrainingMetrics(Protocol):
    """Told of retraining."""

    def look(self, record: Record, due_at_ms: int, interval_ms: int) -> None:
        """The record as it is now."""
        ...


class Retraining:
    """What a replica does about retraining.

    Args:
        records: The shared record.
        models: Prove what was trained.
        challenges: Where models are tried.
        trainer: Runs it.
        shifted_ratio: The share of links whose level has shifted.
        metrics: Told of what is so.
        clock: Wall-clock time.
        replica: This replica's name.
        interval_ms: Between runs; 0: never for its sake.
        drift_ratio: The share of shifted links that begins a run; 0: never.
        poll_s: Between two looks.
    """

    def __init__(
        self,
        *,
        records: RetrainingRecords,
        models: Models,
        challenges: Challenges,
        trainer: Trainer,
        shifted_ratio: Callable[[], float],
        metrics: RetrainingMetrics,
        clock: Clock,
        replica: str,
        interval_ms: int,
        drift_ratio: float,
        poll_s: float = 5.0,
    ) -> None:
        self._records = records
        self._models = models
        self._challenges = challenges
        self._trainer = trainer
        self._shifted_ratio = shifted_ratio
        self._metrics = metrics
        self._clock = clock
        self._replica = replica
        self._interval_ms = interval_ms
        self._drift_ratio = drift_ratio
        self._poll_s = poll_s
        self._launched = 0
        self._told: tuple[int, Outcome] | None = None
        self._waits = ""

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        await asyncio.to_thread(self._trainer.tidy)
        while True:
            try:
                await self.turn()
            except PbaError as error:
                _log.warning("retraining_not_followed", reason=str(error))
            await asyncio.sleep(self._poll_s)

    async def turn(self) -> None:
        """One round of `run`."""
        await self._reap()
        record = await self._records.change(lambda record: record.buried(self._clock()))
        if record.run and record.run.offered:
            await self._offer(record.run)
        if not self.absent:
            await self._start_if_wanted(record)
        record = await self._records.read()
        self._metrics.look(record, self.due_at_ms(record), self._interval_ms)
        self._tell(record)

    async def stop(self) -> None:
        """Ends the run that was started here, if there is one; where somebody asked for it, it is asked for again."""
        await self._trainer.stop()
        if self._launched:
            try:
                await self._records.change(lambda record: record.again(self._launched))
            except PbaError as error:  # ending goes on without
                _log.warning("retraining_not_asked_for_again", reason=str(error))

    @property
    def absent(self) -> str:
        """Why this replica cannot retrain; empty where it can."""
        return self._trainer.absent

    async def status(self) -> Record:
        """What is known of retraining."""
        return await self._records.read()

    def due_at_ms(self, record: Record) -> int:
        """When the next run is due by the interval; 0 where nobody here can train and nobody ever has."""
        return 0 if self.absent and not record.ended else record.due_at_ms(self._interval_ms)

    async def ask(self, *, from_scratch: bool = False) -> Record:
        """Asks for a run as soon as may be.

        Raises:
            ModelConflictError: One is going on, or this replica cannot train.
        """
        if self.absent:
            raise ModelConflictError(f"this replica cannot train: {self.absent}")

        def asked(record: Record) -> Record:
            record = record.buried(self._clock())
            if record.run and record.run.running:
                raise ModelConflictError(f"a retraining is going on, begun by {record.run.holder}")
            return record.requested(from_scratch=from_scratch)

        return await self._records.change(asked)

    async def _start_if_wanted(self, record: Record) -> None:
        wanted = record.wanted(
            self._clock(),
            interval_ms=self._interval_ms,
            shifted_ratio=self._shifted_ratio(),
            drift_ratio=self._drift_ratio,
        )
        if wanted is None:
            return
        trigger, from_scratch = wanted
        try:
            lease = await Lease.begin(self._records, self._replica, trigger, self._clock, from_scratch=from_scratch)
        except ModelConflictError:
            return  # another replica was faster
        _log.info("retraining_started", trigger=trigger.value, from_scratch=from_scratch, run=lease.run.token)
        try:
            await asyncio.to_thread(self._trainer.tidy)
            self._trainer.launch(lease.run)
        except OSError as error:
            await lease.end(Outcome.FAILED, reason=f"cannot be started: {error.strerror or error}")
        else:
            self._launched = lease.run.token

    async def _reap(self) -> None:
        """A process that ended without saying so in the record was killed."""
        code = self._trainer.ended()
        if code is None:
            return
        await asyncio.to_thread(self._trainer.tidy)
        reason = f"its process ended with code {code} before it was done"
        try:
            await self._records.change(
                lambda record: record.finished(self._launched, Outcome.FAILED, self._clock(), reason=reason)
            )
        except LeaseLostError:
            return  # it had said so, or another run has begun

    async def _offer(self, run: Run) -> None:
        """Tries the run's model; again at the next turn where there is no room for one more experiment."""
        known = [one for one, _ in await self._challenges.known() if one.kind is Kind.TRIAL]
        if already := next((one.name for one in known if one.challenger == run.version), ""):
            # by a replica that could not say so any more
            await self._records.change(lambda record: record.tried(run.token, already))
            return
        try:
            await self._models.prepare(run.version)
        except (ModelUnknownError, ModelConflictError) as error:
            reason = str(error)
            await self._records.change(lambda record: record.refused(run.token, reason))
            return
        try:
            trial = await self._challenges.start(run.version)
        except ModelConflictError as error:
            if run.version != self._waits:
                _log.info("retrained_model_waits", version=run.version, reason=str(error))
                self._waits = run.version
            return
        _log.info("retrained_model_offered", version=run.version, experiment=trial.name, run=run.token)
        await self._records.change(lambda record: record.tried(run.token, trial.name))

    def _tell(self, record: Record) -> None:
        run = record.run
        if run is None or run.running:
            return
        if (run.token, run.outcome) != self._told:
            log = _log.error if run.outcome in {Outcome.FAILED, Outcome.REFUSED} else _log.info
            log("retraining_ended", run=run.token, outcome=run.outcome.value, version=run.version, reason=run.reason)
        self._told = (run.token, run.outcome)
