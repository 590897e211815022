"""A prediction as protobuf's bytes, written by hand: every prediction is serialised once, however many receive it.

Setting two dozen fields of a message and serialising it takes several times as long. `convert.prediction` reads these
bytes, so there is one way from a prediction to the wire; tests hold them against protobuf's own.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.drift import ConditionKind
from pba_service.domain.forecast import Source
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from pba_service.domain.drift import Condition
    from pba_service.domain.forecast import Prediction

# The domain's enums are named as the contract's values, whatever the numbers.
_SOURCES = {source: types.PredictionSource.Value(f"PREDICTION_SOURCE_{source.name}") for source in Source}
_CONDITION_KINDS = {kind: types.LinkConditionKind.Value(f"LINK_CONDITION_KIND_{kind.name}") for kind in ConditionKind}

QUANTILE_FIELDS = ("bandwidth_quantiles", "latency_quantiles", "packet_loss_quantiles", "jitter_quantiles")
LEVEL_FIELDS = ("p05", "p10", "p50", "p90", "p95")
"""Fields of a prediction and of quantiles, in the order of the domain's arrays."""

_VARINT, _LENGTH, _FLOAT = 0, 2, 5
_UINT64 = 2**64 - 1
_CONTINUES, _SEVEN_BITS = 0x80, 0x7F


def varint(number: int) -> bytes:
    """An integer as protobuf writes it; negative ones as if of 64 bits without sign."""
    number &= _UINT64
    written = bytearray()
    while number > _SEVEN_BITS:
        written.append(number & _SEVEN_BITS | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


def _tags(wire_type: int, fields: tuple[str, ...], message: type[Message]) -> list[bytes]:
    numbers = message.DESCRIPTOR.fields_by_name
    return [varint(numbers[field].number << 3 | wire_type) for field in fields]


_LINK, _MADE_AT, _HORIZON, _VALID_UNTIL, _MODEL, _CADENCE, _STALE_SINCE, _CONDITION = _tags(
    _LENGTH,
    ("link_id", "made_at", "horizon", "valid_until", "model_version", "cadence", "stale_since", "condition"),
    types.Prediction,
)
_OF_METRIC = _tags(_FLOAT, METRICS, types.Prediction)
_OF_QUANTILES = _tags(_LENGTH, QUANTILE_FIELDS, types.Prediction)
_OF_LEVEL = _tags(_FLOAT, LEVEL_FIELDS, types.Quantiles)
[_CONFIDENCE] = _tags(_FLOAT, ("confidence",), types.Prediction)
[_SOURCE] = _tags(_VARINT, ("source",), types.Prediction)
_OF_SOURCE = {source: _SOURCE + varint(number) for source, number in _SOURCES.items()}

[_ANSWER] = _tags(_LENGTH, ("prediction",), pb.PredictResponse)

_float = struct.Struct("<f").pack
_FLOAT_BYTES = 1 + 4
_LEVELS_BYTES = varint(_FLOAT_BYTES * len(LEVEL_FIELDS))


def _before_each() -> list[bytes]:
    """What stands before each float of a prediction that lacks none: its tag, after what its quantiles begin with."""
    before = list(_OF_METRIC)
    for tag in _OF_QUANTILES:
        before += (tag + _LEVELS_BYTES + _OF_LEVEL[0], *_OF_LEVEL[1:])
    return before


_BEFORE = _before_each()
_floats = struct.Struct("<" + "".join(f"{len(tag)}sf" for tag in _BEFORE)).pack


def prediction(forecast: Prediction) -> bytes:
    """A serialised `pba.v1.Prediction`, its fields in the order of their numbers."""
    link_id = forecast.link_id.encode()
    parts = [_LINK, varint(len(link_id)), link_id] if link_id else []
    parts += (
        _MADE_AT,
        _time(forecast.made_at_ms),
        _HORIZON,
        _time(forecast.horizon_ms),
        _VALID_UNTIL,
        _time(forecast.target_ms),
    )
    values = forecast.values.tolist() + forecast.quantiles.ravel().tolist()
    if math.isfinite(sum(values)):
        every: list[bytes | float] = [b""] * (2 * len(values))
        every[::2], every[1::2] = _BEFORE, values
        parts.append(_floats(*every))
    else:
        parts.append(_some(_OF_METRIC, values))
        levels = iter(values[len(METRICS) :])
        for tag, of_metric in zip(_OF_QUANTILES, zip(*[levels] * len(LEVEL_FIELDS), strict=True), strict=True):
            if written := _some(_OF_LEVEL, of_metric):
                parts += (tag, varint(len(written)), written)
    if forecast.confidence:
        parts += (_CONFIDENCE, _float(forecast.confidence))
    if forecast.model_version:
        parts.append(_model(forecast.model_version))
    parts += (_OF_SOURCE[forecast.source], _CADENCE, _time(forecast.step_ms))
    if forecast.stale_since_ms is not None:
        parts += (_STALE_SINCE, _time(forecast.stale_since_ms))
    if forecast.condition is not None:
        told = _condition(forecast.condition)
        parts += (_CONDITION, varint(len(told)), told)
    return b"".join(parts)


def _some(tags: list[bytes], values: Sequence[float]) -> bytes:
    """Those of the first floats, one for each tag, that are finite."""
    return b"".join([tag + _float(value) for tag, value in zip(tags, values, strict=False) if math.isfinite(value)])


@lru_cache(maxsize=8192)
def _time(time_ms: int) -> bytes:
    """The length and content of a Timestamp or a Duration: links that measure on the minute share many of them."""
    seconds, millis = divmod(time_ms, 1000)
    written = (b"\x08" + varint(seconds) if seconds else b"") + (
        b"\x10" + varint(millis * 1_000_000) if millis else b""
    )
    return varint(len(written)) + written


@lru_cache(maxsize=64)
def _model(version: str) -> bytes:
    text = version.encode()
    return _MODEL + varint(len(text)) + text


def set_ms(message: Timestamp | Duration, time_ms: int) -> None:
    """Sets a time or a span."""
    message.seconds, millis = divmod(time_ms, 1000)
    message.nanos = millis * 1_000_000


def _condition(told: Condition) -> bytes:
    message = types.LinkCondition(kind=_CONDITION_KINDS[told.kind], strength=told.strength, metrics=told.metrics)
    set_ms(message.since, told.since_ms)
    return message.SerializeToString()


def predict_response(forecast: Prediction) -> bytes:
    """A serialised `PredictResponse` with this prediction and nothing else."""
    written = prediction(forecast)
    return _ANSWER + varint(len(written)) + written
