"""The daily course: learnt from what came, laid on the level now, and not led astray by bursts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.online import cycle, hours

HOUR = 3_600_000
DAY = 24 * HOUR
MONDAY = 4 * DAY  # 1970-01-05
SATURDAY = 9 * DAY


def course(time_ms):
    """From Monday to Friday between a half and one and a half of the level, at weekends half as much."""
    time_ms = np.asarray(time_ms)
    swing = np.where(hours.is_weekend(time_ms // HOUR), 0.25, 0.5)
    return 1 + swing * np.cos(2 * np.pi * (time_ms % DAY) / DAY)


def taught(days, level=100.0, at=course):
    """A table after so many days of one sample at the middle of each hour, all four metrics alike."""
    table = np.zeros((1, 4, cycle.ENTRIES), np.float16)
    for turn in range(24 * days):
        target = np.array([MONDAY + turn * HOUR + HOUR // 2])
        came = np.full((1, 4), level * at(target)[0], np.float32)
        cycle.learn(
            table,
            came,
            np.full((1, 4), level, np.float32),
            np.full((1, 4), 0.2 * level, np.float32),
            target_ms=target,
            step_ms=np.array([HOUR]),
            settled=np.full((1, 4), turn, np.uint32),
        )
    return table


def forecast(table, values, made_ms, step_ms=HOUR, ahead_ms=HOUR):
    window = np.broadcast_to(np.float32(values), (1, 4, len(values)))
    return cycle.forecast(table, window, np.array([made_ms]), np.array([step_ms]), np.array([made_ms + ahead_ms]))


def test_without_a_course_it_is_the_median_of_the_newest():
    table = np.zeros((1, 4, cycle.ENTRIES), np.float16)
    assert forecast(table, [900, 1, 5, 2, 4, 3], MONDAY) == pytest.approx(3)


@pytest.mark.parametrize("day", [MONDAY, SATURDAY])
def test_it_foresees_the_course_on_whatever_level_the_link_is(day):
    """Also on the ramps, where whoever follows the link is late, and at weekends, which have a course of their own."""
    table = taught(days=28)
    for hour in range(6, 24):
        made = day + 28 * DAY + hour * HOUR + HOUR // 2
        window = 300 * course(made - np.arange(9, -1, -1) * HOUR)
        assert forecast(table, window, made)[0, 0] == pytest.approx(300 * course(made + HOUR), rel=0.06)


def test_one_odd_sample_among_the_newest_does_not_move_the_level():
    table, made = taught(days=28), MONDAY + 28 * DAY + 12 * HOUR + HOUR // 2
    window = 100 * course(made - np.arange(9, -1, -1) * HOUR)
    window[-2] *= 50
    assert forecast(table, window, made)[0, 0] == pytest.approx(100 * course(made + HOUR), rel=0.15)


def test_what_is_not_measured_stays_unknown_and_teaches_nothing():
    table = taught(days=14)
    before = table.copy()
    values = np.full((1, 4), np.nan, np.float32)
    cycle.learn(
        table,
        values,
        values,
        np.ones((1, 4), np.float32),
        target_ms=np.array([MONDAY]),
        step_ms=np.array([HOUR]),
        settled=np.ones((1, 4), np.uint32),
    )
    assert np.array_equal(table, before)
    assert np.isnan(forecast(table, [np.nan] * 10, MONDAY)).all()
    assert forecast(table, [np.nan] * 8 + [50, 50], MONDAY)[0] == pytest.approx(
        forecast(table, [50, 50], MONDAY)[0], rel=1e-6
    )


@given(
    st.lists(st.floats(0, 1e8, width=32), min_size=1, max_size=40),
    st.floats(0, 1e8, width=32),
    st.floats(np.float32(1e-6), 1e8, width=32),
)
def test_whatever_comes_an_hour_stays_within_bounds(came, mean, scale):
    table = np.zeros((1, 4, cycle.ENTRIES), np.float16)
    for turn, value in enumerate(came):
        before = table.copy()
        cycle.learn(
            table,
            np.full((1, 4), value, np.float32),
            np.full((1, 4), mean, np.float32),
            np.full((1, 4), scale, np.float32),
            target_ms=np.array([MONDAY + turn * HOUR]),
            step_ms=np.array([HOUR]),
            settled=np.full((1, 4), turn, np.uint32),
        )
        assert np.abs(table.astype(np.float32) - before).max() <= cycle.LARGEST_STEP + 1e-3
    assert np.abs(table).max() <= cycle.FARTHEST + 1e-3
    said = forecast(table, [value, mean], MONDAY)
    assert np.isfinite(said).all()
    assert (said >= 0).all()


def test_between_two_hours_it_goes_straight():
    table = np.zeros((1, 4, 24))
    table[0, :, 6], table[0, :, 7] = 1, 3
    times = MONDAY + 6 * HOUR + HOUR // 2 + np.array([[0, HOUR // 4, HOUR // 2, HOUR]])
    assert hours.between(table, times, hours.of_day)[0, :, 0] == pytest.approx([1, 1.5, 2, 3])


def test_weekends_are_saturday_and_sunday():
    days = np.arange(7) * DAY + MONDAY
    assert hours.is_weekend(days // HOUR).tolist() == [False] * 5 + [True] * 2
    assert hours.of_week((days[4:6] + 5 * HOUR) // HOUR).tolist() == [5, 29]
