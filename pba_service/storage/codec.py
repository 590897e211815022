"""Samples, predictions and ledger entries as bytes.

Rows of samples and of the ledger have a fixed width and are read back as numpy arrays without touching each one. Their
format is fixed by the layout version in the link's counters; predictions carry their own version in the first byte.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.drift import Condition, ConditionKind
from pba_service.domain.forecast import QUANTILES, LedgerEntry, Prediction, Source
from pba_service.domain.samples import METRICS, Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import SampleBatch

BUCKET_MS = 4 * 3_600_000
"""The time that one key of samples spans: 240 samples at a cadence of 60 s."""

DAY_MS = 86_400_000
"""The time that one key of ledger rows spans."""

_VALUES = ("values", "<f4", (len(METRICS),))
SAMPLE_ROW = np.dtype([("offset_ms", "<u4"), _VALUES])
"""A stored sample: 20 bytes; NaN where a metric was not measured."""

SAMPLE_WIRE = np.dtype([("bucket", "<u4"), ("offset_ms", "<u4"), _VALUES])
"""A sample on its way to the script that stores it."""

LEDGER_ROW = np.dtype(
    [
        ("offset_ms", "<u4"),
        ("horizon_ms", "<u4"),
        ("late_ms", "<i4"),
        ("predicted", "<f4", (len(METRICS),)),
        ("actual", "<f4", (len(METRICS),)),
        ("confidence", "<f4"),
        ("model", "<u4"),
    ]
)
"""A stored ledger entry: 52 bytes. `horizon_ms` is target - made_at, `late_ms` measured_at - target."""

_PREDICTION_VERSION, _WITH_CONDITION = 1, 2
_PREDICTION_HEAD = struct.Struct("<BBHHfqqq")
_FLOATS = len(METRICS) * (1 + len(QUANTILES))
_PREDICTION_FIXED_BYTES = _PREDICTION_HEAD.size + 4 * _FLOATS


class StoredDataError(ValueError):
    """Bytes in the store are not what this code writes. Treated as absent, and logged."""


def encode_values(batch: SampleBatch) -> NDArray[np.float32]:
    """The values of a batch in the one form in which equal values have equal bytes: one NaN, no negative zero."""
    canonical: NDArray[np.float32] = np.where(batch.present, batch.values + np.float32(0), np.float32(np.nan))
    return canonical


def encode_samples(times_ms: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.void]:
    """`SAMPLE_WIRE` rows of canonical values; times must be >= 0."""
    rows = np.empty(len(times_ms), SAMPLE_WIRE)
    rows["bucket"], rows["offset_ms"] = np.divmod(times_ms, BUCKET_MS)
    rows["values"] = values
    return rows


def decode_samples(buckets: Sequence[tuple[int, bytes]]) -> Series:
    """The samples of some buckets, given in order of time.

    Raises:
        StoredDataError: A bucket is no whole number of rows, or its rows are not in order.
    """
    if not buckets:
        return Series.empty()
    counts = [_row_count(blob, SAMPLE_ROW) for _, blob in buckets]
    rows = np.frombuffer(b"".join([blob for _, blob in buckets]), SAMPLE_ROW)
    times = rows["offset_ms"].astype(np.int64)
    times += np.repeat(np.array([bucket for bucket, _ in buckets]) * BUCKET_MS, counts)
    if not (times[1:] > times[:-1]).all():
        raise StoredDataError("samples are not in order of time")
    return Series(times, rows["values"].astype(np.float32))


def encode_prediction(prediction: Prediction) -> bytes:
    """A prediction as bytes: about 170 of them."""
    link_id, model = prediction.link_id.encode(), prediction.model_version.encode()
    condition = _encode_condition(prediction.condition) if prediction.condition else b""
    head = _PREDICTION_HEAD.pack(
        _WITH_CONDITION if condition else _PREDICTION_VERSION,
        prediction.source.value,
        len(link_id),
        len(model),
        prediction.confidence,
        prediction.made_at_ms,
        prediction.step_ms,
        prediction.target_ms,
    )
    values, quantiles = prediction.values.astype("<f4", copy=False), prediction.quantiles.astype("<f4", copy=False)
    return b"".join((head, values.tobytes(), quantiles.tobytes(), link_id, model, condition))


def decode_prediction(blob: bytes) -> Prediction:
    """The prediction that `encode_prediction` was given.

    Raises:
        StoredDataError: The bytes are none of its results.
    """
    try:
        version, source, link_bytes, model_bytes, confidence, made_at, step, target = _PREDICTION_HEAD.unpack_from(blob)
        floats = np.frombuffer(blob, "<f4", _FLOATS, _PREDICTION_HEAD.size).astype(np.float32, copy=False)
        end = len(blob) - (_CONDITION.size if version == _WITH_CONDITION else 0)
        texts = blob[_PREDICTION_FIXED_BYTES:end]
        prediction = Prediction(
            link_id=texts[:link_bytes].decode(),
            made_at_ms=made_at,
            step_ms=step,
            target_ms=target,
            values=floats[: len(METRICS)],
            quantiles=floats[len(METRICS) :].reshape(len(METRICS), len(QUANTILES)),
            confidence=confidence,
            model_version=texts[link_bytes:].decode(),
            source=Source(source),
            condition=_decode_condition(blob[end:]) if version == _WITH_CONDITION else None,
        )
    except (struct.error, ValueError) as error:
        raise StoredDataError(f"no prediction: {error}") from error
    if version not in {_PREDICTION_VERSION, _WITH_CONDITION} or len(texts) != link_bytes + model_bytes:
        raise StoredDataError(f"no prediction of version {_PREDICTION_VERSION}")
    return prediction


_CONDITION = struct.Struct("<BqfB")


def _encode_condition(condition: Condition) -> bytes:
    shown = sum(1 << METRICS.index(name) for name in condition.metrics)
    return _CONDITION.pack(condition.kind, condition.since_ms, condition.strength, shown)


def _decode_condition(blob: bytes) -> Condition:
    kind, since_ms, strength, shown = _CONDITION.unpack(blob)
    metrics = tuple(name for metric, name in enumerate(METRICS) if shown >> metric & 1)
    return Condition(ConditionKind(kind), since_ms, strength, metrics)


def encode_ledger_entry(entry: LedgerEntry) -> tuple[int, bytes]:
    """The day of the entry's target, and its `LEDGER_ROW` with the number of the model version left 0.

    Raises:
        ValueError: The prediction looks 49 days or more ahead, or the sample is 24 days or more off its target.
    """
    day, offset = divmod(entry.target_ms, DAY_MS)
    try:
        row = _LEDGER_ROW.pack(
            offset,
            entry.target_ms - entry.made_at_ms,
            entry.measured_at_ms - entry.target_ms,
            *entry.predicted.tolist(),
            *entry.actual.tolist(),
            entry.confidence,
            0,
        )
    except struct.error as error:
        raise ValueError(f"a ledger entry cannot be stored: {error}") from error
    return day, row


_LEDGER_ROW = struct.Struct("<IIi9fI")


def decode_ledger(day: int, blob: bytes, versions: Mapping[int, str]) -> list[LedgerEntry]:
    """The entries of one day.

    Args:
        day: Days since the epoch.
        blob: Its rows.
        versions: The model version that each number stands for; one that is missing becomes the empty text.

    Raises:
        StoredDataError: The bytes are no whole number of rows, or the rows are not in order.
    """
    rows = _rows(blob, LEDGER_ROW)
    offsets = rows["offset_ms"].astype(np.int64)
    if not (offsets[1:] > offsets[:-1]).all():
        raise StoredDataError("ledger entries are not in order of time")
    targets = day * DAY_MS + offsets
    made_at = (targets - rows["horizon_ms"]).tolist()
    measured_at = (targets + rows["late_ms"]).tolist()
    predicted, actual = rows["predicted"].astype(np.float32), rows["actual"].astype(np.float32)
    confidence, model = rows["confidence"].tolist(), rows["model"].tolist()
    return [
        LedgerEntry(
            made_at_ms=made_at[i],
            target_ms=target,
            measured_at_ms=measured_at[i],
            predicted=predicted[i],
            actual=actual[i],
            confidence=confidence[i],
            model_version=versions.get(model[i], ""),
        )
        for i, target in enumerate(targets.tolist())
    ]


def _rows(blob: bytes, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    _row_count(blob, dtype)
    return np.frombuffer(blob, dtype)


def _row_count(blob: bytes, dtype: np.dtype[np.void]) -> int:
    count, rest = divmod(len(blob), dtype.itemsize)
    if rest:
        raise StoredDataError(f"{len(blob)} bytes are no whole number of rows of {dtype.itemsize}")
    return count
