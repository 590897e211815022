"""Every request is checked field by field before the service sees it."""

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.errors import InvalidRequestError
from pba_service.domain.parameters import BandwidthKind, CongestionControl, ParametersAsk
from pba_service.engine.subscriptions import Selector
from pba_service.serving import requests
from pba_service.serving.convert import timestamp

T_MS = 1_800_000_000_000
LONG = "x" * 129


def fields_of(error):
    return [violation.field for violation in error.value.violations]


def row(time_ms, **fields):
    return types.Sample(measured_at=timestamp(time_ms), **(fields or {"latency_ms": 1}))


@pytest.mark.parametrize("link_id", ["", LONG, "a\nb", "\x00"])
def test_a_link_id_must_be_one(link_id):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_link_id(link_id)
    assert fields_of(error) == ["link_id"]


def test_link_ids_keep_their_order_and_repetitions():
    assert requests.read_link_ids(["b", "a", "b"]) == ["b", "a", "b"]


@pytest.mark.parametrize(
    ("link_ids", "fields"),
    [([], ["link_ids"]), (["a"] * 10_001, ["link_ids"]), (["a", "", LONG], ["link_ids[1]", "link_ids[2]"])],
)
def test_link_ids_at_fault(link_ids, fields):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_link_ids(link_ids)
    assert fields_of(error) == fields


def test_a_window_is_ordered_and_absent_values_are_nan():
    request = pb.PredictRequest(
        link_id="a",
        window=[row(T_MS + 1, latency_ms=2), row(T_MS, bandwidth_mbps=3), row(T_MS + 1, latency_ms=4, link_id="a")],
    )
    series = requests.read_window(request)
    assert series.times_ms.tolist() == [T_MS, T_MS + 1]
    nan = np.nan
    np.testing.assert_array_equal(series.values, [[3, nan, nan, nan], [nan, 4, nan, nan]])


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        (types.Sample(latency_ms=1), "window[1].measured_at"),
        (types.Sample(measured_at=Timestamp(nanos=-1), latency_ms=1), "window[1].measured_at"),
        (row(T_MS, latency_ms=np.nan), "window[1].latency_ms"),
        (row(T_MS, packet_loss_ratio=1.1), "window[1].packet_loss_ratio"),
        (row(T_MS, bandwidth_mbps=-1), "window[1].bandwidth_mbps"),
        (types.Sample(measured_at=timestamp(T_MS)), "window[1].bandwidth_mbps"),
        (row(T_MS, link_id="other", latency_ms=1), "window[1].link_id"),
        (row(T_MS, node=LONG, latency_ms=1), "window[1].node"),
    ],
)
def test_a_window_at_fault(sample, field):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_window(pb.PredictRequest(link_id="a", window=[row(T_MS), sample]))
    assert fields_of(error) == [field]


def test_a_window_may_be_as_old_as_it_likes():
    assert len(requests.read_window(pb.PredictRequest(link_id="a", window=[row(0), row(253_402_300_799_999)]))) == 2


def test_a_window_is_bounded():
    with pytest.raises(InvalidRequestError) as error:
        requests.read_window(pb.PredictRequest(link_id="a", window=[row(T_MS)] * 10_001))
    assert fields_of(error) == ["window"]


def test_an_ask_tells_what_was_said_from_what_was_not():
    assert requests.read_ask(pb.GetOptimalParametersRequest(link_id="a")) == ParametersAsk("a")
    full = pb.GetOptimalParametersRequest(
        link_id="a",
        current_streams=0,
        congestion_control=types.CONGESTION_CONTROL_BBR,
        max_streams=5,
        max_buffer_bytes=4096,
        memory_budget_bytes=2**40,
        current_buffer_bytes=1,
        current_pacing_mbps=0.5,
        receive_buffer_bytes=8192,
        bandwidth_kind=pb.BANDWIDTH_KIND_GOODPUT,
        loss_probes=60,
        base_latency_ms=1.5,
    )
    assert requests.read_ask(full) == ParametersAsk(
        "a", 0, CongestionControl.BBR, 5, 4096, 2**40, 1, 0.5, 8192, BandwidthKind.GOODPUT, 60, 1.5
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"link_id": ""}, "link_id"),
        ({"link_id": "a", "congestion_control": 99}, "congestion_control"),
        ({"link_id": "a", "max_streams": 0}, "max_streams"),
        ({"link_id": "a", "max_buffer_bytes": 4095}, "max_buffer_bytes"),
        ({"link_id": "a", "bandwidth_kind": 99}, "bandwidth_kind"),
        ({"link_id": "a", "current_pacing_mbps": 0}, "current_pacing_mbps"),
        ({"link_id": "a", "current_pacing_mbps": float("nan")}, "current_pacing_mbps"),
        ({"link_id": "a", "base_latency_ms": float("inf")}, "base_latency_ms"),
        ({"link_id": "a", "loss_probes": 0}, "loss_probes"),
    ],
)
def test_an_ask_at_fault(fields, field):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_ask(pb.GetOptimalParametersRequest(**fields))
    assert fields_of(error) == [field]


