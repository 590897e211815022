"""The calls about experiments: what they read, what they answer, and what they refuse."""

import grpc
import pytest
from pba.v1 import model_service_pb2 as pb

from pba_service.domain.errors import StoreUnavailableError
from tests.integration.serving.harness import NOW_MS, error_of, serve

NAME = "trial-v2-ab"


@pytest.fixture
async def running():
    async with serve() as server:
        yield server


async def test_an_experiment_is_told_with_its_evidence(running):
    [one] = (await running.models.ListExperiments(pb.ListExperimentsRequest())).experiments
    assert one == (await running.models.GetExperiment(pb.GetExperimentRequest(name=NAME))).experiment
    assert (one.name, one.champion, one.challenger, one.share) == (NAME, "v1", "v2", 0.1)
    assert (one.kind, one.status, one.automatic) == (pb.EXPERIMENT_KIND_TRIAL, pb.EXPERIMENT_STATUS_RUNNING, True)
    assert one.started_at.ToMilliseconds() == NOW_MS
    assert not one.HasField("ended_at")
    seen = one.evidence
    assert (seen.periods, seen.targets, seen.promote_at, seen.reject_at, seen.max_periods) == (3, 135, 20, 20, 336)
    assert seen.advantage == pytest.approx(0.05)
    assert seen.advantage_low < 0.05 < seen.advantage_high
    assert seen.promote_wealth > 1 > seen.reject_wealth
    [metric] = seen.metrics
    assert (metric.metric, metric.targets, metric.champion_error) == ("bandwidth_mbps", 135, 1.0)
    assert metric.challenger_error == pytest.approx(0.8)


async def test_experiments_are_started_and_stopped(running):
    request = pb.StartExperimentRequest(challenger="v2", champion="v1", share=0.25)
    assert (await running.models.StartExperiment(request)).experiment.name == NAME
    stopped = await running.models.StopExperiment(pb.StopExperimentRequest(name=NAME, promote=True))
    assert stopped.experiment.status == pb.EXPERIMENT_STATUS_STOPPED
    assert stopped.experiment.ended_at.ToMilliseconds() == NOW_MS
    assert running.trials.calls == [("start", "v2", "v1", 0.25), ("stop", NAME, True)]


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("StartExperiment", pb.StartExperimentRequest(), "challenger"),
        ("StartExperiment", pb.StartExperimentRequest(challenger="v" * 33), "challenger"),
        ("StartExperiment", pb.StartExperimentRequest(challenger="v2", champion="v" * 33), "champion"),
        ("StartExperiment", pb.StartExperimentRequest(challenger="v2", share=1.1), "share"),
        ("StartExperiment", pb.StartExperimentRequest(challenger="v2", share=float("nan")), "share"),
        ("GetExperiment", pb.GetExperimentRequest(), "name"),
        ("StopExperiment", pb.StopExperimentRequest(name="n" * 129), "name"),
    ],
)
async def test_what_cannot_be_read_is_refused(running, method, request_, field):
    failure = await error_of(getattr(running.models, method)(request_))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields == [field]
    assert running.trials.calls == []


async def test_an_unknown_experiment_and_a_store_that_is_away(running):
    failure = await error_of(running.models.GetExperiment(pb.GetExperimentRequest(name="none")))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    running.service.failure = StoreUnavailableError()
    failure = await error_of(running.models.ListExperiments(pb.ListExperimentsRequest()))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
