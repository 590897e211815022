"""From the frozen types and arguments to the requests of pba.v1; `wire` is the other way."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pba.v1 import prediction_service_pb2, types_pb2

from pba_client import types
from pba_client.wire import duration, epoch_ms, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from pba_client.advice import BandwidthKind, CongestionControl

MAX_BATCH = 10_000
"""Samples that one request may carry."""

_COLUMNS_FROM = 16
"""Batches of this many samples travel as columns: the service reads those far faster, and they are smaller."""

_METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")


def sample_message(sample: types.Sample) -> types_pb2.Sample:
    """A sample as a row."""
    return types_pb2.Sample(
        link_id=sample.link_id,
        measured_at=timestamp(sample.measured_at),
        bandwidth_mbps=sample.bandwidth_mbps,
        latency_ms=sample.latency_ms,
        packet_loss_ratio=sample.packet_loss_ratio,
        jitter_ms=sample.jitter_ms,
        node=sample.node,
        peer=sample.peer,
        region=sample.region,
        sources=_sources(sample) if sample.sources else None,
    )


def _sources(sample: types.Sample) -> types_pb2.ValueSources:
    said = types_pb2.ValueSources()
    for name, source in zip(("bandwidth", "latency", "packet_loss", "jitter"), sample.sources, strict=True):
        setattr(said, name, source.value)
    return said


def push_requests(samples: Sequence[types.Sample]) -> Iterator[prediction_service_pb2.PushSamplesRequest]:
    """Samples as requests of at most `MAX_BATCH`, in order."""
    for start in range(0, len(samples), MAX_BATCH):
        batch = samples[start : start + MAX_BATCH]
        columns = _as_columns(batch) if len(batch) >= _COLUMNS_FROM else None
        if columns is None:
            yield prediction_service_pb2.PushSamplesRequest(samples=map(sample_message, batch))
        else:
            yield prediction_service_pb2.PushSamplesRequest(columns=columns)


def _as_columns(batch: Sequence[types.Sample]) -> types_pb2.SampleColumns | None:
    """Samples as columns; None when two samples of a link say different things of it, which only rows can carry."""
    links: dict[str, tuple[int, types.Sample]] = {}
    columns = types_pb2.SampleColumns()
    present = bytearray(len(batch))
    for one in batch:
        index, first = links.setdefault(one.link_id, (len(links), one))
        if (one.node, one.peer, one.region) != (first.node, first.peer, first.region):
            return None
        columns.link_index.append(index)
        columns.measured_at_ms.append(epoch_ms(one.measured_at))
    for _, first in links.values():
        columns.links.add(link_id=first.link_id, node=first.node, peer=first.peer, region=first.region)
    for bit, name in enumerate(_METRICS):
        values = [getattr(one, name) for one in batch]
        if any(value is not None for value in values):
            getattr(columns, name).extend(0.0 if value is None else value for value in values)
        for position, value in enumerate(values):
            present[position] |= (value is not None) << bit
    columns.present = bytes(present)
    if any(one.sources for one in batch):
        columns.sources = b"".join(bytes(way.value for way in one.sources) or bytes(4) for one in batch)
    return columns


def column_requests(columns: types.Columns) -> Iterator[prediction_service_pb2.PushSamplesRequest]:
    """Columns as requests of at most `MAX_BATCH` samples, in order."""
    links = [
        types_pb2.LinkRef(link_id=one.link_id, node=one.node, peer=one.peer, region=one.region) for one in columns.links
    ]
    for start in range(0, len(columns), MAX_BATCH):
        part = slice(start, start + MAX_BATCH)
        named, index = _named_by(links, _plain(columns.link_index[part]))
        yield prediction_service_pb2.PushSamplesRequest(
            columns=types_pb2.SampleColumns(
                links=named,
                link_index=index,
                measured_at_ms=_plain(columns.measured_at_ms[part]),
                bandwidth_mbps=_plain(columns.bandwidth_mbps[part]),
                latency_ms=_plain(columns.latency_ms[part]),
                packet_loss_ratio=_plain(columns.packet_loss_ratio[part]),
                jitter_ms=_plain(columns.jitter_ms[part]),
                present=columns.present[part],
                sources=columns.sources[4 * part.start : 4 * part.stop],
            )
        )


def _named_by(
    links: Sequence[types_pb2.LinkRef], index: Iterable[int]
) -> tuple[Sequence[types_pb2.LinkRef], Iterable[int]]:
    """The links that some samples name and where these are among them; all links, where a request may name so many."""
    if len(links) <= MAX_BATCH:
        return links, index
    places: dict[int, int] = {}
    found = [places.setdefault(one, len(places)) for one in index]
    if not all(0 <= one < len(links) for one in places):
        raise ValueError(f"link_index names a link that is none of the {len(links)}")
    return [links[one] for one in places], found


NumberT = TypeVar("NumberT", int, float)


def _plain(column: Sequence[NumberT]) -> Iterable[NumberT]:
    """The column as Python numbers: numpy's own are ten times slower to put into a message."""
    return column.tolist() if hasattr(column, "tolist") else column


