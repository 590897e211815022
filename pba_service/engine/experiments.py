"""Experiments on models: decides by what came of paired forecasts (`pair_counts`), and acts on it.

When a period is over, whichever replica is first adds its observation to the experiment's record by compare-and-set, so
each period counts once. The verdict follows from the record alone; it is
written first and acted on after, and acted on again by anybody who finds it written and not done.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from pba_service.domain import lifecycle
from pba_service.domain.errors import ModelConflictError, ModelUnknownError, PbaError
from pba_service.domain.experiments import (
    OUTCOMES,
    Kind,
    Record,
    Rule,
    Status,
    Tally,
    Verdict,
)
from pba_service.engine.documents import readable
from pba_service.engine.pair_counts import PairCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pba_service.domain.experiments import Evidence
    from pba_service.domain.lifecycle import Desired
    from pba_service.domain.trials import Settled
    from pba_service.engine.documents import Documents
    from pba_service.engine.ports import Clock, ModelInfo
    from pba_service.engine.stock import Known
    from pba_service.observability.metrics import Metrics

PREFIX = "experiment:"
_WATCHED = "experiments-watched"
_ATTEMPTS = 20
_LAST_ROUNDED_MS = 1_000
"""Manifests say in whole seconds, rounded down, when the last measurement was."""
KEPT = 50
"""Ended experiments that are kept."""

_log = structlog.get_logger(__name__)


class ModelChanges(Protocol):
    """What experiments need of the models' life."""

    @property
    def desired(self) -> Desired:
        """What replicas are to converge on, as last read."""
        ...

    async def change(self, step: Callable[[Desired], Desired]) -> Desired:
        """Changes what is desired."""
        ...

    async def prepare(self, version: str) -> None:
        """Makes sure that a version can serve. Raises `ModelUnknownError`, `ModelConflictError`."""
        ...

    async def known(self) -> list[Known]:
        """Every model that is known."""
        ...


@dataclass(frozen=True, slots=True)
class ExperimentOptions:
    """What the operator decides.

    Attributes:
        replica: This replica's name.
        rule: When an experiment ends.
        automatic: Whether verdicts are acted on: promotion, rejection, and the way back.
        interval_s: Between two looks.
        settle_s: A period is over when a later one has begun and its counts have not changed for so long.
    """

    replica: str
    rule: Rule
    automatic: bool = True
    interval_s: float = 10.0
    settle_s: float = 60.0


