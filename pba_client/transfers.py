"""How long transfers take, and what came of those that were made; with their messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2, types_pb2

from pba_client.errors import from_number
from pba_client.wire import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pba_client.errors import PbaClientError


@dataclass(frozen=True, slots=True)
class TransferEstimate:
    """How long a transfer takes on a link from a start on.

    Attributes:
        link_id: The link.
        start: The start.
        completion_p10: Complete within this time with a probability of 10 %; None, as for the others: over 30 days.
        completion_p50: With 50 %.
        completion_p90: With 90 %.
        deadline_probability: Of being complete by the deadline; None without one.
    """

    link_id: str
    start: datetime
    completion_p10: timedelta | None
    completion_p50: timedelta | None
    completion_p90: timedelta | None
    deadline_probability: float | None


@dataclass(frozen=True, slots=True)
class TransferEstimates:
    """How long a transfer takes, per link and start.

    Attributes:
        estimates: In the order of the links, for each by ascending start.
        best: The best of them; None where there is none.
        errors: Links without an estimate, and why.
    """

    estimates: tuple[TransferEstimate, ...]
    best: TransferEstimate | None
    errors: dict[str, PbaClientError]


@dataclass(frozen=True, slots=True)
class TransferOutcome:
    """Parameters that were in force for a while, and what came of them.

    Attributes:
        link_id: The link.
        started_at: From when on.
        ended_at: Until when; with the link, the outcome's identity.
        streams: Streams that were open.
        achieved_goodput_mbps: Goodput of all together.
        expected_goodput_mbps: What was expected, as the parameters said; 0: nothing.
        retransmitted_ratio: Share of the segments that were retransmitted.
        path_loss_ratio: Loss that the path itself had; 0 where unknown.
        buffer_bytes: Socket buffer of each stream; 0: the kernel's.
        pacing_mbps: Pace of all together; None: none.
    """

    link_id: str
    started_at: datetime
    ended_at: datetime
    streams: int
    achieved_goodput_mbps: float
    expected_goodput_mbps: float = 0.0
    retransmitted_ratio: float = 0.0
    path_loss_ratio: float = 0.0
    buffer_bytes: int = 0
    pacing_mbps: float | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """What an outcome taught.

    Attributes:
        effectiveness_ratio: Achieved over expected goodput; None where nothing was expected.
        streams_correction: Of the streams that are recommended for the link from now on.
    """

    effectiveness_ratio: float | None
    streams_correction: float


def estimate_request(
    transfer_bytes: int,
    link_ids: Iterable[str],
    *,
    deadline: datetime | None,
    earliest_start: datetime | None,
    latest_start: datetime | None,
) -> prediction_service_pb2.EstimateTransferRequest:
    """Asks how long a transfer takes."""
    return prediction_service_pb2.EstimateTransferRequest(
        transfer_bytes=transfer_bytes,
        link_ids=link_ids,
        deadline=None if deadline is None else timestamp(deadline),
        earliest_start=None if earliest_start is None else timestamp(earliest_start),
        latest_start=None if latest_start is None else timestamp(latest_start),
    )


def read_estimates(message: prediction_service_pb2.EstimateTransferResponse) -> TransferEstimates:
    """How long a transfer takes."""
    found = tuple(map(_estimate, message.estimates))
    errors = {
        one.link_id: from_number(one.status.code, one.status.message, one.status.details) for one in message.refusals
    }
    return TransferEstimates(found, found[message.best] if message.HasField("best") else None, errors)


def _estimate(message: prediction_service_pb2.TransferEstimate) -> TransferEstimate:
    return TransferEstimate(
        link_id=message.link_id,
        start=message.start.ToDatetime(tzinfo=UTC),
        completion_p10=message.completion_p10.ToTimedelta() if message.HasField("completion_p10") else None,
        completion_p50=message.completion_p50.ToTimedelta() if message.HasField("completion_p50") else None,
        completion_p90=message.completion_p90.ToTimedelta() if message.HasField("completion_p90") else None,
        deadline_probability=message.deadline_probability if message.HasField("deadline_probability") else None,
    )


def outcome_request(outcome: TransferOutcome) -> prediction_service_pb2.ReportOutcomeRequest:
    """Tells what came of parameters."""
    return prediction_service_pb2.ReportOutcomeRequest(
        outcome=prediction_service_pb2.TransferOutcome(
            link_id=outcome.link_id,
            started_at=timestamp(outcome.started_at),
            ended_at=timestamp(outcome.ended_at),
            parameters=types_pb2.TransportParameters(
                streams=outcome.streams, buffer_bytes=outcome.buffer_bytes, pacing_mbps=outcome.pacing_mbps
            ),
            expected_goodput_mbps=outcome.expected_goodput_mbps,
            achieved_goodput_mbps=outcome.achieved_goodput_mbps,
            retransmitted_ratio=outcome.retransmitted_ratio,
            path_loss_ratio=outcome.path_loss_ratio,
        )
    )


def read_outcome(message: prediction_service_pb2.TransferOutcome) -> TransferOutcome:
    """What came of parameters."""
    used = message.parameters
    return TransferOutcome(
        link_id=message.link_id,
        started_at=message.started_at.ToDatetime(tzinfo=UTC),
        ended_at=message.ended_at.ToDatetime(tzinfo=UTC),
        streams=used.streams,
        achieved_goodput_mbps=message.achieved_goodput_mbps,
        expected_goodput_mbps=message.expected_goodput_mbps,
        retransmitted_ratio=message.retransmitted_ratio,
        path_loss_ratio=message.path_loss_ratio,
        buffer_bytes=used.buffer_bytes,
        pacing_mbps=used.pacing_mbps if used.HasField("pacing_mbps") else None,
    )


def read_learned(message: prediction_service_pb2.ReportOutcomeResponse) -> Learned:
    """What an outcome taught."""
    ratio = message.effectiveness_ratio if message.HasField("effectiveness_ratio") else None
    return Learned(ratio, message.streams_correction)
