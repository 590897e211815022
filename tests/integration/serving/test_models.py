"""The calls about models: what they read, what they answer, and what they refuse."""

import grpc
import pytest
from pba.v1 import model_service_pb2 as pb

from pba_service.domain.errors import ModelConflictError, ModelUnknownError, StoreUnavailableError
from pba_service.domain.lifecycle import Pin, Scope
from tests.integration.serving.harness import NOW_MS, error_of, serve


@pytest.fixture
async def running():
    async with serve() as server:
        yield server


async def test_models_are_listed_with_the_serving_one_first(running):
    answer = await running.models.ListModels(pb.ListModelsRequest())
    serving, other = answer.models
    assert (serving.version, serving.serving, serving.loaded, serving.published) == ("v1", True, True, False)
    assert not serving.HasField("training")
    assert (other.version, other.serving, other.parent_version, other.training.rows) == ("v2", False, "v1", 5)
    assert other.training.last_measured_at.ToMilliseconds() == NOW_MS
    assert (other.location, other.refusal) == ("", ""), "these are for operators"


async def test_what_is_desired_is_told(running):
    state = (await running.models.GetModelState(pb.GetModelStateRequest())).state
    assert (state.revision, state.active_version, list(state.previous_versions), state.held) == (4, "v1", ["v0"], True)
    assert [(pin.scope, pin.value, list(pin.versions)) for pin in state.pins] == [
        (pb.PIN_SCOPE_REGION, "eu", ["v2", "v1"])
    ]


async def test_one_model_is_found_or_not(running):
    model = (await running.models.GetModel(pb.GetModelRequest(version="v2"))).model
    assert (model.parent_version, model.location, model.refusal) == ("v1", "/models/v2", "why")
    failure = await error_of(running.models.GetModel(pb.GetModelRequest(version="v9")))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


def pin(scope, value, *versions):
    return pb.PinModelRequest(pin=pb.ModelPin(scope=scope, value=value, versions=versions))


@pytest.mark.parametrize(
    ("method", "request_", "call"),
    [
        ("ActivateModel", pb.ActivateModelRequest(version="v2"), ("activate", "v2")),
        ("RollbackModel", pb.RollbackModelRequest(), ("rollback", "")),
        ("RollbackModel", pb.RollbackModelRequest(from_version="v1"), ("rollback", "v1")),
        ("PinModel", pin(pb.PIN_SCOPE_PREFIX, "fra-", "v2", "v1"), ("pin", Pin(Scope.PREFIX, "fra-", ("v2", "v1")))),
        ("PinModel", pb.PinModelRequest(), ("hold", "")),
        ("PinModel", pin(0, "", "v2"), ("hold", "v2")),
        ("UnpinModel", pb.UnpinModelRequest(scope=pb.PIN_SCOPE_LINK, value="a"), ("unpin", Scope.LINK, "a")),
        ("UnpinModel", pb.UnpinModelRequest(), ("release",)),
    ],
)
async def test_a_change_is_made_and_answered_with_what_is_desired(running, method, request_, call):
    answer = await getattr(running.models, method)(request_)
    assert running.lifecycle.calls == [call]
    assert answer.state.revision == 4


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetModel", pb.GetModelRequest(), "version"),
        ("ActivateModel", pb.ActivateModelRequest(version="v" * 33), "version"),
        ("PinModel", pin(0, "x"), "pin.scope"),
        ("PinModel", pin(0, "", "v1", "v2"), "pin.scope"),
        ("PinModel", pin(pb.PIN_SCOPE_LINK, "a"), "pin.versions"),
        ("PinModel", pin(pb.PIN_SCOPE_LINK, "a", *"123456789"), "pin.versions"),
        ("PinModel", pin(pb.PIN_SCOPE_LINK, "a", "v1", ""), "pin.versions[1]"),
        ("PinModel", pin(pb.PIN_SCOPE_LINK, "", "v1"), "pin.value"),
        ("PinModel", pin(pb.PIN_SCOPE_LINK, "ü" * 65, "v1"), "pin.value"),
        ("PinModel", pin(99, "a", "v1"), "pin.scope"),
        ("UnpinModel", pb.UnpinModelRequest(value="a"), "scope"),
        ("UnpinModel", pb.UnpinModelRequest(scope=pb.PIN_SCOPE_LINK), "value"),
        ("UnpinModel", pb.UnpinModelRequest(scope=99, value="a"), "scope"),
    ],
)
async def test_what_breaks_the_contract_is_refused(running, method, request_, field):
    failure = await error_of(getattr(running.models, method)(request_))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert running.lifecycle.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelUnknownError("model 'x'"), grpc.StatusCode.NOT_FOUND),
        (ModelConflictError("v1 is pinned"), grpc.StatusCode.FAILED_PRECONDITION),
        (StoreUnavailableError(), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_what_cannot_be_done_is_told(running, error, code):
    running.service.failure = error
    for method, request in (
        ("ActivateModel", pb.ActivateModelRequest(version="x")),
        ("RollbackModel", pb.RollbackModelRequest()),
        ("ListReplicas", pb.ListReplicasRequest()),
    ):
        failure = await error_of(getattr(running.models, method)(request))
        assert (failure.code, failure.text) == (code, str(error))


async def test_replicas_say_what_they_serve(running):
    answer = await running.models.ListReplicas(pb.ListReplicasRequest())
    seen = [(one.name, one.serving_version, one.answering) for one in answer.replicas]
    assert seen == [("host-1", "v1", True), ("host-2", "v0", False)]
    assert [(one.version, one.reason) for one in answer.replicas[0].refused] == [("v2", "why")]
    assert answer.replicas[0].started_at.ToMilliseconds() == NOW_MS
