"""All requests but batches of samples, from the wire to the domain. Raises `InvalidRequestError` naming the fields."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.domain.parameters import BandwidthKind, CongestionControl, ParametersAsk
from pba_service.domain.samples import Limits, Series, text_fault, validate
from pba_service.engine.subscriptions import Selector
from pba_service.serving.batches import check_count, read_rows
from pba_service.serving.convert import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba.v1 import prediction_service_pb2 as pb

MAX_LINKS = 10_000
"""Links named in one request."""

MAX_PAGE_LINKS = 1_000
DEFAULT_PAGE_LINKS = 100

MAX_INTERVAL_S = 3600.0
"""Longest `min_interval` of a subscription."""

_ANY_TIME = Limits(max_ahead_ms=2**62, max_age_ms=2**62)
_NANOS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """A page of links that is asked for: those after `after`."""

    prefix: str
    region: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a link's time, start <= time < end; None: unbounded."""

    link_id: str
    start_ms: int | None
    end_ms: int | None


def read_link_id(link_id: str) -> str:
    """The link of a request."""
    _check_texts(("link_id", link_id, True))
    return link_id


def read_link_ids(link_ids: Sequence[str]) -> list[str]:
    """The links of a request."""
    check_count("link_ids", len(link_ids), minimum=1, maximum=MAX_LINKS)
    _check_texts(*((f"link_ids[{index}]", link_id, True) for index, link_id in enumerate(link_ids)))
    return list(link_ids)


def read_window(request: pb.PredictRequest) -> Series:
    """The caller's own samples."""
    check_count("window", len(request.window))
    foreign = [
        Violation(f"window[{index}].link_id", "is another link than the request's; it may be left empty")
        for index, row in enumerate(request.window)
        if row.link_id not in {"", request.link_id}
    ]
    if foreign:
        raise InvalidRequestError(*foreign)
    incoming = read_rows(request.window)
    batch = incoming.batch
    named = replace(batch, links=tuple(link._replace(link_id=request.link_id) for link in batch.links))
    _, refusals = validate(named, 0, _ANY_TIME)
    faults = [
        Violation(f"window[{refusal.index}].{refusal.field}", refusal.description)
        for refusal in incoming.all_refusals(refusals)
    ]
    if faults:
        raise InvalidRequestError(*faults)
    return Series.of(batch.measured_at_ms, np.where(batch.present, batch.values, np.float32(np.nan)))


def read_ask(request: pb.GetOptimalParametersRequest) -> ParametersAsk:
    """What a caller asks and says of itself."""
    try:
        congestion_control = CongestionControl(request.congestion_control)
    except ValueError:
        fault = f"{request.congestion_control} is no congestion control that this service knows"
        raise InvalidRequestError(Violation("congestion_control", fault)) from None
    return ParametersAsk(
        link_id=request.link_id,
        current_streams=request.current_streams if request.HasField("current_streams") else None,
        congestion_control=congestion_control,
        max_streams=request.max_streams if request.HasField("max_streams") else None,
        max_buffer_bytes=request.max_buffer_bytes if request.HasField("max_buffer_bytes") else None,
        memory_budget_bytes=request.memory_budget_bytes if request.HasField("memory_budget_bytes") else None,
        current_buffer_bytes=request.current_buffer_bytes if request.HasField("current_buffer_bytes") else None,
        current_pacing_mbps=request.current_pacing_mbps if request.HasField("current_pacing_mbps") else None,
        receive_buffer_bytes=request.receive_buffer_bytes if request.HasField("receive_buffer_bytes") else None,
        bandwidth_kind=_read_bandwidth_kind(request.bandwidth_kind),
        loss_probes=request.loss_probes if request.HasField("loss_probes") else None,
        base_latency_ms=request.base_latency_ms if request.HasField("base_latency_ms") else None,
    )


def _read_bandwidth_kind(number: int) -> BandwidthKind:
    try:
        return BandwidthKind(number)
    except ValueError:
        fault = f"{number} is no kind of bandwidth that this service knows"
        raise InvalidRequestError(Violation("bandwidth_kind", fault)) from None


def read_selector(request: pb.StreamPredictionsRequest) -> Selector:
    """The links that a subscriber chooses."""
    chosen = request.selector
    check_count("selector.link_ids", len(chosen.link_ids), maximum=MAX_LINKS)
    _check_texts(
        *((f"selector.link_ids[{index}]", link_id, True) for index, link_id in enumerate(chosen.link_ids)),
        ("selector.prefix", chosen.prefix, False),
        ("selector.region", chosen.region, False),
    )
    if not (chosen.link_ids or chosen.prefix or chosen.region or chosen.all):
        raise InvalidRequestError(Violation("selector", "chooses nothing: give link_ids, prefix, region or all"))
    return Selector(frozenset(chosen.link_ids), chosen.prefix, chosen.region, chosen.all)


def read_interval_s(request: pb.StreamPredictionsRequest) -> float:
    """The least time between two messages."""
    if not request.HasField("min_interval"):
        return 0.0
    seconds, nanos = request.min_interval.seconds, request.min_interval.nanos
    # seconds first: a hostile number of them must not reach the sum
    known = 0 <= seconds <= MAX_INTERVAL_S and 0 <= nanos < _NANOS_PER_SECOND
    interval_s = seconds + nanos / _NANOS_PER_SECOND if known else -1.0
    if not 0 <= interval_s <= MAX_INTERVAL_S:
        raise InvalidRequestError(Violation("min_interval", f"is outside 0 to {MAX_INTERVAL_S:g} s"))
    return interval_s


def read_span(request: pb.GetHistoryRequest | pb.GetLedgerRequest) -> Span:
    """A link and a range of time."""
    faults = [Violation("link_id", fault[1]) for fault in (text_fault(request.link_id, required=True),) if fault]
    start_ms = read_timestamp(request.start) if request.HasField("start") else None
    end_ms = read_timestamp(request.end) if request.HasField("end") else None
    for field, time_ms, given in (
        ("start", start_ms, request.HasField("start")),
        ("end", end_ms, request.HasField("end")),
    ):
        if given and time_ms is None:
            faults.append(Violation(field, "is no time between the years 1 and 9999"))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        faults.append(Violation("end", "is before start"))
    if faults:
        raise InvalidRequestError(*faults)
    return Span(request.link_id, start_ms, end_ms)


def read_page(request: pb.ListLinksRequest) -> Page:
    """A page of links."""
    if request.page_size > MAX_PAGE_LINKS:
        raise InvalidRequestError(Violation("page_size", f"is {request.page_size}, at most {MAX_PAGE_LINKS}"))
    _check_texts(("prefix", request.prefix, False), ("region", request.region, False))
    after = _read_token(request.page_token) if request.page_token else ""
    return Page(request.prefix, request.region, after, request.page_size or DEFAULT_PAGE_LINKS)


def page_token(last_link_id: str) -> str:
    """The token of the page that follows a link."""
    return base64.urlsafe_b64encode(last_link_id.encode()).decode()


def _read_token(token: str) -> str:
    try:
        link_id = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        link_id = ""
    if text_fault(link_id, required=True) or page_token(link_id) != token:
        raise InvalidRequestError(Violation("page_token", "is none that this service gave out"))
    return link_id


def _check_texts(*texts: tuple[str, str, bool]) -> None:
    """Raises `InvalidRequestError` for every (field, text, required) that is no allowed text."""
    faults = [
        Violation(field, fault[1]) for field, text, required in texts if (fault := text_fault(text, required=required))
    ]
    if faults:
        raise InvalidRequestError(*faults)
