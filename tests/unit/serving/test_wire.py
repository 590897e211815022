"""What is written by hand is, byte for byte, what protobuf writes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.drift import Condition, ConditionKind
from pba_service.domain.forecast import Prediction, Source
from pba_service.domain.samples import METRICS
from pba_service.serving import wire

MOMENTS = st.integers(0, 253_402_300_799_999)
FLOATS = st.one_of(st.floats(width=32), st.sampled_from([math.nan, 0.0, -0.0, math.inf, -math.inf, 1e-45]))
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(ConditionKind),
    MOMENTS,
    st.floats(1, 1000, width=32),
    st.lists(st.sampled_from(METRICS), unique=True).map(tuple),
)
PREDICTIONS = st.builds(
    Prediction,
    link_id=st.text(max_size=140),
    made_at_ms=MOMENTS,
    step_ms=st.integers(0, 86_400_000),
    target_ms=MOMENTS,
    values=st.lists(FLOATS, min_size=4, max_size=4).map(np.float32),
    quantiles=st.lists(FLOATS, min_size=20, max_size=20).map(lambda row: np.float32(row).reshape(4, 5)),
    confidence=st.floats(0, 1, width=32).map(abs),
    model_version=st.text(max_size=140),
    source=st.sampled_from(Source),
    stale_since_ms=st.none() | MOMENTS,
    condition=st.none() | CONDITIONS,
)


def of(message, time_ms):
    message.seconds, millis = divmod(time_ms, 1000)
    message.nanos = millis * 1_000_000


def fill(message, fields, values):
    for field, value in zip(fields, values.tolist(), strict=True):
        if math.isfinite(value):
            setattr(message, field, value)


def message_of(said):
    message = types.Prediction(
        link_id=said.link_id,
        confidence=said.confidence,
        model_version=said.model_version,
        source=f"PREDICTION_SOURCE_{said.source.name}",
    )
    of(message.made_at, said.made_at_ms)
    of(message.horizon, said.target_ms - said.made_at_ms)
    of(message.valid_until, said.target_ms)
    of(message.cadence, said.step_ms)
    fill(message, METRICS, said.values)
    for field, row in zip(wire.QUANTILE_FIELDS, said.quantiles, strict=True):
        fill(getattr(message, field), wire.LEVEL_FIELDS, row)
    if said.stale_since_ms is not None:
        of(message.stale_since, said.stale_since_ms)
    if said.condition:
        message.condition.kind = f"LINK_CONDITION_KIND_{said.condition.kind.name}"
        message.condition.strength = said.condition.strength
        message.condition.metrics.extend(said.condition.metrics)
        of(message.condition.since, said.condition.since_ms)
    return message


@given(PREDICTIONS)
def test_a_prediction_is_as_protobuf_writes_it(said):
    assert wire.prediction(said) == message_of(said).SerializeToString(deterministic=True)


@given(PREDICTIONS)
def test_an_answer_is_as_protobuf_writes_it(said):
    answer = pb.PredictResponse(prediction=message_of(said))
    assert wire.predict_response(said) == answer.SerializeToString(deterministic=True)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers(number):
    written = pb.PushSamplesRequest(sequence=number % 2**64).SerializeToString()
    tag = wire.varint(pb.PushSamplesRequest.DESCRIPTOR.fields_by_name["sequence"].number << 3)
    assert written == (tag + wire.varint(number) if number else b"")


def test_a_text_that_utf_8_cannot_say_is_refused():
    said = Prediction("\ud800", 0, 1, 2, np.zeros(4), np.zeros((4, 5)), 0.5, "v", Source.COMBINED)
    with pytest.raises(UnicodeEncodeError):
        wire.prediction(said)
