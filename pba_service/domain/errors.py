"""What can go wrong, in the domain's own words.

`serving/status.py` holds the one table that turns these into gRPC statuses.

    PbaError
    ├── InvalidRequestError      the caller's request breaks the contract
    ├── LinkUnknownError         no sample of the link was ever stored
    ├── HistoryTooShortError     too little recent history to predict from
    ├── MetricAbsentError        the link's recent samples do not have what is asked about
    ├── NotAuthenticatedError    nobody knows who is calling
    ├── NotPermittedError        whoever is calling may not
    ├── RateExceededError        the caller asks for more than its share; later will work
    ├── CapacityExceededError    a bound of the service is reached; later may work
    ├── StoreUnavailableError    Redis is away, slow, or failing over
    ├── DurabilityUnmetError     Redis would not keep samples as safe as promised
    ├── ModelUnavailableError    no usable model is loaded
    ├── ModelUnknownError        there is no such model version, pin or experiment
    └── ModelConflictError       what is asked of the models does not go with what is so now
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading somebody else's JSON as ours may raise."""


class PbaError(Exception):
    """Any failure that a caller can be told about. Its text is fit for the caller's eyes."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault."""

    field: str
    description: str


class InvalidRequestError(PbaError):
    """The request breaks the contract."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


class LinkUnknownError(PbaError):
    """No sample of the link was ever stored."""

    def __init__(self, link_id: str) -> None:
        super().__init__(f"link {link_id!r} is unknown: no sample of it is stored")
        self.link_id = link_id


class HistoryTooShortError(PbaError):
    """Too little recent history.

    Attributes:
        link_id: The link.
        have: Consecutive filled slots up to the newest sample.
        need: Slots a prediction needs.
        retry_after_s: When there may be enough, if samples keep coming on the link's cadence.
    """

    def __init__(self, link_id: str, *, have: int, need: int, retry_after_s: float) -> None:
        super().__init__(f"link {link_id!r} has {have} of the {need} recent consecutive samples a prediction needs")
        self.link_id = link_id
        self.have = have
        self.need = need
        self.retry_after_s = retry_after_s


class MetricAbsentError(PbaError):
    """The link's recent samples do not have the metric that is asked about."""

    def __init__(self, link_id: str, metric: str) -> None:
        super().__init__(f"link {link_id!r} has no {metric} in its recent samples")
        self.link_id = link_id
        self.metric = metric


class CapacityExceededError(PbaError):
    """A bound of the service is reached; later may work."""

    def __init__(self, what: str, *, limit: int, retry_after_s: float = 5.0) -> None:
        super().__init__(f"{what}: at most {limit}")
        self.what = what
        self.limit = limit
        self.retry_after_s = retry_after_s


class NotAuthenticatedError(PbaError):
    """Nobody knows who is calling. Callers are not told why: the log is."""

    def __init__(self) -> None:
        super().__init__("authentication is required")


class NotPermittedError(PbaError):
    """Whoever is calling may not. The text is the same whatever was asked, and whether it exists or not."""

    def __init__(self) -> None:
        super().__init__("permission denied")


class RateExceededError(PbaError):
    """The caller asks for more than its share."""

    def __init__(self, what: str, *, limit: float, retry_after_s: float) -> None:
        super().__init__(f"{what}: at most {limit:g} for each caller")
        self.what = what
        self.limit = limit
        self.retry_after_s = retry_after_s


class StoreUnavailableError(PbaError):
    """Redis is away, slow, or failing over."""

    def __init__(self, *, retry_after_s: float = 1.0) -> None:
        super().__init__("the store is unavailable")
        self.retry_after_s = retry_after_s


class DurabilityUnmetError(PbaError):
    """Redis is not set so that what is acknowledged would be as safe as promised.

    Attributes:
        wanted: The durability that is promised.
        reasons: What is not fulfilled; for the operator, not for callers.
    """

    def __init__(self, wanted: str, reasons: tuple[str, ...], *, retry_after_s: float = 5.0) -> None:
        super().__init__(f"the store cannot keep samples as safe as promised ({wanted})")
        self.wanted = wanted
        self.reasons = reasons
        self.retry_after_s = retry_after_s


class ModelUnavailableError(PbaError):
    """No usable model is loaded."""

    def __init__(self, *, retry_after_s: float = 5.0) -> None:
        super().__init__("no usable model is loaded")
        self.retry_after_s = retry_after_s


class ModelUnknownError(PbaError):
    """There is no such model version, pin or experiment."""

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no {what}")
        self.what = what


class ModelConflictError(PbaError):
    """What is asked of the models does not go with what is so now; asking again later may, or not."""


class ModelRefusedError(Exception):
    """A model was not loaded; whatever served before goes on serving.

    For operators: it names files, so it is no `PbaError`, which callers are told of.

    Attributes:
        reason: Why.
        kind: For counting: unreadable, limits, manifest, checksum, runtime, signature or golden.
    """

    def __init__(self, where: str, reason: str, kind: str = "manifest") -> None:
        super().__init__(f"the model at {where} was refused: {reason}")
        self.reason = reason
        self.kind = kind
