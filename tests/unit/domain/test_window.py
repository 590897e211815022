"""Irregular samples become regular windows, and nothing from later enters them."""

from statistics import median_low

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.samples import METRICS, Series
from pba_service.domain.window import (
    CADENCE_INTERVALS,
    MAX_FILL_SLOTS,
    MIN_SLOTS,
    clock_features,
    horizon_ms,
    steps_ms,
    windows_at,
)

MINUTE = 60_000
START = 1_700_000_040_000


def series(times_ms, values=None):
    times_ms = np.asarray(times_ms, np.int64)
    if values is None:
        values = np.arange(len(times_ms) * len(METRICS), dtype=np.float32).reshape(-1, len(METRICS))
    return Series(times_ms, np.asarray(values, np.float32))


def window(of, slots=MIN_SLOTS, base_ms=MINUTE):
    return windows_at(of, np.array([len(of) - 1]), slots, base_ms)


def regular(count, step_ms=MINUTE):
    return series(START + np.arange(count) * step_ms)


def test_regular_samples_are_taken_as_they_are():
    link = regular(12)
    made = window(link)
    assert made.made_at_ms[0] == link.times_ms[-1]
    assert made.step_ms[0] == MINUTE
    assert made.have[0] == MIN_SLOTS
    np.testing.assert_array_equal(made.values[0, :, :4], link.values[2:])


@pytest.mark.parametrize("minutes", [1, 2, 4, 5, 8, 15, 30])
def test_the_grid_follows_the_cadence_of_the_link(minutes):
    link = regular(12, minutes * MINUTE)
    made = window(link)
    assert made.step_ms[0] == minutes * MINUTE
    np.testing.assert_array_equal(made.values[0, :, :4], link.values[2:])


def test_a_jittered_minute_loses_no_sample():
    rng = np.random.default_rng(1)
    link = series(START + np.arange(40) * MINUTE + rng.integers(-9_000, 9_000, 40))
    made = window(link, slots=20)
    assert made.have[0] == 20
    np.testing.assert_array_equal(made.values[0, -5:, 0], link.values[-5:, 0])


@pytest.mark.parametrize("off_ms", [-29_999, -16_000, 16_000, 30_000])
def test_a_sample_belongs_to_the_slot_that_is_nearest(off_ms):
    link = regular(20)
    link.times_ms[15] += off_ms
    np.testing.assert_array_equal(window(link, slots=12).values[0, :, 0], link.values[8:, 0])


@pytest.mark.parametrize("missing", range(1, MAX_FILL_SLOTS + 1))
def test_a_small_gap_is_filled_with_the_value_before_it(missing):
    keep = [*range(15), *range(15 + missing, 20)]
    link = regular(20)
    made = window(series(link.times_ms[keep], link.values[keep]), slots=12)
    assert made.usable[0]
    np.testing.assert_array_equal(made.values[0, 15 - 8 : 15 - 8 + missing, 0], np.repeat(link.values[14, 0], missing))


def test_a_large_gap_ends_the_window():
    keep = [*range(15), *range(15 + MAX_FILL_SLOTS + 1, 25)]
    link = regular(25)
    made = window(series(link.times_ms[keep], link.values[keep]), slots=20)
    after_gap = 25 - (15 + MAX_FILL_SLOTS + 1)
    assert made.have[0] == after_gap
    assert not made.usable[0]
    assert np.isnan(made.values[0, :, :4]).all()


def test_a_metric_that_is_not_measured_is_absent_and_does_not_hide_the_others():
    link = regular(12)
    link.values[:, 2] = np.nan
    link.values[-5:, 3] = np.nan  # stopped being measured
    made = window(link)
    assert made.usable[0]
    assert np.isnan(made.values[0, :, 2:4]).all()
    assert np.isfinite(made.values[0, :, :2]).all()


def test_a_metric_measured_less_often_is_filled():
    link = regular(30)
    link.values[np.arange(30) % 3 != 0, 0] = np.nan
    made = window(link)
    assert np.isfinite(made.values[0, :, 0]).all()


def test_several_samples_in_a_slot_give_the_newest_of_them():
    times = START + np.arange(60) * 10_000
    link = series(times)
    made = window(link)
    assert made.step_ms[0] == MINUTE
    assert made.values[0, -1, 0] == link.values[-1, 0]


def test_one_sample_is_no_history_but_no_error():
    made = window(regular(1))
    assert made.have[0] == 1
    assert not made.usable[0]


def test_clock_features_know_a_day():
    # 2026-11-23 was a Monday.
    monday_noon = 1_795_435_200_000
    np.testing.assert_allclose(
        clock_features(np.array([monday_noon, monday_noon + 86_400_000 + 1_800_000])), [[12, 0], [12.5, 1]]
    )


