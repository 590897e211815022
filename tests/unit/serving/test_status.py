"""Every error has a status with the details that the contract promises, small enough to arrive."""

import re

import grpc
import pytest
from google.rpc import error_details_pb2 as rpc

from pba_service.domain import errors
from pba_service.serving.status import DOMAIN, TABLE, call_status, code_of, internal_status, status_of

EXAMPLES = {
    errors.InvalidRequestError: errors.InvalidRequestError(errors.Violation("link_id", "is required")),
    errors.LinkUnknownError: errors.LinkUnknownError("a"),
    errors.MetricAbsentError: errors.MetricAbsentError("a", "bandwidth_mbps"),
    errors.HistoryTooShortError: errors.HistoryTooShortError("a", have=3, need=10, retry_after_s=420.5),
    errors.CapacityExceededError: errors.CapacityExceededError("subscribers", limit=3),
    errors.NotAuthenticatedError: errors.NotAuthenticatedError(),
    errors.NotPermittedError: errors.NotPermittedError(),
    errors.RateExceededError: errors.RateExceededError("calls per second", limit=5, retry_after_s=0.25),
    errors.StoreUnavailableError: errors.StoreUnavailableError(),
    errors.DurabilityUnmetError: errors.DurabilityUnmetError("always", ("r syncs no",)),
    errors.ModelUnavailableError: errors.ModelUnavailableError(),
    errors.ModelUnknownError: errors.ModelUnknownError("version 'a-1'"),
    errors.ModelConflictError: errors.ModelConflictError("nothing to go back to"),
}

EXPECTED = {
    errors.InvalidRequestError: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", {}, None),
    errors.LinkUnknownError: (grpc.StatusCode.NOT_FOUND, "LINK_UNKNOWN", {"link_id": "a"}, None),
    errors.MetricAbsentError: (
        grpc.StatusCode.FAILED_PRECONDITION,
        "METRIC_ABSENT",
        {"link_id": "a", "metric": "bandwidth_mbps"},
        None,
    ),
    errors.HistoryTooShortError: (
        grpc.StatusCode.FAILED_PRECONDITION,
        "HISTORY_TOO_SHORT",
        {"link_id": "a", "have": "3", "need": "10"},
        420_500,
    ),
    errors.CapacityExceededError: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "CAPACITY_EXCEEDED",
        {"what": "subscribers", "limit": "3"},
        5_000,
    ),
    errors.NotAuthenticatedError: (grpc.StatusCode.UNAUTHENTICATED, "NOT_AUTHENTICATED", {}, None),
    errors.NotPermittedError: (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED", {}, None),
    errors.RateExceededError: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "RATE_EXCEEDED",
        {"what": "calls per second", "limit": "5"},
        250,
    ),
    errors.StoreUnavailableError: (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", {}, 1_000),
    errors.DurabilityUnmetError: (
        grpc.StatusCode.UNAVAILABLE,
        "DURABILITY_UNMET",
        {"durability": "always"},
        5_000,
    ),
    errors.ModelUnavailableError: (grpc.StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE", {}, 5_000),
    errors.ModelUnknownError: (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN", {"what": "version 'a-1'"}, None),
    errors.ModelConflictError: (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CONFLICT", {}, None),
}


def subclasses(kind):
    return {sub for direct in kind.__subclasses__() for sub in (direct, *subclasses(direct))}


def detail(status, kind):
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found[0] if found else None


def test_every_error_has_a_row_and_an_expectation():
    of_the_service = {kind for kind in subclasses(errors.PbaError) if kind.__module__.startswith("pba_service.")}
    assert of_the_service == set(TABLE) == set(EXAMPLES) == set(EXPECTED)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_an_error_becomes_the_promised_status(kind):
    code, reason, metadata, retry_ms = EXPECTED[kind]
    status = status_of(EXAMPLES[kind])
    info, retry = detail(status, rpc.ErrorInfo), detail(status, rpc.RetryInfo)
    assert code_of(status) is code
    assert status.message == str(EXAMPLES[kind])
    assert (info.domain, info.reason, dict(info.metadata)) == (DOMAIN, reason, metadata)
    assert (retry and retry.retry_delay.ToMilliseconds()) == retry_ms


def test_reasons_and_keys_have_the_form_that_error_info_documents():
    for error in EXAMPLES.values():
        info = detail(status_of(error), rpc.ErrorInfo)
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", info.reason)
        assert all(re.fullmatch(r"[a-z][a-zA-Z0-9-_]{1,63}", key) for key in info.metadata)


def test_violations_name_their_fields():
    violations = [errors.Violation(f"samples[{n}].latency_ms", f"fault {n}") for n in range(3)]
    status = status_of(errors.InvalidRequestError(*violations))
    told = detail(status, rpc.BadRequest).field_violations
    assert [(v.field, v.description) for v in told] == [(v.field, v.description) for v in violations]
    assert status.message == "samples[0].latency_ms: fault 0; and 2 more"


@pytest.mark.parametrize("text", ["x" * 1_000, "\U0001f4a5" * 1_000], ids=["long", "four bytes a character"])
def test_a_status_always_fits_into_trailers(text):
    """8 KiB are accepted by default; a percent-encoded text takes three times its bytes, details four thirds."""
    many = errors.InvalidRequestError(*[errors.Violation(text, text)] * 10_000)
    for error in (many, errors.LinkUnknownError(text[:128]), errors.CapacityExceededError(text, limit=1)):
        status = status_of(error)
        encoded = 3 * len(status.message.encode()) + 4 / 3 * status.ByteSize()
        assert encoded < 8_000


def test_retry_never_lies_in_the_past():
    error = errors.HistoryTooShortError("a", have=1, need=10, retry_after_s=-5)
    assert detail(status_of(error), rpc.RetryInfo).retry_delay.ToMilliseconds() == 0


def test_an_unexpected_failure_tells_an_id_and_nothing_else():
    status = internal_status("4f2a")
    assert code_of(status) is grpc.StatusCode.INTERNAL
    assert status.message == "internal error 4f2a"
    assert detail(status, rpc.ErrorInfo).metadata == {"error_id": "4f2a"}


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: type(error).__name__)
def test_a_status_inside_an_answer_is_the_same(error):
    inside, alone = call_status(error), status_of(error)
    assert (inside.code, inside.message, list(inside.details)) == (alone.code, alone.message, list(alone.details))
