"""The optimizer, by what it must never do and by which way it must go."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pba_service.domain.amst import tcp
from pba_service.domain.amst.conditions import GUESSED_QUEUE_SHARE, UNKNOWN_LOSS_RATIO, conditions
from pba_service.domain.amst.optimizer import defaults, optimize
from pba_service.domain.errors import InvalidRequestError
from pba_service.domain.parameters import (
    BandwidthKind,
    CongestionControl,
    ParameterReason,
    ParametersAsk,
    ParametersSource,
    TransportBounds,
    answer,
)
from tests.unit.amst.strategies import (
    BOUNDS,
    EXACT,
    all_bounds,
    asks,
    bandwidths,
    check_within_limits,
    latencies,
    link,
    losses,
    quantiles,
    values,
)


def best(row, ask=EXACT, bounds=BOUNDS, spread=None, **options):
    return optimize(conditions(row, spread, ask), ask, bounds, **options)


@given(values, quantiles(), asks(), all_bounds(), st.floats(0.5, 2))
def test_every_limit_holds_for_every_admitted_input(row, spread, ask, bounds, correction):
    advice = best(row, ask, bounds, spread, correction=correction)
    check_within_limits(advice.parameters, ask, bounds)
    assert len(set(advice.reasons)) == len(advice.reasons) > 0


@given(asks(), all_bounds())
def test_defaults_keep_every_limit(ask, bounds):
    parameters = defaults(ask, bounds)
    check_within_limits(parameters, ask, bounds)
    assert parameters.pacing_mbps is None


def test_defaults_are_the_documented_ones():
    parameters = defaults(EXACT, BOUNDS)
    assert (parameters.streams, parameters.buffer_bytes, parameters.chunk_bytes) == (8, 256 * 1024, 64 * 1024)


@given(values, quantiles(), st.sampled_from(CongestionControl))
def test_streams_times_window_cover_the_path_where_the_bounds_allow_it(row, spread, control):
    ask = replace(EXACT, congestion_control=control)
    known = conditions(row, spread, ask)
    parameters = optimize(known, ask, BOUNDS).parameters
    path_bytes = tcp.product_bytes(known.bandwidth_upper_mbps, known.latency_upper_ms / 1e3)
    possible = BOUNDS.max_streams * BOUNDS.max_buffer_bytes
    assert tcp.KERNEL_WINDOW_SHARE * parameters.window_bytes >= min(path_bytes, possible) * 0.999


@given(bandwidths, bandwidths, latencies, losses, st.sampled_from(CongestionControl))
def test_more_bandwidth_never_means_fewer_streams(one, other, latency, loss, control):
    ask = replace(EXACT, congestion_control=control)
    slow, fast = (best(link(bandwidth, latency, loss), ask).parameters for bandwidth in sorted((one, other)))
    assert slow.streams <= fast.streams


@example(1000.0, 100.0, 0.0, 1e-9, 1_000_000)
@example(1000.0, 100.0, 9e-5, 1.1e-4, None)
@given(bandwidths, latencies, losses, losses, st.none() | st.integers(1, 2**32 - 1))
def test_more_loss_never_means_fewer_streams(bandwidth, latency, one, other, probes):
    ask = replace(EXACT, loss_probes=probes)
    low, high = (best(link(bandwidth, latency, loss), ask).parameters for loss in sorted((one, other)))
    assert low.streams <= high.streams


@given(bandwidths, latencies, latencies, losses)
def test_more_delay_never_means_fewer_streams(bandwidth, one, other, loss):
    near, far = (best(link(bandwidth, latency, loss)).parameters for latency in sorted((one, other)))
    assert near.streams <= far.streams


@settings(max_examples=300)
@given(
    st.floats(1, 1e5), st.floats(0.5, 1000), st.floats(0, 0.2), st.sampled_from(CongestionControl),
    st.tuples(*[st.floats(0.99, 1.01)] * 3),
)  # fmt: skip
def test_no_cliff_from_a_change_of_one_percent(bandwidth, latency, loss, control, factors):
    ask = replace(EXACT, congestion_control=control)
    one, other = link(bandwidth, latency, loss), link(*np.multiply((bandwidth, latency, loss), factors))
    before, after = best(one, ask).parameters, best(other, ask).parameters
    # a whole number of streams can move by one, and by the share that the inputs together moved
    assert abs(before.streams - after.streams) <= 1 + 0.07 * before.streams
    small, large = sorted((before.window_bytes, after.window_bytes))
    more = abs(before.streams - after.streams) / min(before.streams, after.streams)
    assert large <= (1.1 + more) * small
    reached = [
        tcp.goodput_mbps(
            control, bandwidth_mbps=bandwidth, rtt_s=latency / 1e3, loss_ratio=loss, streams=parameters.streams,
            buffer_bytes=parameters.buffer_bytes, pacing_mbps=parameters.pacing_mbps,
        )
        for parameters in (before, after)
    ]  # fmt: skip
    assert max(reached) <= 1.35 * min(reached)  # two streams against three, where neither fills the path
    if min(before.streams, after.streams) > 4:
        assert max(reached) <= 1.25 * min(reached)


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("latency", [20, 80, 200])
def test_lossy_paths_are_filled_by_the_model_and_not_overfilled(loss, latency):
    parameters = best(link(20, latency, loss)).parameters
    reached = tcp.goodput_mbps(
        CongestionControl.CUBIC, bandwidth_mbps=20, rtt_s=latency / 1e3, loss_ratio=loss, streams=parameters.streams,
        buffer_bytes=parameters.buffer_bytes, pacing_mbps=parameters.pacing_mbps,
    )  # fmt: skip
    assert reached >= 0.95 * 20 * tcp.PAYLOAD_SHARE * (1 - loss)
    rate = tcp.cubic_mbps(latency / 1e3, loss)
    assert parameters.streams <= max(2 * 20 / rate, 4)


def test_a_clean_path_gets_few_streams_and_a_pace_below_its_payload():
    advice = best(link(100, 80, 0))
    assert advice.parameters.streams == 4
    assert advice.parameters.pacing_mbps == pytest.approx(95.5)
    assert advice.reasons[0] is ParameterReason.BANDWIDTH
    assert ParameterReason.PACED in advice.reasons


def test_where_loss_is_the_limit_nothing_is_paced():
    advice = best(link(100, 80, 0.01))
    assert advice.parameters.pacing_mbps is None
    assert advice.parameters.streams > 50
    assert advice.reasons[:2] == (ParameterReason.LOSS, ParameterReason.LATENCY)


def test_streams_stop_where_they_would_cause_the_loss_themselves():
    spread = np.full((4, 5), np.nan, np.float32)
    spread[2] = [0, 0, 0.001, 0.1, 0.1]
    advice = best(link(10, 20, 0.001), spread=spread)
    assert ParameterReason.RETRANSMISSIONS in advice.reasons
    assert advice.parameters.streams < 1.5 * 10 / tcp.cubic_mbps(0.02, 0.1) / 2
    assert own_loss(link(10, 20, 0.001), advice.parameters.streams) < 0.03


def own_loss(row, streams):
    known = conditions(row, None, EXACT)
    return tcp.own_loss_ratio(
        CongestionControl.CUBIC, bandwidth_mbps=known.bandwidth_mbps, rtt_s=known.full_rtt_s,
        loss_ratio=known.loss_ratio, streams=streams,
    )  # fmt: skip


def test_achieved_goodput_is_no_ground_for_a_pace():
    ask = replace(EXACT, bandwidth_kind=BandwidthKind.GOODPUT)
    assert best(link(100, 20, 0), ask).parameters.pacing_mbps is None


def test_loss_that_few_probes_cannot_show_is_reckoned_with():
    few, many = replace(EXACT, loss_probes=100), EXACT
    unsure, sure = best(link(100, 80, 0), few), best(link(100, 80, 0), many)
    assert unsure.parameters.streams > 4 * sure.parameters.streams
    assert ParameterReason.LOSS_RESOLUTION in unsure.reasons
    assert ParameterReason.LOSS_RESOLUTION not in sure.reasons


@pytest.mark.parametrize("loss", [0.0, math.nan])
def test_unmeasured_loss_is_not_taken_for_none(loss):
    ask = ParametersAsk("a-b")
    assert conditions(link(loss_ratio=loss), None, ask).loss_upper_ratio == UNKNOWN_LOSS_RATIO


def test_a_busy_round_trip_is_told_from_a_long_way():
    near = best(link(100, 200, 0.01), replace(EXACT, base_latency_ms=20.0)).parameters
    assert near.streams == pytest.approx(best(link(100, 20, 0.01)).parameters.streams, abs=1)
    assert near.streams < best(link(100, 200, 0.01)).parameters.streams / 3


def test_what_a_queue_adds_to_the_round_trip_is_the_queue():
    busy = conditions(link(100, 200), None, replace(EXACT, base_latency_ms=20.0))
    assert busy.latency_ms == 20
    assert busy.queue_bytes == pytest.approx(100e6 / 8 * 0.180)
    assert busy.full_rtt_s == pytest.approx(0.200)
    unsaid = conditions(link(1000, 40), None, EXACT)
    assert unsaid.queue_bytes >= GUESSED_QUEUE_SHARE * 1000e6 / 8 * 0.040


def test_a_long_fat_path_gets_the_streams_its_buffers_need():
    advice = best(link(1000, 60, 0), bounds=TransportBounds(max_buffer_bytes=64 * 1024))
    assert 1.2 * advice.parameters.window_bytes >= 1.25 * 1000e6 / 8 * 0.060
    assert advice.reasons[0] is ParameterReason.BUFFER_LIMIT


def test_bbr_needs_two_streams_whatever_the_loss():
    advice = best(link(100, 40, 0.03), replace(EXACT, congestion_control=CongestionControl.BBR))
    assert advice.parameters.streams == 2
    assert ParameterReason.CONGESTION_CONTROL in advice.reasons
    assert ParameterReason.LOSS not in advice.reasons


def test_an_outage_is_not_paced_to_a_standstill():
    parameters = best(link(0, 20, 1)).parameters
    assert parameters.pacing_mbps is None
    assert parameters.streams == BOUNDS.min_streams


@pytest.mark.parametrize(
    ("ask", "bounds", "reason"),
    [
        (replace(EXACT, max_streams=4), BOUNDS, ParameterReason.CALLER_LIMIT),
        (replace(EXACT, max_buffer_bytes=8192), BOUNDS, ParameterReason.CALLER_LIMIT),
        (replace(EXACT, receive_buffer_bytes=8192), BOUNDS, ParameterReason.CALLER_LIMIT),
        (replace(EXACT, memory_budget_bytes=100_000), BOUNDS, ParameterReason.CALLER_LIMIT),
        (EXACT, TransportBounds(max_streams=4), ParameterReason.SERVICE_LIMIT),
        (EXACT, TransportBounds(min_streams=64), ParameterReason.SERVICE_LIMIT),
        (EXACT, TransportBounds(max_buffer_bytes=20_000), ParameterReason.SERVICE_LIMIT),
    ],
)
def test_a_limit_that_bites_is_named_and_only_then(ask, bounds, reason):
    biting = {ParameterReason.CALLER_LIMIT, ParameterReason.SERVICE_LIMIT}
    row = link(100, 20, 0.01)
    assert biting & set(best(row, ask, bounds).reasons) == {reason}
    assert not biting & set(best(row).reasons)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("link_id", ""), ("link_id", "x" * 129), ("current_streams", -1), ("max_streams", 0),
        ("max_buffer_bytes", 4095), ("memory_budget_bytes", 0), ("current_buffer_bytes", 0),
        ("current_pacing_mbps", 0.0), ("current_pacing_mbps", math.nan), ("receive_buffer_bytes", 1),
        ("loss_probes", 0), ("base_latency_ms", -1.0), ("base_latency_ms", math.inf),
    ],
)  # fmt: skip
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
        defaults(EXACT, BOUNDS), (reason,), source=source, should_adjust=True, apply_at_ms=0, valid_until_ms=1_000,
        prediction=None,
    ).explanation  # fmt: skip
    assert told.startswith("8 streams of 262144 bytes, unpaced")
    assert told.endswith(".")
