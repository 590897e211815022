"""When a replayed sample is sent, and what time it claims."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pba_service.cli.replay import plan
from pba_service.domain.samples import LinkInfo, Series
from pba_service.files import LinkMeasurements

NOW_MS = 1_750_000_000_000
HOUR_MS = 3_600_000


def link(name, times_ms):
    times = np.array(times_ms, np.int64)
    values = np.full((len(times), 4), np.nan, np.float32)
    values[:, 1] = np.arange(len(times))
    return LinkMeasurements(LinkInfo(name, region="eu"), Series(times, values))


def planned(links, *, speed=1.0, past_ms=HOUR_MS, prefix="", together=False):
    return plan(links, start_ms=NOW_MS, speed=speed, past_ms=past_ms, prefix=prefix, together=together)


def of_link(made, position):
    return made.link_index == position


times = st.lists(st.integers(0, 10**11), min_size=1, max_size=30, unique=True).map(sorted)


@given(st.lists(times, min_size=1, max_size=4), st.sampled_from([0.0, 0.5, 1.0, 60.0, 1e6]), st.booleans())
def test_nothing_is_ever_in_the_future_and_cadences_stay(links, speed, together):
    measured = [link(str(i), some) for i, some in enumerate(links)]
    made = planned(measured, speed=speed, together=together)
    assert (np.diff(made.send_s) >= 0).all()
    assert (made.times_ms <= NOW_MS + made.send_s * 1000 + 1).all()
    shifts = set()
    for position, one in enumerate(measured):
        mine = of_link(made, position)
        shift = made.times_ms[mine][0] - one.series.times_ms[0]
        shifts.add(int(shift))
        np.testing.assert_array_equal(made.times_ms[mine] - shift, one.series.times_ms)
        np.testing.assert_array_equal(made.values[mine], one.series.values)
    if together:
        assert len(shifts) == 1


def test_at_speed_1_the_past_ends_now_and_the_rest_comes_at_its_own_time():
    made = planned([link("a", range(0, 4 * HOUR_MS + 1, HOUR_MS))])
    assert made.send_s.tolist() == [0, 0, 3600, 7200, 10800]
    assert (made.times_ms - NOW_MS).tolist() == [-HOUR_MS, 0, HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS]
    assert made.backdated == 2


def test_faster_than_that_the_last_sample_comes_at_its_own_time():
    made = planned([link("a", range(0, 4 * HOUR_MS + 1, HOUR_MS))], speed=3600.0)
    assert made.send_s.tolist() == [0, 0, 1, 2, 3]
    assert made.times_ms[-1] == NOW_MS + 3000


def test_at_speed_0_everything_is_past():
    made = planned([link("a", [0, 5, 9]), link("b", [1000])], speed=0.0)
    assert made.backdated == 4
    assert made.times_ms[of_link(made, 0)].tolist() == [NOW_MS - 9, NOW_MS - 4, NOW_MS]
    assert made.times_ms[of_link(made, 1)].tolist() == [NOW_MS]


def test_links_of_other_years_all_end_now_unless_kept_together():
    years = [link("old", [0, HOUR_MS]), link("new", [10**12, 10**12 + HOUR_MS])]
    apart = planned(years, speed=0.0)
    assert apart.times_ms[of_link(apart, 0)][-1] == apart.times_ms[of_link(apart, 1)][-1] == NOW_MS
    together = planned(years, speed=0.0, together=True)
    assert together.times_ms[of_link(together, 0)][-1] == NOW_MS - 10**12


def test_a_short_file_still_has_something_to_follow():
    made = planned([link("a", range(0, 600_001, 60_000))], past_ms=6 * HOUR_MS)
    assert made.backdated == 6
    assert made.send_s[-1] == 300


def test_what_is_too_old_is_left_out():
    made = planned([link("a", range(0, 10 * HOUR_MS, HOUR_MS))], speed=0.0)
    kept = made.since(NOW_MS - 2 * HOUR_MS)
    assert kept.times_ms.tolist() == [NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS, NOW_MS]
    assert len(kept.send_s) == len(kept.link_index) == len(kept.values) == 3


def test_batches_name_their_links_once_and_keep_order():
    made = planned([link("a", range(12_000)), link("b", range(12_000))], speed=0.0, prefix="re/")
    batches = list(made.batches(0, 24_000))
    assert [len(batch) for batch in batches] == [10_000, 10_000, 4_000]
    assert {info for batch in batches for info in batch.links} == {
        LinkInfo("re/a", region="eu"),
        LinkInfo("re/b", region="eu"),
    }
    assert [batch.links[position].link_id for batch in batches for position in batch.link_index.tolist()] == [
        "re/" + "ab"[position] for position in made.link_index.tolist()
    ]
    assert all(batch.present.sum(axis=1).tolist() == [1] * len(batch) for batch in batches)
