"""Experiments on models, as the client gives them; and the calls about them, of both clients."""

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


class ExperimentKind(Enum):
    """Why two models are compared."""

    UNSPECIFIED = 0
    TRIAL = 1
    WATCH = 2


class ExperimentStatus(Enum):
    """Where an experiment is."""

    UNSPECIFIED = 0
    RUNNING = 1
    PROMOTED = 2
    REJECTED = 3
    EXPIRED = 4
    STOPPED = 5
    SUPERSEDED = 6


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """Errors of two models in one metric, in units of what the last value used to err; over `targets` pairs."""

    metric: str
    targets: int
    champion_error: float
    challenger_error: float


@dataclass(frozen=True, slots=True)
class ExperimentEvidence:
    """What an experiment has shown; `pba.v1.ExperimentEvidence` says more.

    Attributes:
        periods: Hours observed, of at most `max_periods`.
        targets: Pairs of forecasts compared.
        advantage: How much less the challenger errs, in usual errors of the last value.
        advantage_low: Of a confidence sequence for it.
        advantage_high: Likewise.
        promote_wealth: `promote_at` promotes.
        reject_wealth: `reject_at` rejects.
        promote_at: 1 over the chance of promoting what is no better.
        reject_at: 1 over the chance of rejecting what is no worse.
        max_periods: After so many hours it ends undecided.
        metrics: By metric, for looking at.
    """

    periods: int
    targets: int
    advantage: float
    advantage_low: float
    advantage_high: float
    promote_wealth: float
    reject_wealth: float
    promote_at: float
    reject_at: float
    max_periods: int
    metrics: tuple[MetricComparison, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Two models on the same links.

    Attributes:
        name: Its name.
        kind: A trial of a challenger, or the watch over a version that was activated.
        champion: The version that serves.
        challenger: The version beside it.
        share: Of the links that the challenger serves meanwhile.
        started_at: When it began.
        ended_at: When it was decided; None while it runs.
        status: Where it is.
        automatic: Whether the verdict is acted on without a person.
        evidence: What was seen.
    """

    name: str
    kind: ExperimentKind
    champion: str
    challenger: str
    share: float
    started_at: datetime
    ended_at: datetime | None
    status: ExperimentStatus
    automatic: bool
    evidence: ExperimentEvidence


def _experiment(message: pb.Experiment) -> Experiment:
    from pba_client.wire import datetime_of, known  # noqa: PLC0415 - `wire` knows the results of calls

    seen = message.evidence
    return Experiment(
        name=message.name,
        kind=known(ExperimentKind, message.kind),
        champion=message.champion,
        challenger=message.challenger,
        share=message.share,
        started_at=datetime_of(message.started_at),
        ended_at=datetime_of(message.ended_at) if message.HasField("ended_at") else None,
        status=known(ExperimentStatus, message.status),
        automatic=message.automatic,
        evidence=ExperimentEvidence(
            periods=seen.periods,
            targets=seen.targets,
            advantage=seen.advantage,
            advantage_low=seen.advantage_low,
            advantage_high=seen.advantage_high,
            promote_wealth=seen.promote_wealth,
            reject_wealth=seen.reject_wealth,
            promote_at=seen.promote_at,
            reject_at=seen.reject_at,
            max_periods=seen.max_periods,
            metrics=tuple(
                MetricComparison(one.metric, one.targets, one.champion_error, one.challenger_error)
                for one in seen.metrics
            ),
        ),
    )


def _start(challenger: str, champion: str, share: float) -> pb.StartExperimentRequest:
    return pb.StartExperimentRequest(challenger=challenger, champion=champion, share=share)


class ExperimentCalls(ABC):
    """What `Client` can say and ask of experiments."""

    @abstractmethod
    def _unary(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True) -> ResponseT: ...

    def experiments(self) -> list[Experiment]:
        """The experiments that run or have ended lately, the latest first."""
        answer = self._unary(rpcs.LIST_EXPERIMENTS, pb.ListExperimentsRequest())
        return [_experiment(one) for one in answer.experiments]

    def experiment(self, name: str) -> Experiment:
        """One experiment. Raises `ModelUnknownError` where there is none."""
        return _experiment(self._unary(rpcs.GET_EXPERIMENT, pb.GetExperimentRequest(name=name)).experiment)

    def start_experiment(self, challenger: str, *, champion: str = "", share: float = 0.0) -> Experiment:
        """Tries a version beside the active one, or another that serves.

        Raises:
            ModelUnknownError: There is no such version.
            FailedPreconditionError: It is refused, or is tried already; the text says why.
        """
        answer = self._unary(rpcs.START_EXPERIMENT, _start(challenger, champion, share))
        return _experiment(answer.experiment)

    def stop_experiment(self, name: str, *, promote: bool = False) -> Experiment:
        """Ends an experiment; with `promote` the challenger serves from now on."""
        answer = self._unary(rpcs.STOP_EXPERIMENT, pb.StopExperimentRequest(name=name, promote=promote))
        return _experiment(answer.experiment)


class AsyncExperimentCalls(ABC):
    """What `AsyncClient` can say and ask of experiments."""

    @abstractmethod
    async def _unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True
    ) -> ResponseT: ...

    async def experiments(self) -> list[Experiment]:
        """The experiments that run or have ended lately, the latest first."""
        answer = await self._unary(rpcs.LIST_EXPERIMENTS, pb.ListExperimentsRequest())
        return [_experiment(one) for one in answer.experiments]

    async def experiment(self, name: str) -> Experiment:
        """One experiment. Raises `ModelUnknownError` where there is none."""
        return _experiment((await self._unary(rpcs.GET_EXPERIMENT, pb.GetExperimentRequest(name=name))).experiment)

    async def start_experiment(self, challenger: str, *, champion: str = "", share: float = 0.0) -> Experiment:
        """Tries a version beside the active one, or another that serves.

        Raises:
            ModelUnknownError: There is no such version.
            FailedPreconditionError: It is refused, or is tried already; the text says why.
        """
        answer = await self._unary(rpcs.START_EXPERIMENT, _start(challenger, champion, share))
        return _experiment(answer.experiment)

    async def stop_experiment(self, name: str, *, promote: bool = False) -> Experiment:
        """Ends an experiment; with `promote` the challenger serves from now on."""
        answer = await self._unary(rpcs.STOP_EXPERIMENT, pb.StopExperimentRequest(name=name, promote=promote))
        return _experiment(answer.experiment)