def test_every_congestion_control_of_the_contract_is_known():
    for number in types.CongestionControl.values():
        ask = requests.read_ask(pb.GetOptimalParametersRequest(link_id="a", congestion_control=number))
        assert f"CONGESTION_CONTROL_{ask.congestion_control.name}" == types.CongestionControl.Name(number)


def subscription(interval=None, **selector):
    return pb.StreamPredictionsRequest(selector=pb.LinkSelector(**selector), min_interval=interval)


def test_a_selector():
    request = subscription(link_ids=["a", "b", "a"], prefix="p", region="r", all=True)
    assert requests.read_selector(request) == Selector(frozenset("ab"), "p", "r", all=True)


@pytest.mark.parametrize(
    ("selector", "fields"),
    [
        ({}, ["selector"]),
        ({"link_ids": ["a", ""]}, ["selector.link_ids[1]"]),
        ({"link_ids": ["a"] * 10_001}, ["selector.link_ids"]),
        ({"prefix": LONG, "region": "\t"}, ["selector.prefix", "selector.region"]),
    ],
)
def test_a_selector_at_fault(selector, fields):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_selector(subscription(**selector))
    assert fields_of(error) == fields


def test_an_interval():
    assert requests.read_interval_s(subscription()) == 0
    assert requests.read_interval_s(subscription(Duration(seconds=2, nanos=500_000_000))) == 2.5
    assert requests.read_interval_s(subscription(Duration(nanos=500_000_000))) == 0.5
    assert requests.read_interval_s(subscription(Duration(seconds=3600))) == 3600


@pytest.mark.parametrize(
    "interval",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(nanos=10**9),
        Duration(seconds=3601),
        Duration(seconds=3600, nanos=1_000),
        Duration(seconds=2**62),
    ],
)
def test_an_interval_at_fault(interval):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_interval_s(subscription(interval))
    assert fields_of(error) == ["min_interval"]


@pytest.mark.parametrize("kind", [pb.GetHistoryRequest, pb.GetLedgerRequest])
def test_a_span(kind):
    assert requests.read_span(kind(link_id="a")) == requests.Span("a", None, None)
    given_both = kind(link_id="a", start=Timestamp(), end=Timestamp(seconds=1))
    assert requests.read_span(given_both) == requests.Span("a", 0, 1000)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.GetHistoryRequest(), ["link_id"]),
        (pb.GetHistoryRequest(link_id="a", start=Timestamp(seconds=2**62)), ["start"]),
        (pb.GetLedgerRequest(link_id="a", end=Timestamp(nanos=-1)), ["end"]),
        (pb.GetHistoryRequest(link_id="a", start=Timestamp(seconds=2), end=Timestamp(seconds=1)), ["end"]),
        (pb.GetHistoryRequest(link_id=LONG, start=Timestamp(nanos=-1)), ["link_id", "start"]),
    ],
)
def test_a_span_at_fault(request_, fields):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_span(request_)
    assert fields_of(error) == fields


def test_a_page():
    assert requests.read_page(pb.ListLinksRequest()) == requests.Page("", "", "", 100)
    request = pb.ListLinksRequest(page_size=1000, prefix="p", region="r", page_token=requests.page_token("lïnk/1"))
    assert requests.read_page(request) == requests.Page("p", "r", "lïnk/1", 1000)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": 2**32 - 1}, "page_size"),
        ({"prefix": LONG}, "prefix"),
        ({"region": "\r"}, "region"),
        ({"page_token": "%"}, "page_token"),
        ({"page_token": "ä"}, "page_token"),
        ({"page_token": "AA=="}, "page_token"),
        ({"page_token": "YR=="}, "page_token"),  # decodes to "a", whose token is YQ==
        ({"page_token": requests.page_token(LONG)}, "page_token"),
    ],
)
def test_a_page_at_fault(fields, field):
    with pytest.raises(InvalidRequestError) as error:
        requests.read_page(pb.ListLinksRequest(**fields))
    assert fields_of(error) == [field]


@given(st.text(max_size=200))
def test_whatever_comes_as_a_token_is_read_or_refused(token):
    try:
        page = requests.read_page(pb.ListLinksRequest(page_token=token))
    except InvalidRequestError as error:
        fields = [violation.field for violation in error.violations]
    else:
        fields = []
        assert requests.page_token(page.after) == token
    assert fields in ([], ["page_token"])
