"""Transfers and their outcomes between the wire and the domain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.amst.completion import TransferAsk
from pba_service.domain.amst.feedback import TransferOutcome
from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.serving.convert import duration, read_timestamp, timestamp
from pba_service.serving.status import call_status

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    from pba_service.domain.amst.completion import Estimate
    from pba_service.engine.transfers import TransferAnswer


def read_ask(request: pb.EstimateTransferRequest) -> TransferAsk:
    """A transfer that could be made. Raises `InvalidRequestError` naming the fields at fault."""
    times = {
        name: _read_time(name, getattr(request, name)) if request.HasField(name) else None
        for name in ("deadline", "earliest_start", "latest_start")
    }
    return TransferAsk(
        request.transfer_bytes,
        tuple(request.link_ids),
        times["deadline"],
        times["earliest_start"],
        times["latest_start"],
    )


def estimate_response(answer: TransferAnswer) -> pb.EstimateTransferResponse:
    """How long a transfer would take."""
    return pb.EstimateTransferResponse(
        estimates=map(_estimate, answer.estimates),
        refusals=[pb.TransferRefusal(link_id=link_id, status=call_status(error)) for link_id, error in answer.refusals],
        best=answer.best,
    )


def _estimate(one: Estimate) -> pb.TransferEstimate:
    p10, p50, p90 = map(_span, one.completion_s)
    return pb.TransferEstimate(
        link_id=one.link_id,
        start=timestamp(one.start_ms),
        completion_p10=p10,
        completion_p50=p50,
        completion_p90=p90,
        deadline_probability=one.deadline_probability,
    )


def _span(seconds: float) -> Duration | None:
    return duration(math.ceil(seconds * 1000)) if math.isfinite(seconds) else None


def read_outcome(message: pb.TransferOutcome) -> TransferOutcome:
    """What a node tells of its parameters. Raises `InvalidRequestError` naming the fields at fault."""
    used = message.parameters
    missing = [name for name in ("started_at", "ended_at") if not message.HasField(name)]
    if missing:
        raise InvalidRequestError(*(Violation(f"outcome.{name}", "is required") for name in missing))
    return TransferOutcome(
        link_id=message.link_id,
        started_at_ms=_read_time("outcome.started_at", message.started_at),
        ended_at_ms=_read_time("outcome.ended_at", message.ended_at),
        streams=used.streams,
        buffer_bytes=used.buffer_bytes,
        pacing_mbps=used.pacing_mbps if used.HasField("pacing_mbps") else None,
        expected_mbps=message.expected_goodput_mbps,
        achieved_mbps=message.achieved_goodput_mbps,
        retransmitted_ratio=message.retransmitted_ratio,
        path_loss_ratio=message.path_loss_ratio,
    )


def outcome(one: TransferOutcome) -> pb.TransferOutcome:
    """What a node told."""
    return pb.TransferOutcome(
        link_id=one.link_id,
        started_at=timestamp(one.started_at_ms),
        ended_at=timestamp(one.ended_at_ms),
        parameters=types.TransportParameters(
            streams=one.streams,
            buffer_bytes=one.buffer_bytes,
            pacing_mbps=one.pacing_mbps,
            window_bytes=one.streams * one.buffer_bytes,
        ),
        expected_goodput_mbps=one.expected_mbps,
        achieved_goodput_mbps=one.achieved_mbps,
        retransmitted_ratio=one.retransmitted_ratio,
        path_loss_ratio=one.path_loss_ratio,
    )


def _read_time(field: str, message: Timestamp) -> int:
    time_ms = read_timestamp(message)
    if time_ms is None:
        raise InvalidRequestError(Violation(field, "is no time between the years 1 and 9999"))
    return time_ms
