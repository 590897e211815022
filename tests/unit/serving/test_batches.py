"""Rows and columns become the same batch; what cannot be read is refused by field; nothing hostile gets through."""

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

import pba_client
from pba_service.domain.errors import InvalidRequestError
from pba_service.domain.samples import METRICS, LinkInfo, Reason, ValueSource
from pba_service.engine.api import PushOutcome
from pba_service.serving.batches import MAX_SAMPLES, read_batch
from pba_service.serving.convert import push_response, timestamp

T_MS = 1_800_000_000_000
INT64 = 2**63


def row(link_id="a", time_ms=T_MS, *, node="", peer="", region="", **metrics):
    metrics = metrics or {"bandwidth_mbps": 5.0}
    return types.Sample(link_id=link_id, measured_at=timestamp(time_ms), node=node, peer=peer, region=region, **metrics)


def rows(*samples):
    return read_batch(pb.PushSamplesRequest(samples=samples))


def columns(**fields):
    given_fields = {"links": [types.LinkRef(link_id="a")], "link_index": [0], "measured_at_ms": [T_MS], **fields}
    return read_batch(pb.PushSamplesRequest(columns=types.SampleColumns(**given_fields)))


def faults_of(error):
    return {violation.field: violation.description for violation in error.value.violations}


def refused(incoming):
    return {refusal.index: (refusal.field, refusal.reason) for refusal in incoming.refusals}


def test_rows():
    incoming = rows(
        row("a", T_MS, bandwidth_mbps=5, jitter_ms=0),
        row("b", T_MS + 1, latency_ms=7, packet_loss_ratio=0.5, node="n", peer="p", region="r"),
        row("a", T_MS + 2),
    )
    batch = incoming.batch
    assert batch.links == (LinkInfo("a"), LinkInfo("b", "n", "p", "r"))
    assert batch.link_index.tolist() == [0, 1, 0]
    assert batch.measured_at_ms.tolist() == [T_MS, T_MS + 1, T_MS + 2]
    nan = np.nan
    np.testing.assert_array_equal(batch.values, [[5, nan, nan, 0], [nan, 7, 0.5, nan], [5, nan, nan, nan]])
    np.testing.assert_array_equal(batch.present, np.isfinite(batch.values))
    assert (incoming.places.tolist(), incoming.refusals, len(incoming)) == ([0, 1, 2], [], 3)


def test_rows_and_columns_say_how_values_were_obtained():
    said = types.ValueSources(bandwidth=types.VALUE_SOURCE_PACKET_TRAIN, jitter=77)
    negative = types.ValueSources(latency=-1)
    batch = rows(row(), row("b", sources=said), row("c", sources=negative)).batch
    assert batch.sources.tolist() == [[0, 0, 0, 0], [4, 0, 0, 77], [0, 0, 0, 0]]
    assert columns(bandwidth_mbps=[1], sources=bytes([1, 2, 3, 200])).batch.sources.tolist() == [[1, 2, 3, 200]]
    assert rows(row()).batch.sources is None
    assert columns(bandwidth_mbps=[1]).batch.sources is None
    kept = rows(row(), types.Sample(link_id="late", sources=said), row("b", sources=said)).batch
    assert kept.sources.tolist() == [[0, 0, 0, 0], [4, 0, 0, 77]]


def test_columns_say_it_of_every_sample_or_of_none():
    with pytest.raises(InvalidRequestError) as error:
        columns(bandwidth_mbps=[1], sources=bytes(3))
    assert faults_of(error) == {"columns.sources": "has 3 bytes, 4 for each sample are 4"}


def test_the_ways_of_the_contract_are_those_of_the_domain_and_of_the_client():
    of_the_contract = {name.removeprefix("VALUE_SOURCE_"): number for name, number in types.ValueSource.items()}
    assert {one.name: one.value for one in ValueSource} == of_the_contract
    assert {one.name: one.value for one in pba_client.ValueSource} == of_the_contract


def test_types_are_the_domains():
    for batch in (rows(row()).batch, columns(bandwidth_mbps=[1]).batch):
        assert batch.link_index.dtype == np.int32
        assert batch.measured_at_ms.dtype == np.int64
        assert batch.values.dtype == np.float32
        assert batch.present.dtype == np.bool_
        assert batch.values.shape == batch.present.shape == (1, 4)


def test_a_value_that_is_sent_but_not_finite_is_present():
    """So that validation refuses it; it must not pass for a value that was not measured."""
    for batch in (rows(row(latency_ms=np.nan)).batch, columns(latency_ms=[np.nan]).batch):
        assert batch.present.tolist() == [[False, True, False, False]]


