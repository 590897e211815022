"""What is sent says what was measured, and what comes back is typed."""

from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2

import pba_client
from pba_client import Columns, Link, PushResult, Refusal, RefusalReason, Sample, ValueSource, requests, wire

T0 = datetime(2025, 6, 15, 14, 0, tzinfo=UTC)

times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
values = st.none() | st.floats(0, 1e6, width=32)
samples = st.builds(
    Sample,
    link_id=st.sampled_from(["a", "b", "ü/1"]),
    measured_at=times,
    bandwidth_mbps=values,
    latency_ms=values,
    packet_loss_ratio=values,
    jitter_ms=values,
    region=st.sampled_from(["", "eu"]),
    sources=st.just(()) | st.tuples(*[st.sampled_from(ValueSource)] * 4),
)


def as_rows(request):
    """A request's samples as tuples, whatever its shape."""
    rows = [
        (
            one.link_id,
            one.measured_at.ToMilliseconds(),
            *(getattr(one, name) if one.HasField(name) else None for name in METRICS),
            one.region,
            bytes([one.sources.bandwidth, one.sources.latency, one.sources.packet_loss, one.sources.jitter]),
        )
        for one in request.samples
    ]
    columns = request.columns
    for i, (link, time_ms) in enumerate(zip(columns.link_index, columns.measured_at_ms, strict=True)):
        row = [columns.links[link].link_id, time_ms]
        for bit, name in enumerate(METRICS):
            column = getattr(columns, name)
            there = column and (not columns.present or columns.present[i] >> bit & 1)
            row.append(column[i] if there else None)
        rows.append((*row, columns.links[link].region, columns.sources[4 * i : 4 * i + 4] or bytes(4)))
    return rows


METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")


def expected(sample):
    return (
        sample.link_id,
        wire.epoch_ms(sample.measured_at),
        *(getattr(sample, name) for name in METRICS),
        sample.region,
        bytes(way.value for way in sample.sources) or bytes(4),
    )


@given(st.lists(samples, min_size=1, max_size=40))
def test_rows_and_columns_say_the_same(pushed):
    (request,) = requests.push_requests(pushed)
    assert as_rows(request) == [expected(sample) for sample in pushed]
    assert not (request.samples and request.HasField("columns"))


def test_long_batches_travel_as_columns_and_short_ones_as_rows():
    one = Sample("a", T0, bandwidth_mbps=1)
    (short,) = requests.push_requests([one] * 15)
    (long,) = requests.push_requests([one] * 16)
    assert (len(short.samples), len(long.columns.measured_at_ms)) == (15, 16)


def test_a_link_that_says_different_things_of_itself_travels_as_rows():
    (request,) = requests.push_requests([Sample("a", T0, bandwidth_mbps=1)] * 20 + [Sample("a", T0, region="eu")])
    assert len(request.samples) == 21


def test_what_is_too_long_for_one_request_goes_in_several():
    pushed = [Sample("a", T0 + timedelta(seconds=i), latency_ms=1) for i in range(25_000)]
    sizes = [len(request.columns.measured_at_ms) for request in requests.push_requests(pushed)]
    assert sizes == [10_000, 10_000, 5_000]
    with pytest.raises(ValueError, match="1 to 10000 samples"):
        requests.one_request(pushed)
    with pytest.raises(ValueError, match="1 to 10000 samples"):
        requests.one_request([])