def sample_list(samples: types.Sample | Iterable[types.Sample]) -> Sequence[types.Sample]:
    """One sample or several as a list."""
    if isinstance(samples, types.Sample):
        return [samples]
    return samples if isinstance(samples, list | tuple) else list(samples)


def one_request(
    samples: types.Sample | Iterable[types.Sample] | types.Columns,
) -> prediction_service_pb2.PushSamplesRequest:
    """Samples as one request.

    Raises:
        ValueError: They are none, or too many for one.
    """
    if isinstance(samples, types.Columns):
        requests = list(column_requests(samples))
    else:
        requests = list(push_requests(sample_list(samples)))
    if len(requests) != 1:
        raise ValueError(f"a batch has 1 to {MAX_BATCH} samples")
    return requests[0]


def window(link_id: str, samples: Iterable[types.Sample]) -> prediction_service_pb2.PredictRequest:
    """Asks for a prediction from the caller's own samples."""
    return prediction_service_pb2.PredictRequest(link_id=link_id, window=map(sample_message, samples))


def parameters(
    link_id: str,
    *,
    current_streams: int | None,
    congestion_control: CongestionControl,
    max_streams: int | None,
    max_buffer_bytes: int | None,
    memory_budget_bytes: int | None,
    current_buffer_bytes: int | None,
    current_pacing_mbps: float | None,
    receive_buffer_bytes: int | None,
    bandwidth_kind: BandwidthKind,
    loss_probes: int | None,
    base_latency_ms: float | None,
) -> prediction_service_pb2.GetOptimalParametersRequest:
    """Asks for transport parameters."""
    return prediction_service_pb2.GetOptimalParametersRequest(
        link_id=link_id,
        current_streams=current_streams,
        congestion_control=types_pb2.CongestionControl.ValueType(congestion_control.value),
        max_streams=max_streams,
        max_buffer_bytes=max_buffer_bytes,
        memory_budget_bytes=memory_budget_bytes,
        current_buffer_bytes=current_buffer_bytes,
        current_pacing_mbps=current_pacing_mbps,
        receive_buffer_bytes=receive_buffer_bytes,
        bandwidth_kind=prediction_service_pb2.BandwidthKind.ValueType(bandwidth_kind.value),
        loss_probes=loss_probes,
        base_latency_ms=base_latency_ms,
    )


def watch(
    link_ids: Iterable[str], *, prefix: str, region: str, all_links: bool, min_interval: timedelta | None
) -> prediction_service_pb2.StreamPredictionsRequest:
    """Asks to follow predictions."""
    return prediction_service_pb2.StreamPredictionsRequest(
        selector=prediction_service_pb2.LinkSelector(link_ids=link_ids, prefix=prefix, region=region, all=all_links),
        min_interval=None if min_interval is None else duration(min_interval),
    )


def history(link_id: str, start: datetime | None, end: datetime | None) -> prediction_service_pb2.GetHistoryRequest:
    """Asks for stored samples."""
    return prediction_service_pb2.GetHistoryRequest(
        link_id=link_id,
        start=None if start is None else timestamp(start),
        end=None if end is None else timestamp(end),
    )


def ledger(link_id: str, start: datetime | None, end: datetime | None) -> prediction_service_pb2.GetLedgerRequest:
    """Asks for ledger entries."""
    return prediction_service_pb2.GetLedgerRequest(
        link_id=link_id,
        start=None if start is None else timestamp(start),
        end=None if end is None else timestamp(end),
    )


def links(prefix: str, region: str, page_size: int, page_token: str) -> prediction_service_pb2.ListLinksRequest:
    """Asks for a page of links."""
    return prediction_service_pb2.ListLinksRequest(
        page_size=page_size, page_token=page_token, prefix=prefix, region=region
    )
