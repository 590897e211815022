"""What outcomes teach: bounded, without a ratchet, forgotten."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.amst.feedback import TransferOutcome, correction
from pba_service.domain.errors import InvalidRequestError

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


def outcome(effect, ago_ms=0, streams=8, retransmitted=0.0):
    end = NOW_MS - ago_ms
    return TransferOutcome("a", end - MINUTE_MS, end, streams, 65_536, None, 100.0, 100.0 * effect, retransmitted)


@st.composite
def outcomes(draw):
    return [
        TransferOutcome(
            "a", 0, draw(st.integers(1, 2 * NOW_MS)), draw(st.integers(1, 2**32 - 1)), 0, None,
            draw(st.floats(0, 1e8)), draw(st.floats(0, 1e8)), draw(st.floats(0, 1)), draw(st.floats(0, 1)),
        )
        for _ in range(draw(st.integers(0, 64)))
    ]  # fmt: skip


@given(outcomes(), st.integers(0, 2 * NOW_MS))
def test_a_correction_stays_within_a_factor_of_two(history, now_ms):
    assert 0.5 * (1 - 1e-9) <= correction(history, now_ms) <= 2 * (1 + 1e-9)


@given(outcomes())
def test_everything_is_forgotten(history):
    last = max((one.ended_at_ms for one in history), default=0)
    assert correction(history, last + 24 * 3_600_000) == pytest.approx(1, abs=1e-4)


def test_it_says_nothing_without_outcomes_and_nothing_of_good_ones():
    assert correction([], NOW_MS) == 1
    assert correction([outcome(0.97, i * MINUTE_MS) for i in range(10)], NOW_MS) == 1


def test_goodput_that_falls_short_asks_for_more_streams_and_less_of_it_later():
    now, hour_later = (correction([outcome(0.5)], NOW_MS + later) for later in (0, 3_600_000))
    assert now == pytest.approx(1.25)
    assert hour_later == pytest.approx(1.25**0.5)


def test_retransmissions_ask_for_fewer_whatever_the_goodput():
    assert correction([outcome(0.97, retransmitted=0.06)], NOW_MS) == pytest.approx(0.8)
    assert correction([outcome(0.5, retransmitted=0.06)], NOW_MS) == pytest.approx(0.8)


def test_the_paths_own_loss_is_not_held_against_the_streams():
    lossy = replace(outcome(0.97, retransmitted=0.06), path_loss_ratio=0.05)
    assert correction([lossy], NOW_MS) == 1


def loop(minutes, carried):
    """What a link is corrected by, and what came of it: the loop closes over the correction of the model's 20 streams.

    `carried` tells of a number of streams what is expected and what is achieved, in Mbit/s.
    """
    history, corrections = [], []
    for minute in range(minutes):
        now = NOW_MS + minute * 5 * MINUTE_MS
        corrections.append(correction(history[-64:], now))
        streams = round(20 * corrections[-1])
        expected, achieved = carried(streams)
        told = {"streams": streams, "expected_mbps": expected, "achieved_mbps": achieved}
        history.append(replace(outcome(1), started_at_ms=now - MINUTE_MS, ended_at_ms=now, **told))
    return corrections, history


def test_more_streams_that_bring_nothing_are_taken_back():
    # a policer: half of what is expected comes through, whatever the streams
    corrections, _ = loop(60, lambda _streams: (100.0, 50.0))
    assert max(corrections) > 1.2
    assert max(corrections[5:]) <= 1.01


def test_more_streams_that_help_are_kept():
    # each stream carries 3: the model's 20 reach 60 of 100, 32 reach 96
    corrections, history = loop(40, lambda streams: (100.0, min(3.0 * streams, 100.0)))
    assert 1.3 <= corrections[-1] <= 2
    assert history[-1].achieved_mbps >= 85


def test_more_streams_that_help_as_much_as_was_expected_of_them_are_kept():
    # each stream carries 3 of the 4 that are expected of it, however many there are
    corrections, _ = loop(40, lambda streams: (4.0 * streams, 3.0 * streams))
    assert corrections[-1] == pytest.approx(2)


@pytest.mark.parametrize(("expected_mbps", "believed"), [(60.0, True), (100.0, False)])
def test_more_streams_that_keep_up_goodput_on_a_link_that_became_slower_were_not_in_vain(expected_mbps, believed):
    few = outcome(0.5, ago_ms=5 * MINUTE_MS, streams=4)
    many = replace(outcome(0.5, streams=16), expected_mbps=expected_mbps)
    assert (correction([few, many], NOW_MS) > 1.1) is believed


@given(st.floats(0, 1.2), st.floats(0, 0.2), st.floats(-0.01, 0.01), st.floats(-0.001, 0.001))
def test_no_cliff(effect, retransmitted, more, later):
    one = correction([outcome(effect, retransmitted=retransmitted)], NOW_MS)
    changed = outcome(max(effect + more, 0), retransmitted=max(retransmitted + later, 0))
    assert abs(correction([changed], NOW_MS) - one) < 0.03


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("link_id", "", "link_id"), ("ended_at_ms", 0, "ended_at"), ("ended_at_ms", NOW_MS - MINUTE_MS, "ended_at"),
        ("streams", 0, "parameters.streams"),
        ("pacing_mbps", float("nan"), "parameters.pacing_mbps"), ("expected_mbps", -1.0, "expected_goodput_mbps"),
        ("achieved_mbps", float("inf"), "achieved_goodput_mbps"), ("retransmitted_ratio", 1.1, "retransmitted_ratio"),
        ("path_loss_ratio", float("nan"), "path_loss_ratio"),
    ],
)  # fmt: skip
def test_an_impossible_outcome_is_refused_by_field(field, value, named):
    with pytest.raises(InvalidRequestError) as caught:
        replace(outcome(1), **{field: value})
    assert [violation.field for violation in caught.value.violations] == [f"outcome.{named}"]
