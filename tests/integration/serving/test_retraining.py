"""The calls about retraining."""

import grpc
import pytest
from pba.v1 import model_service_pb2 as pb

from pba_service.domain.errors import StoreUnavailableError
from tests.integration.serving.harness import NOW_MS, error_of, serve


@pytest.fixture
async def running():
    async with serve() as server:
        yield server


async def test_the_last_run_is_told(running):
    known = (await running.models.GetRetraining(pb.GetRetrainingRequest())).retraining
    run = known.run
    assert (run.number, run.holder, run.trigger, run.from_scratch) == (1, "r1", pb.RETRAINING_TRIGGER_DRIFT, True)
    assert (run.phase, run.outcome) == (pb.RETRAINING_PHASE_ENDED, pb.RETRAINING_OUTCOME_TRAINED)
    assert (run.links, run.samples, run.parent_version, run.version) == (3, 900, "v1", "v2")
    assert (run.experiment, run.reason) == ("trial-v2-ab", "")
    assert run.ended_at.ToMilliseconds() - run.started_at.ToMilliseconds() == 1_000
    assert known.last_success_at == run.ended_at
    assert known.due_at.ToMilliseconds() == NOW_MS + 61_000
    assert not known.asked


async def test_a_run_is_asked_for_once(running):
    answer = await running.models.StartRetraining(pb.StartRetrainingRequest(from_scratch=True))
    assert answer.retraining.asked
    assert running.retraining.calls == [("ask", True)]
    failure = await error_of(running.models.StartRetraining(pb.StartRetrainingRequest()))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_store_that_is_away_is_told(running):
    running.service.failure = StoreUnavailableError()
    failure = await error_of(running.models.GetRetraining(pb.GetRetrainingRequest()))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
