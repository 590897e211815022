"""When to change over: ahead of what comes, not for little, and never behind a stale pace."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.amst.conditions import conditions
from pba_service.domain.amst.plan import Outlook, Point, plan
from pba_service.domain.parameters import ParameterReason
from tests.unit.amst.strategies import BOUNDS, EXACT, all_bounds, asks, check_within_limits, link, quantiles, values

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


def spread(bandwidth):
    table = np.full((4, 5), np.nan, np.float32)
    table[0] = bandwidth
    return table


def outlook(present=None, ahead=(), made_at_ms=NOW_MS, ask=EXACT):
    points = [Point(NOW_MS + minutes * MINUTE_MS, conditions(row, table, ask)) for minutes, row, table in ahead]
    known = conditions(link() if present is None else present, None, ask)
    return Outlook(NOW_MS, made_at_ms, MINUTE_MS, NOW_MS + 15 * MINUTE_MS, known, points)


def test_streams_are_opened_a_minute_ahead_of_predicted_loss():
    ask = replace(EXACT, current_streams=4)
    chosen = plan(outlook(ahead=[(5, link(), None), (15, link(loss_ratio=0.01), None)]), ask, BOUNDS)
    assert chosen.should_adjust
    assert chosen.parameters.streams > 15
    assert chosen.reasons[0] is ParameterReason.AHEAD
    assert chosen.apply_at_ms == NOW_MS + 14 * MINUTE_MS
    assert chosen.expected_mbps > chosen.current_expected_mbps


def test_what_falls_short_now_is_changed_now():
    ask = replace(EXACT, current_streams=2)
    chosen = plan(outlook(link(loss_ratio=0.01), [(15, link(loss_ratio=0.02), None)]), ask, BOUNDS)
    assert chosen.should_adjust
    assert chosen.apply_at_ms == NOW_MS


def test_goodput_is_expected_on_average_over_the_plans_time():
    now = plan(outlook(), EXACT, BOUNDS).expected_mbps
    assert 90 < now < 100
    assert plan(outlook(ahead=[(5, link(), None), (15, link(), None)]), EXACT, BOUNDS).expected_mbps == now
    halved = plan(outlook(ahead=[(15, link(50), None)]), EXACT, BOUNDS).expected_mbps
    assert halved == pytest.approx(0.75 * now, rel=0.02)


def test_beyond_the_horizon_nothing_is_done():
    chosen = plan(outlook(ahead=[(30, link(loss_ratio=0.03), None)]), EXACT, BOUNDS)
    assert chosen.parameters.streams == 4


@pytest.mark.parametrize("current", [22, 24, 30])
def test_near_enough_is_kept(current):
    chosen = plan(outlook(link(loss_ratio=0.01)), replace(EXACT, current_streams=current), BOUNDS)
    assert chosen.parameters.streams == current
    assert chosen.reasons[0] is ParameterReason.HYSTERESIS
    assert not chosen.should_adjust


@pytest.mark.parametrize("current", [2, 8, 100])
def test_too_far_is_changed(current):
    chosen = plan(outlook(link(loss_ratio=0.01)), replace(EXACT, current_streams=current), BOUNDS)
    assert chosen.parameters.streams != current
    assert chosen.should_adjust


def test_present_streams_beyond_a_limit_are_not_kept():
    ask = replace(EXACT, current_streams=24, max_streams=20)
    assert plan(outlook(link(loss_ratio=0.01)), ask, BOUNDS).parameters.streams == 20


def test_present_buffers_beyond_the_memory_for_all_are_not_kept():
    ask = replace(EXACT, current_streams=24, current_buffer_bytes=2**20, memory_budget_bytes=16 * 2**20)
    chosen = plan(outlook(link(loss_ratio=0.01)), ask, BOUNDS)
    assert chosen.should_adjust
    assert chosen.parameters.window_bytes <= ask.memory_budget_bytes
    had = replace(ask, current_streams=chosen.parameters.streams, current_buffer_bytes=chosen.parameters.buffer_bytes)
    assert not plan(outlook(link(loss_ratio=0.01)), had, BOUNDS).should_adjust


def test_whoever_says_nothing_of_itself_should_adjust():
    chosen = plan(outlook(), EXACT, BOUNDS)
    assert chosen.should_adjust
    assert chosen.current is None
    assert chosen.current_expected_mbps is None


def test_a_pace_that_the_upper_quantile_has_outgrown_goes_at_once():
    rising = [(15, link(150), spread([90, 95, 150, 200, 220]))]
    ask = replace(EXACT, current_streams=4, current_pacing_mbps=95.0)
    chosen = plan(outlook(ahead=rising), ask, BOUNDS)
    assert chosen.should_adjust
    assert chosen.apply_at_ms == NOW_MS
    assert chosen.parameters.pacing_mbps == pytest.approx(0.955 * 200)


def test_a_pace_is_not_lowered_while_the_present_or_the_upper_quantile_is_above():
    falling = [(15, link(50), spread([40, 45, 50, 99, 110]))]
    ask = replace(EXACT, current_streams=4, current_pacing_mbps=95.5)
    assert plan(outlook(ahead=falling), ask, BOUNDS).parameters.pacing_mbps == pytest.approx(95.5)
    fallen = plan(outlook(link(50), [(15, link(50), spread([40, 45, 50, 60, 70]))]), ask, BOUNDS)
    assert fallen.should_adjust
    assert fallen.parameters.pacing_mbps == pytest.approx(0.955 * 60)


def test_a_pace_does_not_outlive_its_sample():
    fresh = plan(outlook(), EXACT, BOUNDS)
    assert fresh.parameters.pacing_mbps is not None
    assert fresh.valid_until_ms == NOW_MS + 2 * MINUTE_MS
    stale = plan(outlook(made_at_ms=NOW_MS - 2 * MINUTE_MS), replace(EXACT, current_pacing_mbps=95.5), BOUNDS)
    assert stale.parameters.pacing_mbps is None
    assert stale.should_adjust
    assert ParameterReason.PACED not in stale.reasons


@given(values, st.lists(st.tuples(values, quantiles()), max_size=3), asks(), all_bounds(), st.floats(0.5, 2))
def test_every_limit_holds_for_every_admitted_outlook(row, ahead, ask, bounds, correction):
    usable = np.where(np.isfinite(row), row, 1).astype(np.float32)
    points = [(5 * (i + 1), np.nan_to_num(one), table) for i, (one, table) in enumerate(ahead)]
    chosen = plan(outlook(usable, points, ask=ask), ask, bounds, correction=correction)
    check_within_limits(chosen.parameters, ask, bounds)
    assert NOW_MS <= chosen.apply_at_ms <= NOW_MS + 15 * MINUTE_MS
    assert NOW_MS <= chosen.valid_until_ms <= NOW_MS + 15 * MINUTE_MS
    assert np.isfinite(chosen.expected_mbps)
    assert chosen.expected_mbps >= 0
    if chosen.parameters.pacing_mbps is not None:
        present = conditions(usable, None, ask).bandwidth_mbps
        assert chosen.parameters.pacing_mbps >= 0.95 * present