def test_clock_features_are_exact_around_each_midnight():
    day, off = np.arange(-30_000, 120_000)[:, None], np.array([-1, 0, 1])
    times = day * 86_400_000 + off
    within, weekday = times % 86_400_000, (times // 86_400_000 + 3) % 7
    expected = np.stack([within / 3_600_000, weekday], axis=-1).astype(np.float32)
    np.testing.assert_array_equal(clock_features(times), expected)
    written = np.zeros((*times.shape, 3), np.float32)
    clock_features(times, written[..., 1:])
    np.testing.assert_array_equal(written[..., 1:], expected)


@pytest.mark.parametrize(
    ("step_min", "expected_min"), [(1, 15), (2, 16), (4, 16), (5, 15), (8, 16), (10, 20), (15, 15), (30, 30)]
)
def test_the_horizon_is_the_nearest_multiple_of_the_cadence(step_min, expected_min):
    assert horizon_ms(np.array([step_min * MINUTE]), 15 * MINUTE)[0] == expected_min * MINUTE


histories = st.builds(
    lambda start, gaps, seed: (
        np.cumsum([START + start, *gaps]).astype(np.int64),
        np.random.default_rng(seed).random((len(gaps) + 1, 4)).astype(np.float32) * [1e4, 1e3, 1, 1e2],
        np.random.default_rng(seed + 1).random((len(gaps) + 1, 4)) < 0.8,
    ),
    st.integers(0, 10**9),
    st.lists(st.integers(1, 20 * MINUTE), min_size=0, max_size=80),
    st.integers(0, 2**32),
)


def drawn(history):
    times, values, present = history
    return series(times, np.where(present, values, np.nan))


@given(histories, st.integers(0, 80), st.integers(0, 2**32))
def test_nothing_measured_later_enters_a_window(history, at, seed):
    link = drawn(history)
    end = min(at, len(link) - 1)
    rng = np.random.default_rng(seed)
    later = link.values.copy()
    later[end + 1 :] = rng.random(later[end + 1 :].shape) * 1e6
    for other in (Series(link.times_ms, later), Series(link.times_ms[: end + 1], link.values[: end + 1])):
        one = windows_at(link, np.array([end]), 20, MINUTE)
        two = windows_at(other, np.array([end]), 20, MINUTE)
        assert one.step_ms == two.step_ms
        assert one.have == two.have
        np.testing.assert_array_equal(one.values, two.values)


@given(histories, st.integers(MIN_SLOTS, 40))
def test_a_window_is_whole_or_says_so(history, slots):
    link = drawn(history)
    made = windows_at(link, np.arange(len(link)), slots, MINUTE)
    newest = np.isfinite(made.values[:, -MIN_SLOTS:, :4])
    # each metric: known in each of the newest slots, or nowhere
    assert (newest.all(axis=1) | ~np.isfinite(made.values[..., :4]).any(axis=1)).all()
    np.testing.assert_array_equal(made.usable, newest.all(axis=1).any(axis=1))
    assert (made.have <= slots).all()
    # no holes: known slots are the newest ones
    known = np.isfinite(made.values[..., :4])
    assert (known[:, :-1] <= known[:, 1:]).all()


@given(histories)
def test_each_value_of_a_window_was_measured_near_its_slot(history):
    link = drawn(history)
    made = window(link, slots=20)
    step = int(made.step_ms[0])
    for slot in range(20):
        slot_time = int(made.made_at_ms[0]) - (19 - slot) * step
        oldest = slot_time - MAX_FILL_SLOTS * step - (step + 1) // 2
        near = (link.times_ms > oldest) & (link.times_ms <= slot_time + step // 2)
        for metric in range(4):
            value = made.values[0, slot, metric]
            assert np.isnan(value) or value in link.values[near, metric]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), st.integers(1, 3_600_000))
def test_a_cadence_is_a_positive_multiple_of_the_collection_interval(gaps, base_ms):
    times = np.cumsum(gaps)
    steps = steps_ms(times, np.arange(len(times)), base_ms)
    assert (steps > 0).all()
    assert (steps % base_ms == 0).all()


@given(st.lists(st.integers(1, 20 * MINUTE), min_size=1, max_size=60), st.sampled_from([MINUTE, 5 * MINUTE]))
def test_a_cadence_is_the_median_of_the_newest_intervals(gaps, base_ms):
    times = np.cumsum(gaps)
    for end, step_ms in enumerate(steps_ms(times, np.arange(len(times)), base_ms).tolist()):
        intervals = gaps[1 : end + 1][-CADENCE_INTERVALS:] or [base_ms]
        assert step_ms == max(round(median_low(intervals) / base_ms), 1) * base_ms
