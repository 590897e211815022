"""When refused callers are told to come back."""

import grpc
import pytest
from google.rpc import status_pb2
from grpc_status import rpc_status

from pba_service.serving.pushback import KEY, SPREAD, with_pushback

REFUSED = rpc_status.to_status(
    status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="calls under way")
)


def said(retry_after_s, remaining_s):
    status = with_pushback(REFUSED, retry_after_s, remaining_s)
    trailers = dict(status.trailing_metadata)
    assert (status.code, status.details) == (REFUSED.code, REFUSED.details)
    assert "grpc-status-details-bin" in trailers
    return int(trailers[KEY])


def test_callers_come_back_over_a_time_of_their_own():
    waits = [said(1.0, 60.0) for _ in range(200)]
    assert all(1_000 <= wait <= 1_000 * (1 + SPREAD) for wait in waits)
    assert max(waits) - min(waits) > 250
    assert said(1.0, None) >= 1_000


@pytest.mark.parametrize(("retry_after_s", "remaining_s"), [(None, 60.0), (60.0, None), (1.0, 0.5), (1.0, 0.0)])
def test_who_cannot_come_back_in_time_is_told_not_to(retry_after_s, remaining_s):
    assert said(retry_after_s, remaining_s) == -1
