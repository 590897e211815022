"""`pba.v1.ModelService`: which models there are, which serve, and changing that."""
# ruff: noqa: ARG002, N802 - the signatures are those of the generated base classes

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pba.v1 import model_service_pb2 as pb

from pba_service.domain.errors import InvalidRequestError, ModelUnknownError, Violation
from pba_service.domain.lifecycle import MAX_CHAIN, Pin, Scope
from pba_service.serving.convert import duration, timestamp
from pba_service.serving.experiments import ExperimentServicer
from pba_service.serving.retraining import RetrainingServicer

if TYPE_CHECKING:
    from pba_service.domain.lifecycle import Desired
    from pba_service.engine.api import ModelRetraining, Models, ModelTrials
    from pba_service.engine.model_ports import ReplicaReport
    from pba_service.engine.ports import TrainingData
    from pba_service.engine.stock import Known

MAX_VERSION_BYTES = 32
MAX_VALUE_BYTES = 128

_SCOPES = {
    pb.PIN_SCOPE_LINK: Scope.LINK,
    pb.PIN_SCOPE_PREFIX: Scope.PREFIX,
    pb.PIN_SCOPE_NODE: Scope.NODE,
    pb.PIN_SCOPE_PEER: Scope.PEER,
    pb.PIN_SCOPE_REGION: Scope.REGION,
}
_WIRE_SCOPES = {scope: wire for wire, scope in _SCOPES.items()}


class ModelServicer(ExperimentServicer, RetrainingServicer):
    """`pba.v1.ModelService`."""

    def __init__(self, models: Models, trials: ModelTrials, retraining: ModelRetraining) -> None:
        """Serves `models`, `trials` of them, and how they are retrained."""
        self._models = models
        self._trials = trials
        self._retraining = retraining

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """Gives the known models."""
        serving = self._models.report().serving
        known = sorted(await self._models.known(), key=lambda one: (one.info.version != serving, not one.loaded))
        models = [model(one, serving=one.info.version == serving) for one in known]
        for one in models:  # paths and reasons are for operators
            one.ClearField("location")
            one.ClearField("refusal")
        return pb.ListModelsResponse(models=models)

    async def GetModelState(self, request: pb.GetModelStateRequest, context: Any) -> pb.GetModelStateResponse:
        """Gives what is desired of the models."""
        return pb.GetModelStateResponse(state=state(self._models.desired))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        """Gives one model."""
        version, serving = _version(request.version), self._models.report().serving
        for one in await self._models.known():
            if one.info.version == version:
                return pb.GetModelResponse(model=model(one, serving=version == serving))
        raise ModelUnknownError(f"model {version!r}")

    async def ActivateModel(self, request: pb.ActivateModelRequest, context: Any) -> pb.ActivateModelResponse:
        """Lets a version serve."""
        return pb.ActivateModelResponse(state=state(await self._models.activate(_version(request.version))))

    async def RollbackModel(self, request: pb.RollbackModelRequest, context: Any) -> pb.RollbackModelResponse:
        """Goes back to the version before."""
        return pb.RollbackModelResponse(state=state(await self._models.rollback(request.from_version)))

    async def PinModel(self, request: pb.PinModelRequest, context: Any) -> pb.PinModelResponse:
        """Pins links to versions, or holds the active one."""
        wanted = request.pin
        if wanted.scope == pb.PIN_SCOPE_UNSPECIFIED:
            if wanted.value or len(wanted.versions) > 1:
                told = "without a scope there is no value, and at most one version"
                raise InvalidRequestError(Violation("pin.scope", told))
            version = _version(wanted.versions[0], "pin.versions[0]") if wanted.versions else ""
            return pb.PinModelResponse(state=state(await self._models.hold(version)))
        if not 1 <= len(wanted.versions) <= MAX_CHAIN:
            raise InvalidRequestError(Violation("pin.versions", f"must be 1 to {MAX_CHAIN}"))
        versions = tuple(_version(one, f"pin.versions[{i}]") for i, one in enumerate(wanted.versions))
        pinned = Pin(_scope(wanted.scope, "pin.scope"), _value(wanted.value, "pin.value"), versions)
        return pb.PinModelResponse(state=state(await self._models.pin(pinned)))

    async def UnpinModel(self, request: pb.UnpinModelRequest, context: Any) -> pb.UnpinModelResponse:
        """Takes a pin away."""
        if request.scope == pb.PIN_SCOPE_UNSPECIFIED:
            if request.value:
                raise InvalidRequestError(Violation("scope", "must be given with a value"))
            return pb.UnpinModelResponse(state=state(await self._models.release()))
        scope, value = _scope(request.scope, "scope"), _value(request.value, "value")
        return pb.UnpinModelResponse(state=state(await self._models.unpin(scope, value)))

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> pb.ListReplicasResponse:
        """Gives the living replicas."""
        own = self._models.report().replica
        reports = await self._models.replicas()
        return pb.ListReplicasResponse(replicas=[replica(one, answering=one.replica == own) for one in reports])


