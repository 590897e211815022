"""Every status becomes an exception that says what the service said."""

import inspect
from datetime import timedelta

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

import pba_client
from pba_client import errors
from pba_client.resume import worth_retrying


def packed(*details):
    messages = []
    for detail in details:
        messages.append(any_pb2.Any())
        messages[-1].Pack(detail)
    return messages


def all_errors(kind=errors.PbaClientError):
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_has_an_exception_of_its_own_kind(code):
    error = errors.from_status(code, "what happened")
    assert isinstance(error, errors.PbaClientError)
    assert type(error) is errors.ERROR_OF_CODE[code]
    assert (str(error), error.message, error.code) == ("what happened", "what happened", code.name)


def test_every_exception_is_raised_by_some_status_or_by_the_client_itself():
    raised = {type(errors.from_status(code, "")) for code in grpc.StatusCode}
    raised.add(type(errors.from_status(grpc.StatusCode.FAILED_PRECONDITION, "", packed(short_history()))))
    unknown = error_details_pb2.ErrorInfo(domain="pba", reason="MODEL_UNKNOWN")
    raised.add(type(errors.from_status(grpc.StatusCode.NOT_FOUND, "", packed(unknown))))
    own = {errors.PbaClientError, errors.TemporaryError, errors.ClientClosedError}
    assert set(all_errors()) == raised | own


def test_every_exception_is_exported_and_drawn():
    drawn = inspect.getdoc(errors)
    for kind in all_errors():
        assert getattr(pba_client, kind.__name__) is kind
        assert kind.__name__ in drawn


def short_history(**metadata):
    return error_details_pb2.ErrorInfo(
        domain="pba", reason="HISTORY_TOO_SHORT", metadata={"have": "4", "need": "10", **metadata}
    )


def test_details_are_read():
    error = errors.from_status(
        grpc.StatusCode.FAILED_PRECONDITION,
        "too short",
        packed(short_history(), error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=360))),
    )
    assert (error.have, error.need, error.reason) == (4, 10, "HISTORY_TOO_SHORT")
    assert error.retry_after == timedelta(minutes=6)


@pytest.mark.parametrize("have", ["", "-1", "4.5", "٣", "many", "9" * 5000])
def test_counts_that_are_no_counts_are_not_made_up(have):
    error = errors.from_status(grpc.StatusCode.FAILED_PRECONDITION, "", packed(short_history(have=have)))
    assert type(error) is errors.FailedPreconditionError


def test_a_failed_precondition_of_another_kind_stays_general():
    assert type(errors.from_status(grpc.StatusCode.FAILED_PRECONDITION, "")) is errors.FailedPreconditionError


def test_details_of_other_domains_are_not_ours():
    foreign = error_details_pb2.ErrorInfo(domain="proxy.example", reason="HAVE_A_BREAK", metadata={"link_id": "x"})
    error = errors.from_status(grpc.StatusCode.NOT_FOUND, "", packed(foreign))
    assert (error.reason, error.link_id) == ("", "")


def test_a_pushback_stands_in_for_missing_retry_info():
    trailers = [("grpc-retry-pushback-ms", "1500")]
    assert errors.from_rpc(grpc.StatusCode.UNAVAILABLE, "", trailers).retry_after == timedelta(seconds=1.5)
    trailers = [("grpc-retry-pushback-ms", "-1")]
    assert errors.from_rpc(grpc.StatusCode.UNAVAILABLE, "", trailers).retry_after is None


def test_a_wait_without_end_is_cut():
    for_ever = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2**62, nanos=5))
    assert errors.from_status(grpc.StatusCode.UNAVAILABLE, "", packed(for_ever)).retry_after == timedelta(days=1)
    backwards = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=-5))
    assert errors.from_status(grpc.StatusCode.UNAVAILABLE, "", packed(backwards)).retry_after == timedelta()


def test_what_is_missing_from_a_call_does_not_matter():
    error = errors.from_rpc(None, None, None)
    assert isinstance(error, errors.ServiceFaultError)
    assert str(error) == "UNKNOWN"


def test_a_number_that_is_no_status_is_a_fault_of_the_service():
    assert isinstance(errors.from_number(4711, "?"), errors.ServiceFaultError)
    assert isinstance(errors.from_number(5, "?"), errors.LinkUnknownError)


@given(st.binary(max_size=200))
def test_unreadable_details_do_not_hide_the_status(junk):
    error = errors.from_rpc(grpc.StatusCode.UNAVAILABLE, "away", [("grpc-status-details-bin", junk)])
    assert isinstance(error, errors.UnavailableError)
    assert str(error) == "away"


@given(st.sampled_from(["BadRequest", "ErrorInfo", "RetryInfo", "DebugInfo", "NoSuch"]), st.binary(max_size=60))
def test_a_damaged_detail_does_not_hide_the_others(kind, junk):
    damaged = any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{kind}", value=junk)
    good = packed(error_details_pb2.ErrorInfo(domain="pba", reason="STORE_UNAVAILABLE"))
    status = status_pb2.Status(code=14, message="away", details=[damaged, *good])
    error = errors.from_rpc(
        grpc.StatusCode.UNAVAILABLE, "away", [("grpc-status-details-bin", status.SerializeToString())]
    )
    assert error.reason == "STORE_UNAVAILABLE"


def test_streams_come_back_after_what_may_pass_and_only_then():
    again = {code.name for code in grpc.StatusCode if worth_retrying(errors.from_status(code, ""))}
    never = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND", "FAILED_PRECONDITION", "UNAUTHENTICATED"}
    never |= {"PERMISSION_DENIED", "UNIMPLEMENTED"}
    assert again == {code.name for code in grpc.StatusCode} - never
    assert not worth_retrying(errors.ClientClosedError())


def test_a_call_that_grpc_turned_away_is_temporary_and_one_given_up_here_is_not():
    assert isinstance(errors.from_rpc(grpc.StatusCode.CANCELLED, "CANCELLED", ()), errors.CapacityExceededError)
    given_up = errors.from_rpc(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", ())
    assert isinstance(given_up, errors.CallCancelledError)
