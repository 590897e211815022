"""The link simulator: the same link however it is read, and a link that behaves like one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import Limits, LinkInfo, one_link_batch, validate
from pba_service.domain.simulate import LinkSimulator, simulate

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_700_000_000_000

profiles = st.sampled_from(sorted(PROFILES)).map(PROFILES.__getitem__)
seeds = st.integers(0, 2**63)


def week(name, seed=0):
    return simulate(PROFILES[name], seed, START, 7 * 1440, MINUTE)


@given(profiles, seeds, st.integers(0, 4 * 10**12), st.lists(st.integers(1, 40 * HOUR), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_link_is_the_same_in_whatever_chunks_it_is_read(profile, seed, start, lengths):
    edges = np.cumsum([start, *lengths]).tolist()
    cadence = 7 * MINUTE
    whole = LinkSimulator(profile, seed).measured(edges[0], edges[-1], cadence)
    parts = [LinkSimulator(profile, seed).measured(a, b, cadence) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(whole.times_ms, np.concatenate([part.times_ms for part in parts]))
    assert np.array_equal(whole.values, np.concatenate([part.values for part in parts]), equal_nan=True)


@given(profiles, seeds, st.lists(st.integers(0, 3 * DAY), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_times_may_be_asked_for_in_any_order_and_again(profile, seed, offsets):
    simulator = LinkSimulator(profile, seed)
    times = START + np.array(offsets, np.int64)
    together = simulator.at(times)
    for position in range(len(times)):
        assert np.array_equal(simulator.at(times[position : position + 1])[0], together[position], equal_nan=True)


@given(profiles, seeds, st.integers(MINUTE // 60, 30 * MINUTE))
@settings(max_examples=30, deadline=None)
def test_every_sample_keeps_the_contract(profile, seed, cadence):
    series = simulate(profile, seed, START, 500, cadence).series
    assert np.all(np.diff(series.times_ms) > 0)
    batch = one_link_batch(LinkInfo("x"), series.times_ms, series.values)
    good, refusals = validate(batch, int(series.times_ms[-1]), Limits(0, 10**15))
    assert good.all(), refusals


def test_seeds_and_kinds_are_links_of_their_own():
    times = START + MINUTE * np.arange(500, dtype=np.int64)
    links = [LinkSimulator(profile, seed).at(times)[:, 1] for profile in PROFILES.values() for seed in range(4)]
    for position, link in enumerate(links):
        for other in links[:position]:
            both = np.isfinite(link) & np.isfinite(other)
            assert abs(np.corrcoef(link[both], other[both])[0, 1]) < 0.9
            assert not np.allclose(link[both], other[both])


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_oracle_is_better_than_forecasters_that_only_see_samples(name):
    errors = []
    for seed in range(3):
        simulated = week(name, seed)
        times, values = simulated.series.times_ms, simulated.series.values
        target = np.searchsorted(times, times + 15 * MINUTE)
        made = np.flatnonzero(target < len(times))[10:]
        actual = values[target[made]]
        recent = np.stack([values[made - age] for age in range(10)])
        steady = np.isfinite(recent).all(axis=(0, 2)) & np.isfinite(actual).all(axis=1)
        forecasts = np.stack([simulated.oracle[made], values[made], np.median(recent, axis=0)])
        errors.append(np.abs(forecasts - actual)[:, steady].mean(axis=1))
    oracle, last, median = np.sum(errors, axis=0)
    assert (oracle < 0.97 * last).all()
    assert (oracle < 0.99 * median).all()


def test_the_oracle_is_a_median():
    above = []
    for seed in range(8):
        simulated = week("wan", seed)
        times, values = simulated.series.times_ms, simulated.series.values
        target = np.searchsorted(times, times + 15 * MINUTE)
        made = np.flatnonzero(target < len(times))
        above.append((values[target[made]] > simulated.oracle[made])[:, [0, 1, 3]].mean(axis=0))
    assert np.abs(np.mean(above, axis=0) - 0.5).max() < 0.03


def test_what_a_sample_says_hangs_together():
    simulated = week("wan")
    values = simulated.series.values[np.isfinite(simulated.series.values).all(axis=1)]
    scarce = values[:, 0] < np.quantile(values[:, 0], 0.03)
    assert (values[scarce, 1:].mean(axis=0) > 1.3 * values[~scarce, 1:].mean(axis=0)).all()
    assert np.corrcoef(values[:, 1], values[:, 3])[0, 1] > 0.2


def test_the_daily_kind_follows_the_day():
    series = week("daily").series
    hours = (series.times_ms // HOUR) % 24
    by_hour = np.array([np.nanmedian(series.values[hours == hour, 0]) for hour in range(24)])
    assert by_hour.max() > 2 * by_hour.min()


def test_an_outage_loses_everything_and_times_nothing():
    series = week("wireless").series
    down = series.values[:, 0] == 0
    assert 3 <= down.sum() < 200
    assert np.nanmin(series.values[down, 2]) == 1
    assert np.isnan(series.values[down][:, [1, 3]]).all()


def test_levels_shift_and_stay():
    series = simulate(PROFILES["transcontinental"], 1, START, 20 * 1440, MINUTE).series
    half_days = (series.times_ms - START) // (DAY // 2)
    floor = np.array([np.nanquantile(series.values[half_days == k, 1], 0.05) for k in np.unique(half_days)])
    steps = np.abs(np.diff(np.log(floor)))
    assert (steps > 0.05).sum() >= 3
    assert (steps < 0.03).sum() >= 10


@pytest.mark.parametrize("name", ["wan", "wireless"])
def test_midnight_is_a_minute_like_any_other(name):
    days = np.arange(40, dtype=np.int64)[:, None] * DAY + START // DAY * DAY
    bandwidth = LinkSimulator(PROFILES[name], 5).oracle((days + MINUTE * np.arange(-30, 30)).ravel(), horizon_ms=0)[
        :, 0
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # outages
        steps = np.abs(np.diff(np.log(bandwidth.reshape(40, 60)), axis=1))
    typical = np.nanmedian(steps, axis=0)
    assert typical[29] < 2 * np.median(typical)


def test_samples_go_missing_and_come_off_the_beat():
    simulated = simulate(PROFILES["wireless"], 0, START, 5000, MINUTE)
    assert 0.9 * 5000 < len(simulated.series) < 0.99 * 5000
    assert np.isnan(simulated.series.values[:, 0]).any()
    intervals = np.diff(simulated.series.times_ms)
    assert 0.6 * MINUTE < intervals.min() < 0.9 * MINUTE
    assert intervals.max() > 1.9 * MINUTE
    assert len(simulated.oracle) == len(simulated.series)
