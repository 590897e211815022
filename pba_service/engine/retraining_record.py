"""The shared record of retraining, and the lease that one run at a time holds in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelConflictError
from pba_service.domain.retraining import Record
from pba_service.engine.documents import readable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pba_service.domain.retraining import Outcome, Run, Trigger
    from pba_service.engine.documents import Documents
    from pba_service.engine.ports import Clock

DOCUMENT = "retraining"
_ATTEMPTS = 20


class RetrainingRecords:
    """The record, read and changed."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        """Takes where it lies."""
        self._documents = documents
        self._clock = clock

    async def read(self) -> Record:
        """The record; an empty one where there is none yet."""
        return (await self._read())[1] or self._new()

    async def _read(self) -> tuple[int, Record | None]:
        version, content = await self._documents.read(DOCUMENT)
        return version, readable(DOCUMENT, Record.decode, content) if version else None

    def _new(self) -> Record:
        return Record(since_ms=self._clock())

    async def change(self, step: Callable[[Record], Record]) -> Record:
        """Changes the record, whoever else does so at the same time; raises what `step` raises.

        Raises:
            ModelConflictError: Others changed it all the time.
        """
        for _ in range(_ATTEMPTS):
            version, before = await self._read()
            after = step(before or self._new())
            if after == before or await self._documents.write(DOCUMENT, after.encode(), read_version=version):
                return after
        raise ModelConflictError("the record of retraining was changed by others all the time")


class Lease:
    """The right to retrain, as its holder sees it."""

    def __init__(self, records: RetrainingRecords, run: Run, clock: Clock) -> None:
        """Takes over a run that has begun."""
        self.run = run
        self._records = records
        self._clock = clock

    @classmethod
    async def begin(
        cls, records: RetrainingRecords, holder: str, trigger: Trigger, clock: Clock, *, from_scratch: bool
    ) -> Lease:
        """Begins a run. Raises `ModelConflictError` where one is going on."""
        begun: list[Run] = []

        def step(record: Record) -> Record:
            after = record.begun(holder, trigger, clock(), from_scratch=from_scratch)
            begun[:] = [after.run] if after.run else []
            return after

        await records.change(step)
        return cls(records, begun[0], clock)

    @classmethod
    async def resume(cls, records: RetrainingRecords, token: int, clock: Clock) -> Lease:
        """Goes on with a run that somebody began for this process. Raises `LeaseLostError`."""
        record = await records.change(lambda record: record.heard(token, clock()))
        return cls(records, record.own(token), clock)

    async def beat(self, **changes: Any) -> None:
        """Says that the run lives, and what more is known of it. Raises `LeaseLostError`."""
        await self._records.change(lambda record: record.heard(self.run.token, self._clock(), **changes))

    async def end(self, outcome: Outcome, *, reason: str = "", version: str = "") -> None:
        """Ends the run; with a model, that is offered from then on. Raises `LeaseLostError`."""
        now_ms = self._clock()
        await self._records.change(
            lambda record: record.finished(self.run.token, outcome, now_ms, reason=reason, version=version)
        )
