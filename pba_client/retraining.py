"""Retraining, as the client gives it; and the calls about it, of both clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pba.v1 import model_service_pb2 as pb

from pba_client import rpcs

if TYPE_CHECKING:
    from datetime import datetime

    from pba_client.rpcs import RequestT, ResponseT, Rpc


class RetrainingTrigger(Enum):
    """Why a retraining began."""

    UNSPECIFIED = 0
    INTERVAL = 1
    DRIFT = 2
    HAND = 3


class RetrainingPhase(Enum):
    """How far a retraining is."""

    UNSPECIFIED = 0
    STARTING = 1
    READING = 2
    TRAINING = 3
    REGISTERING = 4
    ENDED = 5


class RetrainingOutcome(Enum):
    """What became of a retraining; UNSPECIFIED while it goes on."""

    UNSPECIFIED = 0
    TRAINED = 1
    TOO_LITTLE_DATA = 2
    FAILED = 3
    STOPPED = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class RetrainingRun:
    """One run; `pba.v1.RetrainingRun` says more.

    Attributes:
        number: Greater than that of every run before.
        holder: The replica or machine that began it.
        trigger: Why it began.
        from_scratch: Whether it trains a fresh network instead of going on from the serving model.
        started_at: When it began.
        ended_at: When it ended; None while it goes on.
        phase: How far it is.
        progress: How much of the phase is done, 0 to 1.
        outcome: What became of it.
        reason: Why it gave no model.
        links: Links that it learned from.
        samples: Samples of them.
        parent_version: The version that it went on from.
        version: The version that it made.
        experiment: The experiment in which that is tried.
    """

    number: int
    holder: str
    trigger: RetrainingTrigger
    from_scratch: bool
    started_at: datetime
    ended_at: datetime | None
    phase: RetrainingPhase
    progress: float
    outcome: RetrainingOutcome
    reason: str
    links: int
    samples: int
    parent_version: str
    version: str
    experiment: str


@dataclass(frozen=True, slots=True)
class Retraining:
    """What is known of retraining.

    Attributes:
        run: The run that goes on, or the last one; None if there never was one.
        asked: Whether a run was asked for that has not begun.
        due_at: When the next run is due by the interval; None if none is.
        last_success_at: When a run last gave a model; None if none ever did.
        absent: Why the replica that answered cannot train; empty if it can.
    """

    run: RetrainingRun | None
    asked: bool
    due_at: datetime | None
    last_success_at: datetime | None
    absent: str


def _retraining(message: pb.Retraining) -> Retraining:
    from pba_client.wire import datetime_of  # noqa: PLC0415 - `wire` knows the results of calls

    return Retraining(
        run=_run(message.run) if message.HasField("run") else None,
        asked=message.asked,
        due_at=datetime_of(message.due_at) if message.HasField("due_at") else None,
        last_success_at=datetime_of(message.last_success_at) if message.HasField("last_success_at") else None,
        absent=message.absent,
    )


def _run(message: pb.RetrainingRun) -> RetrainingRun:
    from pba_client.wire import datetime_of, known  # noqa: PLC0415 - `wire` knows the results of calls

    return RetrainingRun(
        number=message.number,
        holder=message.holder,
        trigger=known(RetrainingTrigger, message.trigger),
        from_scratch=message.from_scratch,
        started_at=datetime_of(message.started_at),
        ended_at=datetime_of(message.ended_at) if message.HasField("ended_at") else None,
        phase=known(RetrainingPhase, message.phase),
        progress=message.progress,
        outcome=known(RetrainingOutcome, message.outcome),
        reason=message.reason,
        links=message.links,
        samples=message.samples,
        parent_version=message.parent_version,
        version=message.version,
        experiment=message.experiment,
    )


class RetrainingCalls(ABC):
    """What `Client` can say and ask of retraining."""

    @abstractmethod
    def _unary(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True) -> ResponseT: ...

    def retraining(self) -> Retraining:
        """What is known of retraining."""
        return _retraining(self._unary(rpcs.GET_RETRAINING, pb.GetRetrainingRequest()).retraining)

    def start_retraining(self, *, from_scratch: bool = False) -> Retraining:
        """Asks for a run as soon as may be.

        Raises:
            FailedPreconditionError: One goes on, or the replica that answers cannot train; the text says why.
        """
        request = pb.StartRetrainingRequest(from_scratch=from_scratch)
        return _retraining(self._unary(rpcs.START_RETRAINING, request).retraining)


class AsyncRetrainingCalls(ABC):
    """What `AsyncClient` can say and ask of retraining."""

    @abstractmethod
    async def _unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True
    ) -> ResponseT: ...

    async def retraining(self) -> Retraining:
        """What is known of retraining."""
        return _retraining((await self._unary(rpcs.GET_RETRAINING, pb.GetRetrainingRequest())).retraining)

    async def start_retraining(self, *, from_scratch: bool = False) -> Retraining:
        """Asks for a run as soon as may be.

        Raises:
            FailedPreconditionError: One goes on, or the replica that answers cannot train; the text says why.
        """
        request = pb.StartRetrainingRequest(from_scratch=from_scratch)
        return _retraining((await self._unary(rpcs.START_RETRAINING, request)).retraining)