def model(known: Known, *, serving: bool) -> pb.Model:
    """A known model."""
    info = known.info
    return pb.Model(
        name=info.name,
        version=info.version,
        serving=serving,
        checksum_sha256=info.checksum_sha256,
        created_at=timestamp(info.created_at_ms),
        features=info.features,
        window_slots=info.window_slots,
        horizons=[duration(horizon) for horizon in info.horizons_ms],
        quantile_levels=info.quantile_levels,
        parameter_count=info.parameter_count,
        scores=[pb.ModelScore(metric=m, forecaster=f, mae_ratio=ratio) for m, f, ratio in info.scores],
        loaded=known.loaded,
        published=known.published,
        location=known.local,
        parent_version=info.parent,
        training=_training(info.training) if info.training else None,
        refusal=known.refused,
    )


def state(desired: Desired) -> pb.ModelState:
    """What is desired of the models."""
    return pb.ModelState(
        revision=desired.revision,
        active_version=desired.active,
        previous_versions=desired.previous,
        held=desired.held,
        pins=[
            pb.ModelPin(scope=_WIRE_SCOPES[pin.scope], value=pin.value, versions=pin.versions) for pin in desired.pins
        ],
    )


def replica(report: ReplicaReport, *, answering: bool) -> pb.Replica:
    """What a replica says of itself."""
    return pb.Replica(
        name=report.replica,
        serving_version=report.serving,
        loaded_versions=report.loaded,
        refused=[pb.RefusedModel(version=version, reason=reason) for version, reason in report.refused.items()],
        revision=report.revision,
        started_at=timestamp(report.started_at_ms),
        answering=answering,
    )


def _training(data: TrainingData) -> pb.TrainingData:
    return pb.TrainingData(
        rows=data.rows,
        links=data.links,
        fingerprint_sha256=data.fingerprint_sha256,
        first_measured_at=timestamp(data.first_ms) if data.first_ms else None,
        last_measured_at=timestamp(data.last_ms) if data.last_ms else None,
    )


def _version(text: str, field: str = "version") -> str:
    if not 1 <= len(text.encode()) <= MAX_VERSION_BYTES:
        raise InvalidRequestError(Violation(field, f"must be 1 to {MAX_VERSION_BYTES} bytes"))
    return text


def _value(text: str, field: str) -> str:
    if not 1 <= len(text.encode()) <= MAX_VALUE_BYTES:
        raise InvalidRequestError(Violation(field, f"must be 1 to {MAX_VALUE_BYTES} bytes"))
    return text


def _scope(number: int, field: str) -> Scope:
    scope = _SCOPES.get(pb.PinScope.ValueType(number))
    if scope is None:
        raise InvalidRequestError(Violation(field, f"{number} is none"))
    return scope
