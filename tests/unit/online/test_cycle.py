"""The daily course: learnt from what came, laid on the level now, and not led astray by bursts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.online import cycle, hours

MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR
MONDAY = 4 * DAY  # 1970-01-05
SATURDAY = 9 * DAY


def course(time_ms):
    """From Monday to Friday between a half and one and a half of the level, at weekends half as much."""
    time_ms = np.asarray(time_ms)
    swing = np.where(hours.is_weekend(time_ms // HOUR), 0.25, 0.5)
    return 1 + swing * np.cos(2 * np.pi * (time_ms % DAY) / DAY)


def taught(days, level=100.0, at=course, step_ms=HOUR):
    """A course after so many days, all four metrics alike."""
    learnt = np.zeros(1, cycle.COURSE)
    times = MONDAY + step_ms // 2 + np.arange(days * DAY // step_ms) * step_ms
    values = level * at(times)
    for turn, (target, value) in enumerate(zip(times, values, strict=True)):
        newest = values[max(turn - 100, 0) : turn]
        teach(learnt, value, newest.mean() if turn else level, target, step_ms=step_ms, settled=turn)
    return learnt


def teach(learnt, value, mean, target_ms, *, step_ms=HOUR, settled=1):
    cycle.learn(
        learnt,
        np.full((1, 4), value, np.float32),
        np.full((1, 4), mean, np.float32),
        target_ms=np.array([target_ms]),
        step_ms=np.array([step_ms]),
        settled=np.full((1, 4), settled, np.uint32),
    )


def forecast(learnt, values, made_ms, *, step_ms=HOUR, ahead_ms=HOUR, scale=20.0):
    return cycle.forecast(
        learnt,
        np.broadcast_to(np.float32(values), (1, 4, len(values))),
        np.full((1, 4), scale, np.float32),
        made_at_ms=np.array([made_ms]),
        step_ms=np.array([step_ms]),
        target_ms=np.array([made_ms + ahead_ms]),
    )


def test_before_anything_is_known_the_newest_tell_the_level_and_a_spike_among_them_does_not():
    learnt = np.zeros(1, cycle.COURSE)
    assert forecast(learnt, [900, 3, 3, 3, 3, 3], MONDAY) == pytest.approx(3)
    assert 2 < forecast(learnt, [900, 1, 5, 2, 4, 3], MONDAY)[0, 0] < 4
    assert forecast(learnt, [3, 3, 3, 3, 900], MONDAY, scale=0) == pytest.approx(3)


@pytest.mark.parametrize("day", [MONDAY, SATURDAY])
def test_it_foresees_the_course_on_whatever_level_the_link_is(day):
    """Also on the ramps, where whoever follows the link is late, and at weekends, which have a course of their own."""
    learnt = taught(days=28)
    for hour in range(6, 24):
        made = day + 28 * DAY + hour * HOUR + HOUR // 2
        for level in (100, 150):
            window = level * course(made - np.arange(9, -1, -1) * HOUR)
            back = 100 * (level / 100) ** cycle.STAYING  # some of the way to the usual level
            said = forecast(learnt, window, made)[0, 0]
            assert said == pytest.approx(back * course(made + HOUR), rel=0.06 if level == 100 else 0.08)


def test_what_changes_within_a_quarter_of_an_hour_is_foreseen_at_a_fine_cadence():
    """A mean of 100 samples has most of the course itself there; measured against it the course would half vanish."""
    step = 5 * MINUTE
    learnt = taught(days=14, step_ms=step)
    ahead = 15 * MINUTE
    missed, moved = [], []
    for made in MONDAY + 14 * DAY + np.arange(0, DAY, 20 * MINUTE):
        window = 100 * course(made - np.arange(9, -1, -1) * step)
        comes = 100 * course(made + ahead)
        missed.append(abs(forecast(learnt, window, made, step_ms=step, ahead_ms=ahead)[0, 0] - comes))
        moved.append(abs(window[-1] - comes))
    assert np.mean(missed) < 0.35 * np.mean(moved)


def test_after_a_shift_of_level_it_is_expected_to_return_a_little():
    learnt = taught(days=28, at=lambda times: np.ones(len(times)))
    said = forecast(learnt, [200.0] * 10, MONDAY + 28 * DAY)[0, 0]
    assert said == pytest.approx(100 * 2**cycle.STAYING, rel=0.01)


def test_one_odd_sample_among_the_newest_does_not_move_the_level():
    learnt, made = taught(days=28), MONDAY + 28 * DAY + 12 * HOUR + HOUR // 2
    window = 100 * course(made - np.arange(9, -1, -1) * HOUR)
    window[-2] *= 50
    assert forecast(learnt, window, made, scale=5)[0, 0] == pytest.approx(100 * course(made + HOUR), rel=0.15)


def test_what_is_not_measured_stays_unknown_and_teaches_nothing():
    learnt = taught(days=14)
    before = learnt.copy()
    teach(learnt, np.nan, 100, MONDAY)
    teach(learnt, 100, np.nan, MONDAY)  # came, but was not forecast
    assert np.array_equal(learnt, before)
    assert np.isnan(forecast(learnt, [np.nan] * 10, MONDAY)).all()
    assert forecast(learnt, [np.nan] * 8 + [50, 50], MONDAY)[0] == pytest.approx(
        forecast(learnt, [50, 50], MONDAY)[0], rel=1e-6
    )


def test_a_metric_that_was_never_forecast_does_not_spoil_the_first_level():
    learnt = np.zeros(1, cycle.COURSE)
    teach(learnt, 100, np.nan, MONDAY, settled=0)
    teach(learnt, 100, 100, MONDAY + HOUR, settled=0)
    assert forecast(learnt, [100.0] * 10, MONDAY + 2 * HOUR) == pytest.approx(100, rel=0.01)


@given(
    st.lists(st.floats(0, 1e8, width=32), min_size=1, max_size=40),
    st.floats(0, 1e8, width=32),
    st.floats(0, 1e8, width=32),
)
def test_whatever_comes_an_hour_stays_within_bounds(came, mean, scale):
    learnt = np.zeros(1, cycle.COURSE)
    for turn, value in enumerate(came):
        teach(learnt, value, mean, MONDAY + turn * HOUR, settled=turn)
        assert np.abs(learnt["hours"]).max() <= cycle.FARTHEST
        assert np.isfinite(learnt["level"]).all()
        assert (learnt["error"] > 0).all()
    said = forecast(learnt, [value, mean], MONDAY, scale=scale)
    assert np.isfinite(said).all()
    assert (said >= 0).all()


def test_one_burst_moves_its_hour_by_no_more_than_a_few_usual_errors():
    learnt = taught(days=14)
    before = learnt.copy()
    teach(learnt, 1e6, 100, MONDAY + 14 * DAY + 12 * HOUR + HOUR // 2, settled=14 * 24)
    most = cycle.ERROR_LIMIT * before["error"].max()
    assert 0 < np.abs(learnt["hours"].astype(np.float32) - before["hours"]).max() <= most


def test_between_two_hours_it_goes_straight():
    table = np.zeros((1, 24, 4), np.float32)
    table[0, 6], table[0, 7] = 1, 3
    times = MONDAY + 6 * HOUR + HOUR // 2 + np.array([[0, HOUR // 4, HOUR // 2, HOUR]])
    assert hours.between(table, times, hours.OF_DAY)[0, :, 0] == pytest.approx([1, 1.5, 2, 3])


def test_smoothed_an_hour_is_half_its_neighbours_and_a_slope_stays_as_it_is():
    table = np.zeros((1, 24, 4), np.float16)
    table[0, 6] = 4
    middles = MONDAY + HOUR // 2 + np.array([[4, 5, 6, 7, 8]]) * HOUR
    assert hours.smoothed(table, middles, hours.OF_DAY)[0, :, 0].tolist() == [0, 1, 2, 1, 0]
    table[0] = np.arange(24)[:, None]
    times = MONDAY + 6 * HOUR + np.array([[0, HOUR // 4, HOUR]])
    assert np.array_equal(hours.smoothed(table, times, hours.OF_DAY), hours.between(table, times, hours.OF_DAY))


@pytest.mark.parametrize("within", [0, HOUR // 4, HOUR // 2, HOUR - 1])
def test_what_is_moved_at_a_time_is_what_is_said_there(within):
    table = np.zeros((1, 48, 4), np.float32)
    at = np.array([SATURDAY - HOUR + within])
    hours.move(table, np.full((1, 4), 0.5), at, hours.OF_WEEK, np.float32(2))
    assert hours.between(table, at, hours.OF_WEEK) == pytest.approx(0.5)
    hours.move(table, np.full((1, 4), 9.0), at, hours.OF_WEEK, np.float32(2))
    assert table.max() == pytest.approx(2)


def test_weekends_are_saturday_and_sunday():
    days = np.arange(7) * DAY + MONDAY
    assert hours.is_weekend(days // HOUR).tolist() == [False] * 5 + [True] * 2
    assert hours.of_week((days[4:6] + 5 * HOUR) // HOUR).tolist() == [5, 29]
