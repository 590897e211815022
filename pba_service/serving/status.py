"""The only table from errors to gRPC statuses, and how much of an error fits into one.

A status travels in HTTP/2 trailers, of which peers accept 8 KiB by default: a status that is too large reaches the
caller as another error altogether. So texts and lists are cut here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2
from pba.v1 import prediction_service_pb2 as pb

from pba_service.domain import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

DOMAIN = "pba"
"""The domain of every `google.rpc.ErrorInfo`."""

MAX_TEXT_BYTES = 256
MAX_VIOLATIONS_BYTES = 3_000
"""About 40 violations of usual length; the text says how many there are in all."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error is told.

    Attributes:
        code: The status code.
        reason: Of the `ErrorInfo`.
        metadata: Of the `ErrorInfo`.
    """

    code: grpc.StatusCode
    reason: str
    metadata: Callable[[Any], dict[str, str]] = lambda _: {}


TABLE: dict[type[errors.PbaError], Row] = {
    errors.InvalidRequestError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    errors.LinkUnknownError: Row(grpc.StatusCode.NOT_FOUND, "LINK_UNKNOWN", lambda e: {"link_id": e.link_id}),
    errors.HistoryTooShortError: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        "HISTORY_TOO_SHORT",
        lambda e: {"link_id": e.link_id, "have": str(e.have), "need": str(e.need)},
    ),
    errors.MetricAbsentError: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        "METRIC_ABSENT",
        lambda e: {"link_id": e.link_id, "metric": e.metric},
    ),
    errors.CapacityExceededError: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "CAPACITY_EXCEEDED", lambda e: {"what": e.what, "limit": str(e.limit)}
    ),
    errors.NotAuthenticatedError: Row(grpc.StatusCode.UNAUTHENTICATED, "NOT_AUTHENTICATED"),
    errors.NotPermittedError: Row(grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED"),
    errors.RateExceededError: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_EXCEEDED", lambda e: {"what": e.what, "limit": f"{e.limit:g}"}
    ),
    errors.StoreUnavailableError: Row(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    errors.DurabilityUnmetError: Row(
        grpc.StatusCode.UNAVAILABLE, "DURABILITY_UNMET", lambda e: {"durability": e.wanted}
    ),
    errors.ModelUnavailableError: Row(grpc.StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE"),
    errors.ModelUnknownError: Row(grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN", lambda e: {"what": e.what}),
    errors.ModelConflictError: Row(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CONFLICT"),
}


def status_of(error: errors.PbaError) -> status_pb2.Status:
    """The status of an error a caller can be told about."""
    row = TABLE[type(error)]
    details: list[Message] = []
    if isinstance(error, errors.InvalidRequestError):
        details.append(_bad_request(error.violations))
    details.append(
        rpc.ErrorInfo(
            domain=DOMAIN,
            reason=row.reason,
            metadata={key: _cut(value) for key, value in row.metadata(error).items()},
        )
    )
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        details.append(rpc.RetryInfo(retry_delay=_duration(retry_after_s)))
    return _status(row.code, _cut(_text(error)), details)


def internal_status(error_id: str) -> status_pb2.Status:
    """The status of an unexpected failure: nothing but an id under which the log tells more."""
    info = rpc.ErrorInfo(domain=DOMAIN, reason="INTERNAL", metadata={"error_id": error_id})
    return _status(grpc.StatusCode.INTERNAL, f"internal error {error_id}", [info])


def call_status(error: errors.PbaError) -> pb.CallStatus:
    """The same status as a part of an answer."""
    status = status_of(error)
    return pb.CallStatus(code=status.code, message=status.message, details=status.details)


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """The code of a status."""
    return _CODES[status.code]


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _text(error: errors.PbaError) -> str:
    """An error's text; of many violations only the first, which the details continue."""
    if isinstance(error, errors.InvalidRequestError) and len(error.violations) > 1:
        first = error.violations[0]
        return f"{first.field}: {first.description}; and {len(error.violations) - 1} more"
    return str(error)


def _bad_request(violations: tuple[errors.Violation, ...]) -> rpc.BadRequest:
    told, left = rpc.BadRequest(), MAX_VIOLATIONS_BYTES
    for violation in violations:
        one = rpc.BadRequest.FieldViolation(field=_cut(violation.field), description=_cut(violation.description))
        left -= one.ByteSize()
        if left < 0:
            break
        told.field_violations.append(one)
    return told


def _cut(text: str) -> str:
    encoded = text.encode()
    return text if len(encoded) <= MAX_TEXT_BYTES else encoded[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"


def _duration(seconds: float) -> Duration:
    millis = max(round(seconds * 1000), 0)
    return Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)
