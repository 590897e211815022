"""Transport parameters, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pba_client.types import Prediction


class CongestionControl(Enum):
    """Congestion control of the sender's sockets."""

    UNSPECIFIED = 0
    CUBIC = 1
    BBR = 2
    RENO = 3


class BandwidthKind(Enum):
    """What a node's bandwidth measurements are."""

    UNSPECIFIED = 0
    CAPACITY = 1
    GOODPUT = 2


class ParametersSource(Enum):
    """Where parameters come from."""

    UNSPECIFIED = 0
    PREDICTION = 1
    MEASUREMENT = 2
    DEFAULTS = 3


class ParameterReason(Enum):
    """Why parameters are as they are. `UNSPECIFIED` also stands for reasons that this client does not know yet."""

    UNSPECIFIED = 0
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
class Parameters:
    """How to send over a link, and what that rests on.

    Attributes:
        streams: Parallel TCP streams.
        buffer_bytes: Socket buffer of each stream.
        chunk_bytes: Size of the pieces that are striped over the streams.
        pacing_mbps: Upper bound of the sending rate of all streams together; None: do not pace.
        source: Where they come from.
        reasons: Why they are as they are, most important first.
        explanation: The same in one sentence.
        should_adjust: Whether changing over from the current streams is worth it.
        valid_until: Until when to use them.
        prediction: The link's prediction, if there is one.
        not_sent_bytes: TCP_NOTSENT_LOWAT of each stream.
        window_bytes: What all streams together may have under way.
        apply_at: When to change over; None from services that do not plan.
        expected_goodput_mbps: To be expected with these parameters; None where nothing is known of the link.
        current_expected_goodput_mbps: The same with the caller's present ones.
    """

    streams: int
    buffer_bytes: int
    chunk_bytes: int
    pacing_mbps: float | None
    source: ParametersSource
    reasons: tuple[ParameterReason, ...]
    explanation: str
    should_adjust: bool
    valid_until: datetime
    prediction: Prediction | None
    not_sent_bytes: int = 0
    window_bytes: int = 0
    apply_at: datetime | None = None
    expected_goodput_mbps: float | None = None
    current_expected_goodput_mbps: float | None = None
