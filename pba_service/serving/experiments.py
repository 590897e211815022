"""Experiments on models, on the wire."""
# ruff: noqa: ARG002, N802 - the signatures are those of the generated base classes

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pba.v1 import model_service_pb2 as pb
from pba.v1 import model_service_pb2_grpc

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.domain.experiments import Kind, Status
from pba_service.domain.samples import METRICS
from pba_service.serving.convert import timestamp

if TYPE_CHECKING:
    from pba_service.domain.experiments import Evidence, Record, Rule
    from pba_service.engine.api import ModelTrials

MAX_NAME_BYTES = 128
MAX_VERSION_BYTES = 32

_KINDS = {kind: pb.ExperimentKind.Value(f"EXPERIMENT_KIND_{kind.name}") for kind in Kind}
_STATUSES = {status: pb.ExperimentStatus.Value(f"EXPERIMENT_STATUS_{status.name}") for status in Status}


class ExperimentServicer(model_service_pb2_grpc.ModelServiceServicer):
    """The part of `pba.v1.ModelService` that is about experiments."""

    _trials: ModelTrials

    async def ListExperiments(self, request: pb.ListExperimentsRequest, context: Any) -> pb.ListExperimentsResponse:
        """Gives the experiments."""
        known = await self._trials.known()
        return pb.ListExperimentsResponse(experiments=[experiment(*one, self._trials.rule) for one in known])

    async def GetExperiment(self, request: pb.GetExperimentRequest, context: Any) -> pb.GetExperimentResponse:
        """Gives one experiment."""
        found = await self._trials.get(_text(request.name, "name", MAX_NAME_BYTES))
        return pb.GetExperimentResponse(experiment=experiment(*found, self._trials.rule))

    async def StartExperiment(self, request: pb.StartExperimentRequest, context: Any) -> pb.StartExperimentResponse:
        """Tries a version."""
        challenger = _text(request.challenger, "challenger", MAX_VERSION_BYTES)
        champion = _text(request.champion, "champion", MAX_VERSION_BYTES) if request.champion else ""
        if not (math.isfinite(request.share) and 0 <= request.share <= 1):
            raise InvalidRequestError(Violation("share", "must be 0 to 1"))
        record = await self._trials.start(challenger, champion=champion, share=request.share)
        return pb.StartExperimentResponse(experiment=self._told(record))

    async def StopExperiment(self, request: pb.StopExperimentRequest, context: Any) -> pb.StopExperimentResponse:
        """Ends an experiment."""
        record = await self._trials.stop(_text(request.name, "name", MAX_NAME_BYTES), promote=request.promote)
        return pb.StopExperimentResponse(experiment=self._told(record))

    def _told(self, record: Record) -> pb.Experiment:
        rule = self._trials.rule
        return experiment(record, record.evidence(rule), rule)


def experiment(record: Record, evidence: Evidence, rule: Rule) -> pb.Experiment:
    """An experiment and what it has shown."""
    return pb.Experiment(
        name=record.name,
        kind=_KINDS[record.kind],
        champion=record.champion,
        challenger=record.challenger,
        share=record.share,
        started_at=timestamp(record.started_at_ms),
        ended_at=timestamp(record.ended_at_ms) if record.ended_at_ms else None,
        status=_STATUSES[record.status],
        automatic=record.automatic,
        evidence=pb.ExperimentEvidence(
            periods=evidence.periods,
            targets=sum(targets for _, _, targets in record.observations),
            advantage=evidence.advantage,
            advantage_low=evidence.low,
            advantage_high=evidence.high,
            promote_wealth=evidence.promote_wealth,
            reject_wealth=evidence.reject_wealth,
            promote_at=1 / rule.false_promotion,
            reject_at=1 / rule.false_rejection,
            max_periods=rule.max_periods,
            metrics=[
                pb.MetricComparison(
                    metric=metric,
                    targets=round(targets),
                    champion_error=champion / targets,
                    challenger_error=challenger / targets,
                )
                for metric, (targets, champion, challenger) in zip(METRICS, record.by_metric, strict=True)
                if targets
            ],
        ),
    )


def _text(text: str, field: str, most: int) -> str:
    if not 1 <= len(text.encode()) <= most:
        raise InvalidRequestError(Violation(field, f"must be 1 to {most} bytes long"))
    return text