def test_times_are_rounded_down_to_milliseconds():
    sample = types.Sample(link_id="a", measured_at=Timestamp(seconds=-1, nanos=999_999_999), latency_ms=1)
    assert rows(sample).batch.measured_at_ms.tolist() == [-1]


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(INT64 - 1, 0), (-INT64, 0), (253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, 10**9), (0, 2**31 - 1)],
)
def test_times_outside_their_type_are_refused_and_overflow_nothing(seconds, nanos):
    hostile = types.Sample(link_id="a", measured_at=Timestamp(seconds=seconds, nanos=nanos), latency_ms=1)
    incoming = rows(row(), hostile)
    assert refused(incoming) == {1: ("measured_at", Reason.OUT_OF_RANGE)}
    assert incoming.batch.measured_at_ms.tolist() == [T_MS]


def test_a_missing_time_is_refused_and_the_epoch_is_not():
    at_epoch = types.Sample(link_id="a", measured_at=Timestamp(), latency_ms=1)
    incoming = rows(types.Sample(link_id="a", latency_ms=1), at_epoch)
    assert refused(incoming) == {0: ("measured_at", Reason.MISSING)}
    assert incoming.places.tolist() == [1]
    assert incoming.batch.measured_at_ms.tolist() == [0]


def test_refusals_are_told_by_their_place_in_the_request():
    no_time = types.Sample(link_id="a", latency_ms=1)
    incoming = rows(no_time, row(), no_time, row(), row())
    later = [type(incoming.refusals[0])(index, "latency_ms", Reason.EMPTY, "why") for index in (0, 2)]
    assert [refusal.index for refusal in incoming.all_refusals(later)] == [0, 1, 2, 4]
    answer = push_response(9, PushOutcome(1, 0, 0, later), incoming.all_refusals(later))
    assert (answer.refused, answer.stored, len(incoming)) == (4, 1, 5)
    assert [r.reason for r in answer.refusals] == [
        pb.REFUSAL_REASON_MISSING,
        pb.REFUSAL_REASON_EMPTY,
        pb.REFUSAL_REASON_MISSING,
        pb.REFUSAL_REASON_EMPTY,
    ]


def test_a_link_is_named_once_for_each_way_in_which_its_rows_name_it():
    incoming = rows(row("a", T_MS + 2, node="new"), row("b", T_MS), row("a", T_MS, node="new"), row("a", region="\n"))
    assert incoming.batch.links == (LinkInfo("a", "new"), LinkInfo("b"), LinkInfo("a", region="\n"))
    assert incoming.batch.link_index.tolist() == [0, 1, 0, 2]


def test_columns():
    incoming = columns(
        links=[types.LinkRef(link_id="a"), types.LinkRef(link_id="b", node="n", peer="p", region="r")],
        link_index=[1, 0],
        measured_at_ms=[T_MS, -5],
        bandwidth_mbps=[1, 2],
        jitter_ms=[3, 4],
        present=bytes([0b0001, 0b1000]),
    )
    batch = incoming.batch
    assert batch.links == (LinkInfo("a"), LinkInfo("b", "n", "p", "r"))
    assert batch.link_index.tolist() == [1, 0]
    assert batch.measured_at_ms.tolist() == [T_MS, -5]
    nan = np.nan
    np.testing.assert_array_equal(batch.values, [[1, nan, nan, nan], [nan, nan, nan, 4]])
    np.testing.assert_array_equal(batch.present, np.isfinite(batch.values))


def test_columns_without_a_mask_were_all_measured():
    batch = columns(latency_ms=[7]).batch
    assert batch.present.tolist() == [[False, True, False, False]]


