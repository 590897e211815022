"""Too many entries are found in the bytes; whatever else the bytes are is left to the parser."""

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.errors import InvalidRequestError
from pba_service.serving.batches import MAX_SAMPLES
from pba_service.serving.scan import CHECKS, MAX_FIELDS, check_batch, check_predict

MORE = MAX_SAMPLES + 1
SAMPLE = types.Sample(link_id="a", bandwidth_mbps=1, node="n" * 200)


def refused(check, message):
    with pytest.raises(InvalidRequestError) as error:
        check(message if isinstance(message, bytes) else message.SerializeToString())
    return [violation.field for violation in error.value.violations]


def test_rows():
    check_batch(pb.PushSamplesRequest(sequence=2**64 - 1, samples=[SAMPLE] * MAX_SAMPLES).SerializeToString())
    assert refused(check_batch, pb.PushSamplesRequest(sequence=1, samples=[SAMPLE] * MORE)) == ["samples"]


def test_links_of_columns():
    numbers = {"link_index": [2**32 - 1] * MORE, "measured_at_ms": [1] * MORE, "latency_ms": [1] * MORE}
    links = [types.LinkRef(link_id="a")] * MORE
    columns = types.SampleColumns(links=links[1:], present=b"\x0f" * MORE, **numbers)
    check_batch(pb.PushSamplesRequest(columns=columns).SerializeToString())
    many = pb.PushSamplesRequest(sequence=1, columns=types.SampleColumns(links=links, **numbers))
    assert refused(check_batch, many) == ["columns.links"]


def test_a_window():
    check_predict(pb.PredictRequest(link_id="a", window=[SAMPLE] * MAX_SAMPLES).SerializeToString())
    assert refused(check_predict, pb.PredictRequest(link_id="a", window=[SAMPLE] * MORE)) == ["window"]


def test_millions_of_empty_samples():
    assert refused(check_batch, b"\x12\x00" * 4_000_000) == ["samples"]


def test_entries_behind_fields_that_are_not_known():
    unknown = b"\x78\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + b"\x7a\x02\x12\x00"
    assert refused(check_batch, unknown + b"\x12\x00" * MORE) == ["samples"]
    check_batch(unknown * MAX_SAMPLES)


def test_entries_behind_groups_that_are_not_known():
    """A form of fields of old that parsers still read over."""
    group = b"\x7b\x78\x01\x7c"
    assert len(pb.PushSamplesRequest.FromString(group + b"\x12\x00" * MORE).samples) == MORE
    assert refused(check_batch, group + b"\x12\x00" * MORE) == ["samples"]
    assert refused(check_predict, group + b"\x12\x00" * MORE) == ["window"]
    inner = group + b"\x0a\x00" * MORE
    assert refused(check_batch, b"\x1a" + length_of(inner) + inner) == ["columns.links"]
    check_batch(group * 10 + b"\x12\x00" * MAX_SAMPLES)


def test_links_of_columns_that_are_given_in_parts():
    part = pb.PushSamplesRequest(columns=types.SampleColumns(links=[types.LinkRef(link_id="a")])).SerializeToString()
    check_batch(part * MAX_SAMPLES)
    assert refused(check_batch, part * MORE) == ["columns.links"]


def test_columns_that_are_not_packed_are_allowed():
    """Each number then has a key of its own: 2 bytes for an index below 128."""
    inner = b"\x10\x01" * MAX_SAMPLES + (b"\x19" + bytes(8)) * MAX_SAMPLES + (b"\x25" + bytes(4)) * 4 * MAX_SAMPLES
    data = b"\x1a" + length_of(inner) + inner
    assert len(pb.PushSamplesRequest.FromString(data).columns.measured_at_ms) == MAX_SAMPLES
    check_batch(data)


def test_any_field_given_too_often_is_refused():
    assert refused(check_batch, b"\x7a\x00" * (MAX_FIELDS + 1)) == ["request"]
    assert refused(check_predict, b"\x7a\x00" * (MAX_FIELDS + 1)) == ["request"]
    inner = b"\x10\x01" * (MAX_FIELDS + 1)
    assert refused(check_batch, b"\x1a" + length_of(inner) + inner) == ["request"]


def length_of(data):
    """The length as a number of three bytes."""
    size = len(data)
    return bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])


def repeated_messages(descriptor, seen=()):
    """Whether a message may hold any number of messages, directly or further in."""
    inner = [field for field in descriptor.fields if field.message_type and field.message_type not in seen]
    return any(field.is_repeated or repeated_messages(field.message_type, (*seen, descriptor)) for field in inner)


def test_every_method_that_needs_a_check_has_one():
    service = pb.DESCRIPTOR.services_by_name["PredictionService"]
    needing = {f"/{service.full_name}/{m.name}" for m in service.methods if repeated_messages(m.input_type)}
    assert set(CHECKS) == needing


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_the_scan_ends(data):
    check_batch(data)
    check_predict(data)


@pytest.mark.parametrize("garbage", [b"\x81", b"\x12", b"\x0a\x01", b"\xff\xff\xff\xff\x7f"])
def test_a_megabyte_of_garbage_ends_soon(garbage):
    """Soon in steps: a number without an end must not be collected to its end."""
    data = garbage * (1_000_000 // len(garbage))
    steps = 0

    def count(_frame, event, _argument):
        nonlocal steps
        steps += event == "call"

    sys.setprofile(count)
    try:
        for check in (check_batch, check_predict):
            with contextlib.suppress(InvalidRequestError):
                check(data)
    finally:
        sys.setprofile(None)
    assert steps < 12 * MAX_FIELDS