class Experiments:
    """The experiments of all replicas, as this one sees them."""

    def __init__(
        self, *, models: ModelChanges, documents: Documents, options: ExperimentOptions, clock: Clock, metrics: Metrics
    ) -> None:
        self._models = models
        self._documents = documents
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._counts = PairCounts(documents, options.replica, options.settle_s, metrics)

    def settled(self, pairs: Sequence[Settled]) -> None:
        """Takes in pairs that have met their sample; more than can be counted in time are left out."""
        self._counts.settled(pairs)

    async def run(self) -> None:
        """Counts and decides until cancelled."""
        while True:
            try:
                await self.turn()
            except PbaError as error:
                _log.warning("experiments_not_followed", reason=str(error))
            await asyncio.sleep(self._options.interval_s)

    async def turn(self) -> None:
        """One round of `run`."""
        running = self._models.desired.experiments
        await self._counts.count({one.key for one in running})
        for one in running:
            record = await self._go_on(one)
            if record.status is not Status.RUNNING and (self._options.automatic or record.status is Status.STOPPED):
                await self._act_if_possible(record)
        if self._options.automatic:
            await self._watch_the_new()

    async def start(self, challenger: str, *, champion: str = "", share: float = 0.0) -> Record:
        """Tries a version beside the active one, or another that serves.

        Raises:
            ModelUnknownError: There is no such version.
            ModelConflictError: It cannot be loaded, or is tried already, or the champion does not serve.
        """
        await self._models.prepare(challenger)
        return await self._start(Kind.TRIAL, champion, challenger, share)

    async def _start(self, kind: Kind, champion: str, challenger: str, share: float) -> Record:
        name = f"{kind.value}-{challenger}-{secrets.token_hex(4)}"
        since_ms = await self._made_at_ms({challenger, champion or self._models.desired.active})

        def begun(desired: Desired) -> Desired:
            served = champion or desired.active
            if kind is Kind.WATCH and served != desired.active:
                raise ModelConflictError(f"{served} is not active any more")
            if served not in desired.served:
                raise ModelConflictError(f"{served} serves no links")
            return desired.started(lifecycle.Experiment(name, served, challenger, share, since_ms))

        desired = await self._models.change(begun)
        one = next(one for one in desired.experiments if one.name == name)
        return await self._change(one.name, lambda _: self._fresh(one))

    async def _made_at_ms(self, versions: set[str]) -> int:
        """From when on neither of some models can have seen what was measured; where one does not say: now."""
        known = [one.info for one in await self._models.known() if one.info.version in versions]
        since = [_unseen_ms(info) for info in known]
        now_ms = self._clock()
        return min(max(since), now_ms) if len(since) == len(versions) and min(since) > 0 else now_ms

    async def stop(self, name: str, *, promote: bool = False) -> Record:
        """Ends an experiment by hand; with `promote` the challenger serves from now on.

        Raises:
            ModelUnknownError: There is none of this name.
            ModelConflictError: It has ended.
        """
        record = (await self.get(name))[0]
        if record.ended_at_ms and name not in {one.name for one in self._models.desired.experiments}:
            raise ModelConflictError(f"experiment {name!r} has ended: {record.status.value}")
        status = Status.PROMOTED if promote else Status.STOPPED
        record = await self._change(name, lambda old: replace(old or record, status=status, ended_at_ms=self._clock()))
        await self._act(record)
        return record

    async def get(self, name: str) -> tuple[Record, Evidence]:
        """An experiment and what it has shown. Raises `ModelUnknownError`."""
        _, record = await self._read(PREFIX + name)
        if record is None:
            raise ModelUnknownError(f"experiment {name!r}")
        return record, record.evidence(self._options.rule)

    async def known(self) -> list[tuple[Record, Evidence]]:
        """The experiments that run or have ended lately, the latest first."""
        found = []
        for name in await self._documents.names(PREFIX):
            _, record = await self._read(name)
            if record is not None:
                found.append((record, record.evidence(self._options.rule)))
        return sorted(found, key=lambda one: one[0].started_at_ms, reverse=True)

    @property
    def rule(self) -> Rule:
        """When an experiment ends."""
        return self._options.rule

    async def _go_on(self, one: lifecycle.Experiment) -> Record:
        """Shares this replica's counts, and adds what is over to the record."""
        document = PREFIX + one.name
        fields, over = await self._counts.shared(document, one.key)
        record = await self._change(one.name, lambda old: self._next(old or self._fresh(one), over))
        if record.observations:
            await self._counts.drop(document, one.key, record.observations[-1][0], fields)
        self._metrics.experiment(one.name, record.evidence(self._options.rule))
        return record

    def _next(self, record: Record, over: dict[int, Tally]) -> Record:
        if record.status is not Status.RUNNING:
            return record
        record = record.closed(over)
        verdict = record.evidence(self._options.rule).verdict
        served = self._models.desired.served
        if verdict is not Verdict.KEEP_ON:
            _log.info("experiment_decided", name=record.name, verdict=verdict.name, periods=len(record.observations))
            return record.ended(OUTCOMES[verdict], self._clock())
        if record.in_vain(self._options.rule, self._clock()):
            _log.info("experiment_in_vain", name=record.name, periods=len(record.observations))
            return record.ended(Status.EXPIRED, self._clock())
        return record if record.champion in served else record.ended(Status.SUPERSEDED, self._clock())

    async def _act_if_possible(self, record: Record) -> None:
        """`_act`; what a held version does not let happen now waits, and holds up nothing else."""
        try:
            await self._act(record)
        except ModelConflictError as error:
            _log.warning("experiment_verdict_waits", name=record.name, reason=str(error))

    async def _act(self, record: Record) -> None:
        """Does what the verdict says, if it is not done yet."""

        def done(desired: Desired) -> Desired:
            if record.name not in {one.name for one in desired.experiments}:
                return desired
            after = desired.ended(record.name)
            if record.status is not Status.PROMOTED:
                return after
            return after.promoted(record.champion, record.challenger)

        if record.status is Status.PROMOTED and record.kind is Kind.WATCH:
            # nobody need watch the version that comes back over the one it beat
            await self._note_watched(record.challenger)
            _log.warning("model_rolled_back", worse=record.champion, back_to=record.challenger)
        await self._models.change(done)
        self._metrics.experiment_ended(record.kind.value, record.status.value)
        self._metrics.experiment_forgotten(record.name)
        await self._forget_old()

    async def _watch_the_new(self) -> None:
        """Compares a version that has become active with the one before it, whoever activated it."""
        desired = self._models.desired
        read, content = await self._documents.read(_WATCHED)
        if not desired.active or content == desired.active.encode():
            return
        if desired.previous:
            await self._watch(desired.active, desired.previous[0])
        if self._models.desired.active != desired.active:
            return  # the next one has come meanwhile
        # only now: who dies before has left it to others, who find at worst that it runs already
        await self._documents.write(_WATCHED, desired.active.encode(), read_version=read)

    async def _watch(self, version: str, before: str) -> None:
        """Begins a watch, or logs why there is none. What is desired is read anew on the way."""
        try:
            await self._models.prepare(before)
            if (await self._documents.read(_WATCHED))[1] == version.encode():
                return  # that took a while, in which another replica began it; it may have been stopped since
            record = await self._start(Kind.WATCH, version, before, 0.0)
            _log.info("model_watched", version=version, beside=before, experiment=record.name)
        except (ModelConflictError, ModelUnknownError) as error:
            if (await self._models.change(lambda now: now)).active == version:
                _log.warning("model_not_watched", version=version, reason=str(error))

    async def _note_watched(self, version: str) -> None:
        """Remembers that nothing need be done about the active version."""
        read, content = await self._documents.read(_WATCHED)
        if content != version.encode():
            await self._documents.write(_WATCHED, version.encode(), read_version=read)

    async def _read(self, document: str) -> tuple[int, Record | None]:
        """The version of an experiment's document, and the experiment; None where there is none."""
        version, content = await self._documents.read(document)
        return version, readable(document, Record.decode, content) if version else None

    async def _change(self, name: str, step: Callable[[Record | None], Record]) -> Record:
        for _ in range(_ATTEMPTS):
            version, before = await self._read(PREFIX + name)
            after = step(before)
            if after == before or await self._documents.write(PREFIX + name, after.encode(), read_version=version):
                return after
        raise ModelConflictError(f"experiment {name!r} was changed by others all the time")

    def _fresh(self, one: lifecycle.Experiment) -> Record:
        kind = Kind.WATCH if one.name.startswith(Kind.WATCH.value) else Kind.TRIAL
        return Record(
            one.name, kind, one.champion, one.challenger, one.share, one.started_at_ms, self._clock(),
            automatic=self._options.automatic,
        )  # fmt: skip

    async def _forget_old(self) -> None:
        ended = [record for record, _ in await self.known() if record.ended_at_ms]
        for record in ended[KEPT:]:
            await self._documents.remove(PREFIX + record.name)


def _unseen_ms(info: ModelInfo) -> int:
    """After the last measurement that a model learned from; where that is not said, when it was made; 0: unknown."""
    last_ms = info.training.last_ms if info.training else 0
    return last_ms + _LAST_ROUNDED_MS if last_ms else info.created_at_ms
