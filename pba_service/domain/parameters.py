"""The nouns of transport parameters: what a caller asks, within which limits, and what it is answered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.domain.samples import text_fault

if TYPE_CHECKING:
    from pba_service.domain.forecast import Prediction

MIN_BUFFER_LIMIT_BYTES = 4096
"""The smallest buffer limit or memory budget that a caller may state."""


MIN_PACE_MBPS = 1e-6
"""The slowest pace that a caller may state."""


class CongestionControl(IntEnum):
    """Congestion control of the sender's sockets; numbers as in the contract."""

    UNSPECIFIED = 0
    CUBIC = 1
    BBR = 2
    RENO = 3


class BandwidthKind(IntEnum):
    """What a node's bandwidth measurements are; numbers as in the contract."""

    UNSPECIFIED = 0
    CAPACITY = 1
    GOODPUT = 2


class ParametersSource(IntEnum):
    """Where parameters come from; numbers as in the contract."""

    PREDICTION = 1
    MEASUREMENT = 2
    DEFAULTS = 3


class ParameterReason(IntEnum):
    """Why a parameter has its value; numbers as in the contract."""

    BANDWIDTH = 1
    LOSS = 2
    LATENCY = 3
    BANDWIDTH_DELAY_PRODUCT = 4
    SERVICE_LIMIT = 5
    CALLER_LIMIT = 6
    HYSTERESIS = 7
    LOW_CONFIDENCE = 8
    INSUFFICIENT_HISTORY = 9
    UNKNOWN_LINK = 10
    STORE_UNAVAILABLE = 11
    METRIC_ABSENT = 12
    MODEL_UNAVAILABLE = 13
    RETRANSMISSIONS = 14
    LOSS_RESOLUTION = 15
    BUFFER_LIMIT = 16
    PACED = 17
    CONGESTION_CONTROL = 18
    AHEAD = 19
    OUTCOMES = 20


@dataclass(frozen=True, slots=True)
class TransportParameters:
    """How AMST should send over a link.

    Attributes:
        streams: Parallel TCP streams.
        buffer_bytes: Socket buffer of each stream.
        chunk_bytes: Size of the pieces striped over the streams.
        pacing_mbps: Upper bound of the sending rate of all streams together; None: do not pace.
        not_sent_bytes: TCP_NOTSENT_LOWAT of each stream.
    """

    streams: int
    buffer_bytes: int
    chunk_bytes: int
    pacing_mbps: float | None
    not_sent_bytes: int

    @property
    def window_bytes(self) -> int:
        """What all streams together may have under way."""
        return self.streams * self.buffer_bytes


@dataclass(frozen=True, slots=True)
class TransportBounds:
    """What the service recommends at least and at most. Raises `ValueError` when a minimum is above its maximum."""

    min_streams: int = 2
    max_streams: int = 256
    min_buffer_bytes: int = 16 * 1024
    max_buffer_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.min_streams <= self.max_streams:
            raise ValueError(f"streams: {self.min_streams} to {self.max_streams} is no range from 1 up")
        if not MIN_BUFFER_LIMIT_BYTES <= self.min_buffer_bytes <= self.max_buffer_bytes:
            low, high = self.min_buffer_bytes, self.max_buffer_bytes
            raise ValueError(f"buffer: {low} to {high} is no range from {MIN_BUFFER_LIMIT_BYTES} bytes up")