@pytest.mark.parametrize("make", [list, np.array])
def test_columns_may_be_lists_or_arrays(make):
    count = 12_000
    columns = Columns(
        links=[Link("a"), Link("b", region="eu")],
        link_index=make([i % 2 for i in range(count)]),
        measured_at_ms=make([1_750_000_000_000 + i for i in range(count)]),
        latency_ms=make([i / 4 for i in range(count)]),
        present=bytes([2, 0] * (count // 2)),
        sources=bytes([0, 1, 0, 0, 0, 3, 0, 0] * (count // 2)),
    )
    rows = [row for request in requests.column_requests(columns) for row in as_rows(request)]
    assert rows == [
        (
            *("ab"[i % 2], 1_750_000_000_000 + i, None, None if i % 2 else i / 4, None, None, ("", "eu")[i % 2]),
            bytes([0, 1 + 2 * (i % 2), 0, 0]),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("make", [list, np.array])
def test_columns_of_more_links_than_a_request_may_name_go_in_several(make):
    count = 25_000
    columns = Columns(
        links=[Link(f"link-{i}", region="eu") for i in range(count)],
        link_index=make([*reversed(range(count)), 7]),
        measured_at_ms=make([1_750_000_000_000 + i for i in range(count + 1)]),
        latency_ms=make([float(i) for i in range(count + 1)]),
    )
    pushed = list(requests.column_requests(columns))
    assert [len(request.columns.links) for request in pushed] == [10_000, 10_000, 5_000]
    found = [row for request in pushed for row in as_rows(request)]
    assert [row[0] for row in found] == [f"link-{i}" for i in [*reversed(range(count)), 7]]
    assert [row[3] for row in found] == [float(i) for i in range(count + 1)]


@given(times)
def test_times_survive_to_the_millisecond(time):
    message = wire.timestamp(time)
    back = message.ToDatetime(tzinfo=UTC)
    assert timedelta() <= time - back < timedelta(milliseconds=1)
    assert message.ToMilliseconds() == wire.epoch_ms(time)


def test_times_before_1970_and_of_other_zones():
    assert wire.timestamp(datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC)) == Timestamp(seconds=-1, nanos=500_000_000)
    cet = timezone(timedelta(hours=1))
    assert wire.epoch_ms(datetime(2025, 1, 1, 1, tzinfo=cet)) == wire.epoch_ms(datetime(2025, 1, 1, tzinfo=UTC))


def test_a_sample_needs_a_time_zone_and_is_measured_now_unless_said():
    with pytest.raises(ValueError, match="time zone"):
        Sample("a", datetime(2025, 1, 1))  # noqa: DTZ001 - the fault under test
    before = datetime.now(UTC)
    assert before <= Sample("a").measured_at <= datetime.now(UTC)


@given(samples)
def test_a_sample_comes_back_as_it_went(sample):
    back = wire.sample(requests.sample_message(sample))
    assert expected(back) == expected(sample)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (pba_client.RefusalReason, pb.RefusalReason),
        (pba_client.PredictionSource, types_pb2.PredictionSource),
        (pba_client.LinkConditionKind, types_pb2.LinkConditionKind),
        (pba_client.CongestionControl, types_pb2.CongestionControl),
        (pba_client.ParametersSource, pb.ParametersSource),
        (pba_client.ParameterReason, pb.ParameterReason),
    ],
)
def test_enumerations_are_those_of_the_contract(kind, message):
    assert issubclass(kind, Enum)
    prefix = message.Name(0).removesuffix("UNSPECIFIED")
    assert {f"{prefix}{member.name}": member.value for member in kind} == dict(message.items())


def test_what_a_newer_service_says_does_not_break_an_older_client():
    answer = pb.PushSamplesResponse(refused=1, refusals=[pb.RefusedSample(index=0, reason=99)])
    assert wire.push_result(answer).refusals[0].reason is RefusalReason.UNSPECIFIED


def test_results_add_up_and_refusals_keep_their_places():
    first = PushResult(1, 2, 3, 1, (Refusal(4, "f", RefusalReason.EMPTY, "d"),))
    second = PushResult(10, 20, 30, 1, (Refusal(0, "g", RefusalReason.MISSING, "e"),))
    assert first.followed_by(second, 100) == PushResult(
        11, 22, 33, 2, (Refusal(4, "f", RefusalReason.EMPTY, "d"), Refusal(100, "g", RefusalReason.MISSING, "e"))
    )
