"""What a call can end in, and the one table that turns gRPC statuses into it.

PbaClientError
├── InvalidRequestError        the request breaks the contract; `violations` name the fields
├── LinkUnknownError           no sample of the link was ever stored
├── ModelUnknownError          there is no such model version or pin
├── FailedPreconditionError    the service is not in a state for this request
│   └── HistoryTooShortError   too little recent history to predict from; `have`, `need`
├── NotPermittedError          who is calling is unknown, or may not
├── UnsupportedError           the service does not know this call
├── TemporaryError             the same call may work later
│   ├── UnavailableError       the service, or its store, is away
│   ├── CapacityExceededError  a bound of the service is reached
│   ├── DeadlineExceededError  no answer in time
│   └── AbortedError           the call lost against another one
├── CallCancelledError         the call was given up, on this side or on the other
├── ServiceFaultError          the service failed in a way that it does not explain
└── ClientClosedError          the client or stream was used after it was closed
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.any_pb2 import Any as AnyMessage

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_ERROR_DOMAIN = "pba"
_MODEL_UNKNOWN = "MODEL_UNKNOWN"
_TURNED_AWAY = "CANCELLED"
"""All that gRPC's core says when more calls wait than a server takes; calls given up on this side say more."""
_MAX_DIGITS = 15
_DAY_MS = 86_400_000

DetailT = TypeVar("DetailT", bound=Message)


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault, named as in the request."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Details:
    """What an error's details say.

    Attributes:
        violations: From BadRequest.
        reason: From ErrorInfo, for machines.
        metadata: From ErrorInfo.
        retry_after: From RetryInfo, else from the server's pushback.
    """

    violations: tuple[Violation, ...] = ()
    reason: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    retry_after: timedelta | None = None

    def text(self, key: str) -> str:
        """A value of the metadata, empty when it is not there."""
        return dict(self.metadata).get(key, "")

    def number(self, key: str) -> int | None:
        """A count in the metadata; None when it is not there or no count."""
        return _count(self.text(key))


class PbaClientError(Exception):
    """Any failure of a call.

    Attributes:
        message: The service's own words.
        code: Name of the gRPC status, such as UNAVAILABLE.
        reason: The service's reason for machines, empty when it gave none.
        retry_after: When another try makes sense, if the service said so.
    """

    def __init__(self, message: str, *, code: str = "UNKNOWN", details: Details | None = None) -> None:
        super().__init__(message)
        details = details or Details()
        self.message = message
        self.code = code
        self.reason = details.reason
        self.retry_after = details.retry_after


class InvalidRequestError(PbaClientError):
    """The request breaks the contract; `violations` name the fields at fault."""

    def __init__(self, message: str, *, code: str = "INVALID_ARGUMENT", details: Details | None = None) -> None:
        super().__init__(message, code=code, details=details)
        self.violations = details.violations if details else ()


class LinkUnknownError(PbaClientError):
    """No sample of the link was ever stored."""

    def __init__(self, message: str, *, code: str = "NOT_FOUND", details: Details | None = None) -> None:
        super().__init__(message, code=code, details=details)
        self.link_id = details.text("link_id") if details else ""


class ModelUnknownError(PbaClientError):
    """There is no such model version or pin."""


class FailedPreconditionError(PbaClientError):
    """The service is not in a state for this request."""