@dataclass(frozen=True, slots=True)
class ParametersAsk:
    """What a caller asks for and says of itself. Raises `InvalidRequestError` that names every field at fault.

    Attributes:
        link_id: The link.
        current_streams: Streams it has open now; None or 0: none.
        congestion_control: Of its sockets.
        max_streams: The most streams it can open, at least 1; None: any number.
        max_buffer_bytes: The largest socket buffer it can set, at least 4,096; None: any.
        memory_budget_bytes: Memory for all buffers together, at least 4,096; None: any.
        current_buffer_bytes: Socket buffer of each stream now, at least 1; None: not said.
        current_pacing_mbps: Pace of all streams together now, above 0; None: unpaced, or not said.
        receive_buffer_bytes: The largest buffer the receiver gives a stream, at least 4,096; None: any.
        bandwidth_kind: What the link's bandwidth measurements are; unspecified: its capacity.
        loss_probes: Probes that a loss measurement comes from, at least 1; None: not known.
        base_latency_ms: Round trip with empty queues, where the link measures its busy one; None: not known.
    """

    link_id: str
    current_streams: int | None = None
    congestion_control: CongestionControl = CongestionControl.UNSPECIFIED
    max_streams: int | None = None
    max_buffer_bytes: int | None = None
    memory_budget_bytes: int | None = None
    current_buffer_bytes: int | None = None
    current_pacing_mbps: float | None = None
    receive_buffer_bytes: int | None = None
    bandwidth_kind: BandwidthKind = BandwidthKind.UNSPECIFIED
    loss_probes: int | None = None
    base_latency_ms: float | None = None

    def __post_init__(self) -> None:
        violations = []
        if fault := text_fault(self.link_id, required=True):
            violations.append(Violation("link_id", fault[1]))
        for field, minimum in (
            ("current_streams", 0),
            ("max_streams", 1),
            ("max_buffer_bytes", MIN_BUFFER_LIMIT_BYTES),
            ("memory_budget_bytes", MIN_BUFFER_LIMIT_BYTES),
            ("current_buffer_bytes", 1),
            ("receive_buffer_bytes", MIN_BUFFER_LIMIT_BYTES),
            ("loss_probes", 1),
            ("base_latency_ms", 0.0),
            ("current_pacing_mbps", MIN_PACE_MBPS),
        ):
            value = getattr(self, field)
            if value is None:
                continue
            if not math.isfinite(value):
                violations.append(Violation(field, "is no finite number"))
            elif value < minimum:
                violations.append(Violation(field, f"is {value}, less than {minimum}"))
        if violations:
            raise InvalidRequestError(*violations)

    @property
    def over_budget(self) -> bool:
        """Whether the present buffers, where their size was said, take more memory than there is for all together."""
        if self.memory_budget_bytes is None:
            return False
        return (self.current_streams or 0) * (self.current_buffer_bytes or 0) > self.memory_budget_bytes


@dataclass(frozen=True, slots=True, eq=False)
class ParametersAnswer:
    """Parameters and what they rest on.

    Attributes:
        parameters: The parameters.
        source: Where they come from.
        reasons: Why they are as they are, most important first.
        explanation: The same in one sentence.
        should_adjust: Whether changing over from the caller's present parameters is worth it.
        apply_at_ms: When to change over.
        valid_until_ms: Until when to use them.
        prediction: The link's prediction, whatever the source, if there is one.
        current: The caller's present parameters; None where it said nothing of its streams.
        expected_mbps: Goodput to be expected with the parameters; None where nothing is known of the link.
        current_expected_mbps: The same with the caller's present ones.
        holds_until_ms: Until when the same question gets this answer, changing over at once where that was said, as
            long as nothing new is heard of the link; 0: it is to be answered anew.
    """

    parameters: TransportParameters
    source: ParametersSource
    reasons: tuple[ParameterReason, ...]
    explanation: str
    should_adjust: bool
    apply_at_ms: int
    valid_until_ms: int
    prediction: Prediction | None
    current: TransportParameters | None
    expected_mbps: float | None
    current_expected_mbps: float | None
    holds_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Service bounds and caller limits in one: where they disagree the caller's smaller maximum wins."""

    min_streams: int
    max_streams: int
    min_buffer_bytes: int
    max_buffer_bytes: int
    budget_bytes: int | None

    @staticmethod
    def of(ask: ParametersAsk, bounds: TransportBounds) -> Limits:
        """The limits that hold for one ask."""
        budget = ask.memory_budget_bytes
        maxima = (bounds.max_buffer_bytes, ask.max_buffer_bytes, ask.receive_buffer_bytes, budget)
        most = min(v for v in maxima if v is not None)
        least = min(bounds.min_buffer_bytes, most)
        affordable = None if budget is None else budget // least
        streams = min(v for v in (bounds.max_streams, ask.max_streams, affordable) if v is not None)
        return Limits(min(bounds.min_streams, streams), streams, least, most, budget)

    def streams(self, wanted: float) -> int:
        """The whole number of streams nearest above `wanted` that all limits allow."""
        return min(max(math.ceil(min(wanted, self.max_streams)), self.min_streams), self.max_streams)

    def buffer_bytes(self, wanted: float, streams: int) -> int:
        """The buffer nearest to `wanted` that all limits allow for so many streams."""
        most = self.max_buffer_bytes if self.budget_bytes is None else self.budget_bytes // streams
        return int(max(min(wanted, most, self.max_buffer_bytes), self.min_buffer_bytes))


