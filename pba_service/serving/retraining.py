"""Retraining, on the wire."""
# ruff: noqa: ARG002, N802 - the signatures are those of the generated base classes

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pba.v1 import model_service_pb2 as pb
from pba.v1 import model_service_pb2_grpc

from pba_service.domain.retraining import Outcome, Phase, Trigger
from pba_service.serving.convert import timestamp

if TYPE_CHECKING:
    from pba_service.domain.retraining import Record, Run
    from pba_service.engine.api import ModelRetraining

_TRIGGERS = {one: pb.RetrainingTrigger.Value(f"RETRAINING_TRIGGER_{one.name}") for one in Trigger}
_PHASES = {one: pb.RetrainingPhase.Value(f"RETRAINING_PHASE_{one.name}") for one in Phase}
_OUTCOMES = {Outcome.NONE: pb.RETRAINING_OUTCOME_UNSPECIFIED} | {
    one: pb.RetrainingOutcome.Value(f"RETRAINING_OUTCOME_{one.name}") for one in Outcome if one is not Outcome.NONE
}


class RetrainingServicer(model_service_pb2_grpc.ModelServiceServicer):
    """The part of `pba.v1.ModelService` that is about retraining."""

    _retraining: ModelRetraining

    async def GetRetraining(self, request: pb.GetRetrainingRequest, context: Any) -> pb.GetRetrainingResponse:
        """Says what is known of retraining."""
        return pb.GetRetrainingResponse(retraining=self._known(await self._retraining.status()))

    async def StartRetraining(self, request: pb.StartRetrainingRequest, context: Any) -> pb.StartRetrainingResponse:
        """Asks for a run."""
        record = await self._retraining.ask(from_scratch=request.from_scratch)
        return pb.StartRetrainingResponse(retraining=self._known(record))

    def _known(self, record: Record) -> pb.Retraining:
        due_at_ms = self._retraining.due_at_ms(record)
        return pb.Retraining(
            run=_run(record.run) if record.run else None,
            asked=record.asked,
            due_at=timestamp(due_at_ms) if due_at_ms else None,
            last_success_at=timestamp(record.trained_at_ms) if record.trained_at_ms else None,
            absent=self._retraining.absent,
        )


def _run(run: Run) -> pb.RetrainingRun:
    return pb.RetrainingRun(
        number=run.token,
        holder=run.holder,
        trigger=_TRIGGERS[run.trigger],
        from_scratch=run.from_scratch,
        started_at=timestamp(run.started_at_ms),
        ended_at=timestamp(run.ended_at_ms) if run.ended_at_ms else None,
        phase=_PHASES[run.phase],
        progress=run.done_ratio,
        outcome=_OUTCOMES[run.outcome],
        reason=run.reason,
        links=run.links,
        samples=run.samples,
        parent_version=run.parent,
        version=run.version,
        experiment=run.experiment,
    )
