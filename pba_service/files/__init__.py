"""Measurements in files: CSV, JSONL (both also gzipped) and parquet, read in chunks; JSONL written.

Columns may be named in several ways, in any order; others are ignored:

    timestamp, time, ts, measured_at     seconds, milliseconds, micro- or nanoseconds since 1970, told apart by their
                                         size (2000 to 2099; others are refused), or ISO 8601 with a time zone
    measured_at_ms, timestamp_ms         milliseconds since 1970
    link_id, link                        the link; with a column dataset or collection before it: dataset/link_id
    bandwidth_mbps, bandwidth            Mbit/s
    latency_ms, latency, rtt_ms          milliseconds
    packet_loss_ratio, packet_loss, loss_ratio    0 to 1
    jitter_ms, jitter                    milliseconds
    node, peer, region                   what a link says of itself

Texts are taken as they are, spaces at their ends included; those around a cell of CSV are left out.

An empty, null or NaN value was not measured.
"""

from pba_service.files.faults import FirstFault, MeasurementFileError, RowFault
from pba_service.files.reading import LinkMeasurements, read_batches, read_links
from pba_service.files.writing import JsonlWriter, replacing

__all__ = [
    "FirstFault",
    "JsonlWriter",
    "LinkMeasurements",
    "MeasurementFileError",
    "RowFault",
    "read_batches",
    "read_links",
    "replacing",
]
