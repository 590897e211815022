"""The transport rule, by what it must never do and by which way it must go."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.errors import InvalidRequestError
from pba_service.domain.transport import (
    CongestionControl,
    ParameterReason,
    ParametersAsk,
    ParametersSource,
    TransportBounds,
    answer,
    defaults,
    recommend,
    streams_wanted,
)

BOUNDS = TransportBounds()
ASK = ParametersAsk("a-b")

bandwidths = st.floats(0, 1e8, width=32)
latencies = st.floats(0, 3.6e6, width=32)
losses = st.floats(0, 1, width=32)
maybe_loss = losses | st.just(math.nan)


def link(bandwidth_mbps=100.0, latency_ms=20.0, loss_ratio=0.0, jitter_ms=1.0):
    return np.array([bandwidth_mbps, latency_ms, loss_ratio, jitter_ms], np.float32)


@st.composite
def asks(draw):
    return ParametersAsk(
        "a-b",
        current_streams=draw(st.none() | st.integers(0, 2**32 - 1)),
        congestion_control=draw(st.sampled_from(CongestionControl)),
        max_streams=draw(st.none() | st.integers(1, 2**32 - 1)),
        max_buffer_bytes=draw(st.none() | st.integers(4096, 2**32 - 1)),
        memory_budget_bytes=draw(st.none() | st.integers(4096, 2**40)),
    )


@st.composite
def all_bounds(draw):
    streams = sorted([draw(st.integers(1, 1024)), draw(st.integers(1, 1024))])
    buffers = sorted([draw(st.integers(4096, 2**26)), draw(st.integers(4096, 2**26))])
    return TransportBounds(*streams, *buffers)


def check_within_limits(parameters, ask, bounds):
    assert parameters.streams <= min(bounds.max_streams, ask.max_streams or bounds.max_streams)
    assert parameters.buffer_bytes <= min(bounds.max_buffer_bytes, ask.max_buffer_bytes or bounds.max_buffer_bytes)
    if ask.memory_budget_bytes is not None:
        assert parameters.streams * parameters.buffer_bytes <= ask.memory_budget_bytes
    if ask.max_streams is None and ask.memory_budget_bytes is None:
        assert parameters.streams >= bounds.min_streams
    if ask.max_buffer_bytes is None and ask.memory_budget_bytes is None:
        assert parameters.buffer_bytes >= bounds.min_buffer_bytes
    assert parameters.streams >= 1
    assert parameters.buffer_bytes >= 4096
    assert min(8 * 1024, parameters.buffer_bytes) <= parameters.chunk_bytes
    assert parameters.chunk_bytes <= min(512 * 1024, parameters.buffer_bytes)
    assert all(isinstance(v, int) for v in (parameters.streams, parameters.buffer_bytes, parameters.chunk_bytes))


@given(st.tuples(bandwidths, latencies, maybe_loss), asks(), all_bounds())
def test_every_limit_holds_for_every_admitted_input(values, ask, bounds):
    parameters, reasons = recommend(link(*values), ask, bounds)
    check_within_limits(parameters, ask, bounds)
    assert len(set(reasons)) == len(reasons) > 0
    if parameters.pacing_mbps is not None:
        assert 0 < parameters.pacing_mbps < values[0]


@given(asks(), all_bounds())
def test_defaults_keep_every_limit(ask, bounds):
    parameters = defaults(ask, bounds)
    check_within_limits(parameters, ask, bounds)
    assert parameters.pacing_mbps is None


def test_defaults_are_the_documented_ones():
    parameters = defaults(ASK, BOUNDS)
    assert (parameters.streams, parameters.buffer_bytes, parameters.chunk_bytes) == (8, 256 * 1024, 64 * 1024)


@given(bandwidths, bandwidths, latencies, maybe_loss, st.sampled_from(CongestionControl))
def test_more_bandwidth_never_means_fewer_streams_or_a_slower_pace(one, other, latency, loss, control):
    ask = ParametersAsk("a-b", congestion_control=control)
    slow, _ = recommend(link(min(one, other), latency, loss), ask, BOUNDS)
    fast, _ = recommend(link(max(one, other), latency, loss), ask, BOUNDS)
    assert slow.streams <= fast.streams
    assert (slow.pacing_mbps or 0) <= (fast.pacing_mbps or 0)


@given(bandwidths, latencies, losses, losses)
def test_more_loss_never_means_fewer_streams(bandwidth, latency, one, other):
    low, _ = recommend(link(bandwidth, latency, min(one, other)), ASK, BOUNDS)
    high, _ = recommend(link(bandwidth, latency, max(one, other)), ASK, BOUNDS)
    assert low.streams <= high.streams


@given(bandwidths, latencies, latencies, maybe_loss)
def test_more_delay_never_means_fewer_streams(bandwidth, one, other, loss):
    near, _ = recommend(link(bandwidth, min(one, other), loss), ASK, BOUNDS)
    far, _ = recommend(link(bandwidth, max(one, other), loss), ASK, BOUNDS)
    assert near.streams <= far.streams


def test_ten_megabits_a_stream_where_nothing_hinders():
    parameters, reasons = recommend(link(100, 5, 0), ASK, BOUNDS)
    assert parameters.streams == 10
    assert parameters.pacing_mbps == pytest.approx(95)
    assert reasons == (ParameterReason.BANDWIDTH, ParameterReason.BANDWIDTH_DELAY_PRODUCT)


def test_loss_and_delay_add_streams_and_say_so():
    quiet, _ = recommend(link(100, 40, 0), ASK, BOUNDS)
    lossy, why_lossy = recommend(link(100, 40, 0.02), ASK, BOUNDS)
    far, why_far = recommend(link(100, 200, 0.02), ASK, BOUNDS)
    assert quiet.streams < lossy.streams < far.streams
    assert ParameterReason.LOSS in why_lossy
    assert {ParameterReason.LOSS, ParameterReason.LATENCY} <= set(why_far)


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("latency", [20, 80, 200])
def test_the_streams_together_could_fill_the_link_as_mathis_has_it(latency, loss):
    per_stream_mbps = 1448 * 8 * math.sqrt(1.5) / (latency / 1000 * math.sqrt(loss)) / 1e6
    assert streams_wanted(100, latency, loss) * per_stream_mbps >= 100


def test_unmeasured_loss_is_not_taken_for_none():
    assert streams_wanted(100, 80, math.nan) > streams_wanted(100, 80, 0)


def test_a_long_fat_path_gets_the_streams_its_buffers_need():
    bounds = TransportBounds(max_buffer_bytes=64 * 1024)
    parameters, _ = recommend(link(1000, 60, 0), ASK, bounds)
    path_bytes = 1000e6 / 8 * 0.060
    granted_bytes = 1.2 * parameters.buffer_bytes * parameters.streams
    assert granted_bytes >= 1.25 * path_bytes
    assert parameters.streams > streams_wanted(1000, 60, 0) + 1


def test_the_buffers_hold_twice_the_path():
    parameters, _ = recommend(link(100, 20, 0), ASK, BOUNDS)
    path_bytes = 100e6 / 8 * 0.020
    assert parameters.buffer_bytes * parameters.streams == pytest.approx(2 * path_bytes + 10 * 32 * 1024, rel=0.01)


def test_bbr_needs_few_streams_whatever_the_loss():
    ask = ParametersAsk("a-b", congestion_control=CongestionControl.BBR)
    parameters, reasons = recommend(link(100, 40, 0.03), ask, BOUNDS)
    assert parameters.streams == 2
    assert ParameterReason.LOSS not in reasons


def test_an_outage_is_not_paced_to_a_standstill():
    parameters, _ = recommend(link(0, 20, 1), ASK, BOUNDS)
    assert parameters.pacing_mbps is None
    assert parameters.streams == BOUNDS.min_streams


@pytest.mark.parametrize("current", [8, 9, 11, 12])
def test_near_enough_is_kept(current):
    ask = ParametersAsk("a-b", current_streams=current)
    parameters, reasons = recommend(link(100, 5, 0), ask, BOUNDS)
    assert parameters.streams == current
    assert reasons[0] is ParameterReason.HYSTERESIS
    assert not _answer(parameters, reasons, ask).should_adjust


@pytest.mark.parametrize("current", [0, 1, 7, 13, 300])
def test_too_far_is_changed(current):
    ask = ParametersAsk("a-b", current_streams=current)
    parameters, reasons = recommend(link(100, 5, 0), ask, BOUNDS)
    assert parameters.streams == 10
    assert ParameterReason.HYSTERESIS not in reasons
    assert _answer(parameters, reasons, ask).should_adjust


def test_present_streams_beyond_a_limit_are_not_kept():
    ask = ParametersAsk("a-b", current_streams=11, max_streams=10)
    parameters, _ = recommend(link(100, 5, 0), ask, BOUNDS)
    assert parameters.streams == 10


def test_whoever_says_nothing_of_itself_should_adjust():
    assert _answer(*recommend(link(), ASK, BOUNDS), ASK).should_adjust


@pytest.mark.parametrize(
    ("ask", "bounds", "reason"),
    [
        (ParametersAsk("a-b", max_streams=4), BOUNDS, ParameterReason.CALLER_LIMIT),
        (ParametersAsk("a-b", max_buffer_bytes=8192), BOUNDS, ParameterReason.CALLER_LIMIT),
        (ParametersAsk("a-b", memory_budget_bytes=100_000), BOUNDS, ParameterReason.CALLER_LIMIT),
        (ASK, TransportBounds(max_streams=4), ParameterReason.SERVICE_LIMIT),
        (ASK, TransportBounds(min_streams=64), ParameterReason.SERVICE_LIMIT),
        (ASK, TransportBounds(max_buffer_bytes=20_000), ParameterReason.SERVICE_LIMIT),
    ],
)
def test_a_limit_that_bites_is_named_and_only_then(ask, bounds, reason):
    biting = {ParameterReason.CALLER_LIMIT, ParameterReason.SERVICE_LIMIT}
    assert biting & set(recommend(link(100, 20, 0), ask, bounds)[1]) == {reason}
    assert not biting & set(recommend(link(100, 20, 0), ASK, BOUNDS)[1])


@pytest.mark.parametrize("values", [link(bandwidth_mbps=math.nan), link(latency_ms=math.nan)])
def test_without_bandwidth_or_latency_the_defaults_are_given(values):
    assert recommend(values, ASK, BOUNDS) == (defaults(ASK, BOUNDS), (ParameterReason.METRIC_ABSENT,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("link_id", ""),
        ("link_id", "x" * 129),
        ("current_streams", -1),
        ("max_streams", 0),
        ("max_buffer_bytes", 4095),
        ("memory_budget_bytes", 0),
    ],
)
def test_an_impossible_ask_is_refused_by_field(field, value):
    with pytest.raises(InvalidRequestError) as caught:
        ParametersAsk(**{"link_id": "a-b", field: value})
    assert [violation.field for violation in caught.value.violations] == [field]


def test_every_field_at_fault_is_named_at_once():
    with pytest.raises(InvalidRequestError) as caught:
        ParametersAsk("", max_streams=0, max_buffer_bytes=1)
    assert {v.field for v in caught.value.violations} == {"link_id", "max_streams", "max_buffer_bytes"}


@pytest.mark.parametrize("args", [(0, 1), (5, 4), (1, 2, 1024), (1, 2, 9000, 8000)])
def test_bounds_that_bound_nothing_are_refused(args):
    with pytest.raises(ValueError, match="is no range"):
        TransportBounds(*args)


@pytest.mark.parametrize("source", ParametersSource)
@pytest.mark.parametrize("reason", ParameterReason)
def test_every_source_and_reason_can_be_told_in_a_sentence(source, reason):
    told = answer(
        defaults(ASK, BOUNDS), (reason,), source=source, ask=ASK, valid_until_ms=1_000, prediction=None
    ).explanation
    assert told.startswith("8 streams of 262144 bytes, unpaced")
    assert told.endswith(".")


def _answer(parameters, reasons, ask):
    return answer(
        parameters, reasons, source=ParametersSource.MEASUREMENT, ask=ask, valid_until_ms=1_000, prediction=None
    )