class HistoryTooShortError(FailedPreconditionError):
    """Too little recent history to predict from.

    Attributes:
        have: Consecutive samples up to the newest.
        need: Samples that a prediction needs.
    """

    def __init__(
        self, message: str, *, have: int, need: int, code: str = "FAILED_PRECONDITION", details: Details | None = None
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.have = have
        self.need = need


class NotPermittedError(PbaClientError):
    """Who is calling is unknown, or may not."""


class UnsupportedError(PbaClientError):
    """The service does not know this call."""


class TemporaryError(PbaClientError):
    """The same call may work later."""


class UnavailableError(TemporaryError):
    """The service, or its store, is away."""


class CapacityExceededError(TemporaryError):
    """A bound of the service is reached."""


class DeadlineExceededError(TemporaryError):
    """No answer in time; the call may or may not have taken effect."""


class AbortedError(TemporaryError):
    """The call lost against another one."""


class CallCancelledError(PbaClientError):
    """The call was given up, on this side or on the other."""


class ServiceFaultError(PbaClientError):
    """The service failed in a way that it does not explain."""


class ClientClosedError(PbaClientError):
    """The client or stream was used after it was closed."""

    def __init__(self, what: str = "client") -> None:
        super().__init__(f"the {what} is closed", code="CANCELLED")


ERROR_OF_CODE: dict[grpc.StatusCode, type[PbaClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: LinkUnknownError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: NotPermittedError,
    grpc.StatusCode.PERMISSION_DENIED: NotPermittedError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: CapacityExceededError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.ALREADY_EXISTS: ServiceFaultError,
    grpc.StatusCode.DATA_LOSS: ServiceFaultError,
    grpc.StatusCode.INTERNAL: ServiceFaultError,
    grpc.StatusCode.UNKNOWN: ServiceFaultError,
    # what a broken peer sends: success that is no success
    grpc.StatusCode.OK: ServiceFaultError,
}
"""The one table; a test walks every status."""

_CODE_OF_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_status(
    code: grpc.StatusCode, message: str, details: Iterable[AnyMessage] = (), pushback_ms: str = ""
) -> PbaClientError:
    """The exception for a status.

    Args:
        code: The status code.
        message: The status text.
        details: google.rpc details; unknown and unreadable ones are ignored.
        pushback_ms: The server's pushback as sent, empty when it sent none.
    """
    said = _read_details(details, pushback_ms)
    have, need = said.number("have"), said.number("need")
    text = message or code.name
    if code is grpc.StatusCode.CANCELLED and message == _TURNED_AWAY:
        return CapacityExceededError("the service was too busy to take the call", code=code.name, details=said)
    if code is grpc.StatusCode.FAILED_PRECONDITION and have is not None and need is not None:
        return HistoryTooShortError(text, have=have, need=need, details=said)
    if code is grpc.StatusCode.NOT_FOUND and said.reason == _MODEL_UNKNOWN:
        return ModelUnknownError(text, code=code.name, details=said)
    return ERROR_OF_CODE.get(code, ServiceFaultError)(text, code=code.name, details=said)


def from_number(code: int, message: str, details: Iterable[AnyMessage] = ()) -> PbaClientError:
    """The exception for a status whose code came as a number, as in BatchPredict."""
    return from_status(_CODE_OF_NUMBER.get(code, grpc.StatusCode.UNKNOWN), message, details)


def from_rpc(
    code: grpc.StatusCode | None, message: str | None, trailers: Iterable[tuple[str, str | bytes]] | None
) -> PbaClientError:
    """The exception for a failed call, from its code, text and trailing metadata."""
    metadata = dict(trailers or ())
    details: tuple[AnyMessage, ...] = ()
    packed = metadata.get(_DETAILS_KEY)
    if isinstance(packed, bytes):
        try:
            details = tuple(status_pb2.Status.FromString(packed).details)
        except DecodeError:
            details = ()  # the status itself still says what matters
    pushback = metadata.get(_PUSHBACK_KEY, "")
    return from_status(
        code or grpc.StatusCode.UNKNOWN, message or "", details, pushback if isinstance(pushback, str) else ""
    )


def _read_details(details: Iterable[AnyMessage], pushback_ms: str) -> Details:
    """Reads the details that this client knows."""
    violations: tuple[Violation, ...] = ()
    reason, metadata = "", ()
    retry_after = _span_ms(_count(pushback_ms))
    for detail in details:
        if bad := _unpack(detail, error_details_pb2.BadRequest):
            violations += tuple(Violation(v.field, v.description) for v in bad.field_violations)
        elif (info := _unpack(detail, error_details_pb2.ErrorInfo)) and info.domain == _ERROR_DOMAIN:
            reason, metadata = info.reason, tuple(sorted(info.metadata.items()))
        elif retry := _unpack(detail, error_details_pb2.RetryInfo):
            retry_after = _span_ms(max(retry.retry_delay.seconds * 1000 + retry.retry_delay.nanos // 1_000_000, 0))
    return Details(violations, reason, metadata, retry_after)


def _count(text: str) -> int | None:
    """The count that a text says; None when it says none, or one that nobody means."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _span_ms(milliseconds: int | None) -> timedelta | None:
    """A wait, of a day at most: what is longer is no advice."""
    return None if milliseconds is None else timedelta(milliseconds=min(milliseconds, _DAY_MS))


def _unpack(detail: AnyMessage, kind: type[DetailT]) -> DetailT | None:
    """The detail as a message of a kind; None when it is of another kind or cannot be read."""
    message = kind()
    try:
        return message if detail.Unpack(message) else None
    except DecodeError:
        return None
