"""The calls about models, of both clients: which there are, which serve, and changing that for all replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba.v1 import model_service_pb2 as pb

from pba_client import rpcs, wire
from pba_client.experiments import AsyncExperimentCalls, ExperimentCalls
from pba_client.retraining import AsyncRetrainingCalls, RetrainingCalls

if TYPE_CHECKING:
    from pba_client.records import Model, ModelState, PinScope, Replica


def _activate(version: str) -> pb.ActivateModelRequest:
    return pb.ActivateModelRequest(version=version)


def _pin(versions: tuple[str, ...], scope: PinScope | None, value: str) -> pb.PinModelRequest:
    pin = pb.ModelPin(value=value, versions=versions)
    if scope:
        pin.scope = pb.PinScope.ValueType(scope.value)
    return pb.PinModelRequest(pin=pin)


def _unpin(scope: PinScope | None, value: str) -> pb.UnpinModelRequest:
    request = pb.UnpinModelRequest(value=value)
    if scope:
        request.scope = pb.PinScope.ValueType(scope.value)
    return request


class ModelCalls(ExperimentCalls, RetrainingCalls):
    """What `Client` can say and ask of models."""

    def models(self) -> list[Model]:
        """The known models: the one that serves links without a pin first, then the others that are loaded."""
        return [wire.model(one) for one in self._unary(rpcs.LIST_MODELS, pb.ListModelsRequest()).models]

    def model(self, version: str) -> Model:
        """One model. Raises `ModelUnknownError` where there is none."""
        return wire.model(self._unary(rpcs.GET_MODEL, pb.GetModelRequest(version=version)).model)

    def model_state(self) -> ModelState:
        """What is desired of the models, on all replicas."""
        return wire.model_state(self._unary(rpcs.GET_MODEL_STATE, pb.GetModelStateRequest()).state)

    def activate_model(self, version: str) -> ModelState:
        """Lets a version serve all links without a pin.

        Raises:
            ModelUnknownError: There is no such version.
            FailedPreconditionError: It is refused, or the active version is pinned; the text says why.
        """
        return wire.model_state(self._unary(rpcs.ACTIVATE_MODEL, _activate(version)).state)

    def rollback_model(self, from_version: str = "") -> ModelState:
        """Goes back to the version that was active before.

        Args:
            from_version: Where to go back from, so that a repeated call does not go back twice; empty: wherever it is.
        """
        return wire.model_state(
            self._unary(rpcs.ROLLBACK_MODEL, pb.RollbackModelRequest(from_version=from_version)).state
        )

    def pin_model(self, *versions: str, scope: PinScope | None = None, value: str = "") -> ModelState:
        """Lets some links be served by versions of their own, the first of them that is loaded.

        Without a scope the active version is held against whatever arrives; a version is activated first.
        """
        return wire.model_state(self._unary(rpcs.PIN_MODEL, _pin(versions, scope, value)).state)

    def unpin_model(self, scope: PinScope | None = None, value: str = "") -> ModelState:
        """Takes a pin away; without a scope the active version is no longer held."""
        return wire.model_state(self._unary(rpcs.UNPIN_MODEL, _unpin(scope, value)).state)

    def replicas(self) -> list[Replica]:
        """The living replicas and what each serves."""
        return [wire.replica(one) for one in self._unary(rpcs.LIST_REPLICAS, pb.ListReplicasRequest()).replicas]


class AsyncModelCalls(AsyncExperimentCalls, AsyncRetrainingCalls):
    """What `AsyncClient` can say and ask of models."""

    async def models(self) -> list[Model]:
        """The known models: the one that serves links without a pin first, then the others that are loaded."""
        return [wire.model(one) for one in (await self._unary(rpcs.LIST_MODELS, pb.ListModelsRequest())).models]

    async def model(self, version: str) -> Model:
        """One model. Raises `ModelUnknownError` where there is none."""
        return wire.model((await self._unary(rpcs.GET_MODEL, pb.GetModelRequest(version=version))).model)

    async def model_state(self) -> ModelState:
        """What is desired of the models, on all replicas."""
        return wire.model_state((await self._unary(rpcs.GET_MODEL_STATE, pb.GetModelStateRequest())).state)

    async def activate_model(self, version: str) -> ModelState:
        """Lets a version serve all links without a pin.

        Raises:
            ModelUnknownError: There is no such version.
            FailedPreconditionError: It is refused, or the active version is pinned; the text says why.
        """
        return wire.model_state((await self._unary(rpcs.ACTIVATE_MODEL, _activate(version))).state)

    async def rollback_model(self, from_version: str = "") -> ModelState:
        """Goes back to the version that was active before.

        Args:
            from_version: Where to go back from, so that a repeated call does not go back twice; empty: wherever it is.
        """
        request = pb.RollbackModelRequest(from_version=from_version)
        return wire.model_state((await self._unary(rpcs.ROLLBACK_MODEL, request)).state)

    async def pin_model(self, *versions: str, scope: PinScope | None = None, value: str = "") -> ModelState:
        """Lets some links be served by versions of their own, the first of them that is loaded.

        Without a scope the active version is held against whatever arrives; a version is activated first.
        """
        return wire.model_state((await self._unary(rpcs.PIN_MODEL, _pin(versions, scope, value))).state)

    async def unpin_model(self, scope: PinScope | None = None, value: str = "") -> ModelState:
        """Takes a pin away; without a scope the active version is no longer held."""
        return wire.model_state((await self._unary(rpcs.UNPIN_MODEL, _unpin(scope, value))).state)

    async def replicas(self) -> list[Replica]:
        """The living replicas and what each serves."""
        return [wire.replica(one) for one in (await self._unary(rpcs.LIST_REPLICAS, pb.ListReplicasRequest())).replicas]