def test_columns_may_hold_any_time_that_fits():
    extremes = [INT64 - 1, -INT64, 0]
    batch = columns(link_index=[0] * 3, measured_at_ms=extremes, latency_ms=[1] * 3).batch
    assert batch.measured_at_ms.tolist() == extremes


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"link_index": [], "measured_at_ms": []}, "columns.measured_at_ms", "is empty"),
        ({"links": []}, "columns.links", "is empty"),
        ({"link_index": []}, "columns.link_index", "has 0 entries, measured_at_ms has 1"),
        ({"link_index": [0, 0]}, "columns.link_index", "has 2 entries, measured_at_ms has 1"),
        ({"link_index": [1]}, "columns.link_index[0]", "is 1, links has 1 entries"),
        ({"link_index": [2**32 - 1]}, "columns.link_index[0]", "is 4294967295"),
        ({"packet_loss_ratio": [0.1, 0.2]}, "columns.packet_loss_ratio", "has 2 entries"),
        ({"present": b"\x01\x01"}, "columns.present", "has 2 entries"),
        ({"present": b"\x10", "latency_ms": [1]}, "columns.present[0]", "is 16"),
        ({"present": b"\x04", "latency_ms": [1]}, "columns.packet_loss_ratio", "bit 2"),
        ({"links": [types.LinkRef(link_id="a")] * 2}, "columns.links[1].link_id", "columns.links[0]"),
    ],
)
def test_malformed_columns(fields, field, text):
    with pytest.raises(InvalidRequestError) as error:
        columns(**fields)
    assert text in faults_of(error)[field]


def test_every_column_of_a_wrong_length_is_named():
    with pytest.raises(InvalidRequestError) as error:
        columns(latency_ms=[1, 2], jitter_ms=[1, 2, 3])
    assert set(faults_of(error)) == {"columns.latency_ms", "columns.jitter_ms"}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.PushSamplesRequest(), "samples"),
        (pb.PushSamplesRequest(columns=types.SampleColumns()), "columns.measured_at_ms"),
        (pb.PushSamplesRequest(samples=[row()], columns=types.SampleColumns()), "columns"),
        (pb.PushSamplesRequest(samples=[types.Sample()] * (MAX_SAMPLES + 1)), "samples"),
        (
            pb.PushSamplesRequest(columns=types.SampleColumns(measured_at_ms=[0] * (MAX_SAMPLES + 1))),
            "columns.measured_at_ms",
        ),
        (
            pb.PushSamplesRequest(
                columns=types.SampleColumns(measured_at_ms=[0], links=[types.LinkRef()] * (MAX_SAMPLES + 1))
            ),
            "columns.links",
        ),
    ],
    ids=["nothing", "empty columns", "both", "too many rows", "too many in columns", "too many links"],
)
def test_malformed_requests(request_, field):
    with pytest.raises(InvalidRequestError) as error:
        read_batch(request_)
    assert set(faults_of(error)) == {field}


def test_as_many_samples_as_allowed_are_read():
    assert len(rows(*[row()] * MAX_SAMPLES)) == MAX_SAMPLES


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("measured_at", "columns.measured_at_ms[1]"),
        ("latency_ms", "columns.latency_ms[1]"),
        ("link_id", "columns.links[2].link_id"),
        ("region", "columns.links[2].region"),
    ],
)
def test_violations_of_columns_name_the_column(field, expected):
    links = [types.LinkRef(link_id=name) for name in "abc"]
    request = pb.PushSamplesRequest(
        columns=types.SampleColumns(links=links, link_index=[0, 2], measured_at_ms=[1, 2], latency_ms=[1, 2])
    )
    violation = read_batch(request).violation(pb.RefusedSample(index=1, field=field, description="why"), request)
    assert (violation.field, violation.description) == (expected, "why")


def test_violations_of_rows_name_the_row():
    request = pb.PushSamplesRequest(samples=[row()])
    violation = read_batch(request).violation(pb.RefusedSample(index=0, field="latency_ms"), request)
    assert violation.field == "samples[0].latency_ms"


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(-62_135_596_800_000, 253_402_300_799_999),
            st.tuples(*[st.none() | finite] * 4),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rows_and_columns_say_the_same(samples):
    by_row = rows(
        *(
            types.Sample(
                link_id=link,
                measured_at=timestamp(time_ms),
                **{name: value for name, value in zip(METRICS, values, strict=True) if value is not None},
            )
            for link, time_ms, values in samples
        )
    ).batch
    names = list(dict.fromkeys(link for link, _, _ in samples))
    by_column = columns(
        links=[types.LinkRef(link_id=name) for name in names],
        link_index=[names.index(link) for link, _, _ in samples],
        measured_at_ms=[time_ms for _, time_ms, _ in samples],
        present=bytes(sum(1 << bit for bit in range(4) if values[bit] is not None) for _, _, values in samples),
        **{name: [values[i] or 0 for _, _, values in samples] for i, name in enumerate(METRICS)},
    ).batch
    assert by_row.links == by_column.links
    for field in ("link_index", "measured_at_ms", "values", "present"):
        np.testing.assert_array_equal(getattr(by_row, field), getattr(by_column, field))
