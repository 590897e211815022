"""What is looked up in a table of many links is, to the bit, what each link's own series gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.columns import Columns
from pba_service.domain.online.column_timeline import ColumnTimeline
from pba_service.domain.online.timeline import Sought, Timeline
from pba_service.domain.samples import Series
from pba_service.domain.window import windows_at
from pba_service.domain.window_columns import windows_of

MINUTE = 60_000
START = 1_800_000_000_000
SLOTS = 14


@st.composite
def series(draw):
    """A link as links are: regular, jittering, with gaps, faster or slower than configured, metrics now and then."""
    count = draw(st.integers(1, 60))
    step = draw(st.sampled_from([20_000, MINUTE, MINUTE, 5 * MINUTE]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    gaps = np.full(count, step) + rng.integers(0, draw(st.sampled_from([1, 3_000, step // 2])), count)
    missing = rng.random(count) < draw(st.sampled_from([0, 0.1, 0.3]))
    gaps += missing * step * rng.integers(1, 8, count)
    values = rng.random((count, 4), np.float32)
    for metric, share in enumerate(draw(st.tuples(*[st.sampled_from([0, 0, 0.2, 1])] * 4))):
        values[rng.random(count) < share, metric] = np.nan
    return Series(START + np.cumsum(gaps), values)


@given(st.lists(series(), min_size=1, max_size=6), st.integers(0, 5))
def test_windows_are_those_of_each_link(links, back):
    columns = Columns.of(links)
    last = np.maximum(columns.last - back, 0)
    found = windows_of(columns.up_to(np.arange(len(links)), last), SLOTS, MINUTE)
    for i, one in enumerate(links):
        expected = windows_at(Series(one.times_ms, one.values), last[i : i + 1], SLOTS, MINUTE)
        assert found.step_ms[i] == expected.step_ms[0]
        assert found.made_at_ms[i] == expected.made_at_ms[0]
        assert found.have[i] == expected.have[0]
        assert found.usable[i] == expected.usable[0]
        np.testing.assert_array_equal(found.values[i], expected.values[0])


@given(st.lists(series(), min_size=1, max_size=6), st.lists(st.tuples(st.integers(0, 5), st.integers(-90, 400))))
def test_the_first_later_sample_is_that_of_each_link(links, asked):
    asked = [(i, START + minutes * MINUTE) for i, minutes in asked if i < len(links)]
    # the very times of samples too: the one asked for is the one after
    asked += [(i, int(time_ms)) for i, one in enumerate(links) for time_ms in one.times_ms[::7]]
    link, wanted = np.array([i for i, _ in asked], np.intp), np.array([time_ms for _, time_ms in asked], np.int64)
    found = Columns.of(links)[link].places_after(wanted)
    assert found.tolist() == [np.searchsorted(links[i].times_ms, time_ms, side="right") for i, time_ms in asked]


@given(st.lists(series(), min_size=1, max_size=6), st.lists(st.tuples(st.integers(0, 5), st.integers(-90, 400))))
def test_the_nearest_sample_is_that_of_each_link(links, asked):
    columns = Columns.of(links)
    asked = [(i, minutes) for i, minutes in asked if i < len(links)]
    link = np.array([i for i, _ in asked], np.intp)
    wanted = np.array([START + minutes * MINUTE // 2 for _, minutes in asked], np.int64)
    tolerance = np.full(len(link), 45_000)
    newest = columns.newest_ms
    expected = Timeline(links, newest, np.full(len(links), MINUTE)).nearest(Sought(link, wanted, tolerance))
    found = ColumnTimeline(columns).nearest(Sought(link, wanted, tolerance))
    np.testing.assert_array_equal(found.exists, expected.exists)
    met = expected.exists
    np.testing.assert_array_equal(found.measured_at_ms[met], expected.measured_at_ms[met])
    np.testing.assert_array_equal(found.values, expected.values)


def test_stretches_may_be_cut_and_chosen():
    links = [Series(START + MINUTE * np.arange(n), np.full((n, 4), n, np.float32)) for n in (3, 7)]
    columns = Columns.of(links)
    np.testing.assert_array_equal(columns.newest_ms, [START + 2 * MINUTE, START + 6 * MINUTE])
    assert len(columns[1:]) == 1
    assert len(columns[1:].series(0)) == 7
    np.testing.assert_array_equal(
        columns.up_to(np.array([1, 1]), np.array([0, 5])).newest_ms, START + MINUTE * np.array([0, 5])
    )
    np.testing.assert_array_equal(
        columns[np.array([0, 1, 1])].places_after(np.array([START - 1, START, START + 9 * MINUTE])), [0, 1, 7]
    )