def answer(
    parameters: TransportParameters,
    reasons: tuple[ParameterReason, ...],
    *,
    source: ParametersSource,
    should_adjust: bool,
    apply_at_ms: int,
    valid_until_ms: int,
    prediction: Prediction | None,
    current: TransportParameters | None = None,
    expected_mbps: float | None = None,
    current_expected_mbps: float | None = None,
    holds_until_ms: int = 0,
) -> ParametersAnswer:
    """An answer with its sentence; the arguments are the attributes of `ParametersAnswer`."""
    return ParametersAnswer(
        parameters=parameters,
        source=source,
        reasons=reasons,
        explanation=_sentence(parameters, source, reasons),
        should_adjust=should_adjust,
        apply_at_ms=apply_at_ms,
        valid_until_ms=valid_until_ms,
        prediction=prediction,
        current=current,
        expected_mbps=expected_mbps,
        current_expected_mbps=current_expected_mbps,
        holds_until_ms=holds_until_ms,
    )


_PHRASES = {
    ParameterReason.BANDWIDTH: "nothing but the path's bandwidth holds a stream, so few do",
    ParameterReason.LOSS: "loss holds each stream below the path's rate",
    ParameterReason.LATENCY: "the more so the longer the round trip",
    ParameterReason.BANDWIDTH_DELAY_PRODUCT: "buffers follow the bandwidth-delay product",
    ParameterReason.SERVICE_LIMIT: "a bound of the service is reached",
    ParameterReason.CALLER_LIMIT: "a limit of the caller is reached",
    ParameterReason.HYSTERESIS: "the present streams are near enough to the best to be kept",
    ParameterReason.LOW_CONFIDENCE: "the prediction's confidence is below the threshold",
    ParameterReason.INSUFFICIENT_HISTORY: "the link has too little recent history",
    ParameterReason.UNKNOWN_LINK: "the link is unknown",
    ParameterReason.STORE_UNAVAILABLE: "the store could not be asked",
    ParameterReason.METRIC_ABSENT: "the link does not measure both bandwidth and latency",
    ParameterReason.MODEL_UNAVAILABLE: "no model is usable now",
    ParameterReason.RETRANSMISSIONS: "more streams would cause too many retransmissions themselves",
    ParameterReason.LOSS_RESOLUTION: "loss too small for the measurement to show is reckoned with",
    ParameterReason.BUFFER_LIMIT: "the largest buffer is too small for fewer streams to fill the path",
    ParameterReason.PACED: "a pace just below the path's rate keeps its queue empty",
    ParameterReason.CONGESTION_CONTROL: "the congestion control is not held by random loss",
    ParameterReason.AHEAD: "what is expected within the horizon needs more than the present",
    ParameterReason.OUTCOMES: "reported outcomes corrected the model",
}

_ORIGINS = {
    ParametersSource.PREDICTION: "from the prediction",
    ParametersSource.MEASUREMENT: "from the newest measurements",
    ParametersSource.DEFAULTS: "conservative defaults",
}


def _sentence(parameters: TransportParameters, source: ParametersSource, reasons: tuple[ParameterReason, ...]) -> str:
    pace = "unpaced" if parameters.pacing_mbps is None else f"paced at {parameters.pacing_mbps:.4g} Mbit/s"
    what = f"{parameters.streams} streams of {parameters.buffer_bytes} bytes, {pace}"
    why = "; ".join(_PHRASES[reason] for reason in reasons)
    return f"{what}, {_ORIGINS[source]}" + (f": {why}." if why else ".")
