"""The parts of online learning, each held to what it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.online import EXPERTS, codes, combine, confidence, hourly, intervals, pull
from pba_service.domain.online.experts import HOURLY, MODEL, TAIL_LEVELS, listen, metrics_last
from pba_service.domain.online.timeline import Sought, Timeline
from pba_service.domain.samples import MAXIMA, Series

LAST = EXPERTS.index("last")


def new_link():
    """Log weights and habit of a link of which nothing is known."""
    return np.log(combine._PRIOR)[None, None], combine._PRIOR[None, None]


def learnt(errors, rounds=1, start=None):
    """Log weights and habit after some rounds of the same errors, the combination's own the weighted mean of them."""
    errors = np.asarray(errors, np.float32)[None, None]
    weight, habit = start or new_link()
    for _ in range(rounds):
        own = (np.exp(weight) * np.nan_to_num(errors)).sum(axis=-1)
        weight, habit = combine.learn(weight, habit, errors, own, np.ones((1, 1), np.float32))
    return weight, habit


def test_the_best_forecaster_takes_over_and_is_left_again():
    errors = np.ones(len(EXPERTS))
    errors[LAST] = 0.2
    weight, habit = learnt(errors, 100)
    assert np.exp(weight[0, 0, LAST]) > 0.8
    errors[LAST], errors[MODEL] = 1, 0.2
    assert np.exp(learnt(errors, 100, (weight, habit))[0][0, 0, MODEL]) > 0.8


def test_what_is_forgotten_gives_way_to_what_the_link_is_used_to():
    favours_last, favours_model = np.ones(len(EXPERTS)), np.ones(len(EXPERTS))
    favours_last[LAST], favours_model[MODEL] = 0.2, 0.2
    used_to_last = learnt(favours_last, 2_000)
    assert used_to_last[1][0, 0, LAST] > 5 * combine._PRIOR[LAST]
    assert used_to_last[1].sum() == pytest.approx(1, abs=1e-5)
    turned = learnt(favours_model, 100, used_to_last)
    new = learnt(favours_model, 100)
    assert turned[0][0, 0, LAST] > new[0][0, 0, LAST] + 1  # it will be back sooner
    assert np.exp(turned[0][0, 0, MODEL]) > 0.8


def test_little_is_forgotten_while_those_that_count_do_alike():
    errors = np.ones(len(EXPERTS))
    errors[LAST] = 0.2
    weight, habit = learnt(errors, 100)
    errors[:] = 1
    after, usual = learnt(errors, 1_000, (weight, habit))
    assert np.exp(after) == pytest.approx(np.exp(weight), abs=0.01)
    assert usual == pytest.approx(habit, abs=0.01)
    errors[EXPERTS.index("mean100")] = 2  # whose weight is a ten-thousandth
    after, _ = learnt(errors, 1_000, (weight, habit))
    assert np.exp(after[0, 0, LAST]) > np.exp(weight[0, 0, LAST]) - 0.05


def test_the_combination_is_hardly_worse_than_the_best_forecaster():
    """The regret over 1,000 forecasts of noisy forecasters, the best of which is not known before."""
    rng = np.random.default_rng(3)
    (weight, habit), scale = new_link(), np.ones((1, 1), np.float32)
    quality = np.linspace(0.5, 2, len(EXPERTS))
    quality[MODEL] = 3  # the prior favours what turns out to be the worst
    own_loss, losses = 0.0, np.zeros(len(EXPERTS))
    for _ in range(1000):
        said = (rng.standard_normal(len(EXPERTS)) * quality).astype(np.float32)
        own = (combine.weights(weight, np.ones_like(weight, bool)) * said).sum(axis=-1)
        weight, habit = combine.learn(weight, habit, np.abs(said)[None, None], np.abs(own), scale)
        own_loss += abs(float(own[0, 0]))
        losses += np.abs(said)
    assert own_loss < 1.05 * losses.min()


@given(st.integers(0, 2**32 - 1))
def test_the_forecast_is_the_weighted_mean_of_those_awake_and_the_hourly_one_rests_on_the_others(seed):
    rng = np.random.default_rng(seed)
    log_weight = np.log(rng.dirichlet(np.ones(len(EXPERTS)), (3, 4))).astype(np.float32)
    experts = rng.uniform(0.1, 0.9, (3, 4, len(EXPERTS))).astype(np.float32)
    experts[rng.random(experts.shape) < 0.3] = np.nan
    experts[0, 0] = np.nan  # of an absent metric nobody says anything
    usual = rng.uniform(-0.1, 0.1, (3, 4)).astype(np.float32)
    given_others = np.delete(experts, HOURLY, axis=2)
    mixed, others = combine.combine(log_weight, experts, usual)
    weight = np.where(np.isnan(given_others), 0, np.delete(np.exp(log_weight), HOURLY, axis=2))
    with np.errstate(invalid="ignore"):
        expected = (np.nan_to_num(given_others) * weight).sum(axis=2) / weight.sum(axis=2)
    assert others == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert experts[..., HOURLY] == pytest.approx(np.clip(expected + usual, 0, 1), rel=1e-4, abs=1e-6, nan_ok=True)
    share = combine.weights(log_weight, ~np.isnan(experts))
    whole = np.where(share.any(axis=2), (share * np.nan_to_num(experts)).sum(axis=2), np.nan)
    assert mixed == pytest.approx(whole, rel=1e-5, abs=1e-6, nan_ok=True)


def test_single_values_draw_the_forecast_as_far_as_errors_said_they_should():
    rng = np.random.default_rng(5)
    one, strength = np.ones((1, 4), np.float32), np.zeros((1, 4, 2), np.float32)
    # a part of what the newest value is off comes true on the first two metrics, of yesterday's on the first and last
    follows = np.array([[[0.4, 0.3], [0.4, 0.0], [0.0, 0.0], [0.0, 0.3]]], np.float32)
    for _ in range(4000):
        off = rng.standard_normal((1, 4, 2)).astype(np.float32)
        true = (follows * off).sum(axis=2) + 0.5 * rng.standard_normal((1, 4)).astype(np.float32)
        said = pull.drawn(0 * one, off, strength, one)
        strength = pull.learn(strength, true - said, off - said[..., None])
    assert strength == pytest.approx(follows, abs=0.12)
    mixed, far = 10 * one, np.array([[[110, 12], [110, -90], [10, np.nan], [110, np.nan]]], np.float32)
    moved, part = pull.drawn(mixed, far, strength, one), pull.share(mixed, far, strength, one)
    whole = (1 - part.sum(axis=2)) * mixed + (part * np.nan_to_num(far)).sum(axis=2)
    assert whole == pytest.approx(moved, rel=1e-5)
    assert (np.abs(moved - 10) <= 2 * pull.MOST * pull.REACH).all()  # one wild value moves it a little
    nothing = np.full((1, 4, 2), np.nan, np.float32)
    assert np.array_equal(pull.learn(strength, one, nothing), strength)
    assert np.array_equal(pull.learn(strength, nothing[..., 0], 1 + 0 * strength), strength)
    assert np.array_equal(pull.share(mixed, nothing, strength, one), np.zeros((1, 4, 2)))


def test_a_sleeping_forecaster_keeps_its_standing():
    errors = np.full((1, 1, len(EXPERTS)), 1.0, np.float32)
    errors[..., LAST], errors[..., MODEL] = np.nan, 3.0
    (weight, habit), scale = new_link(), np.ones((1, 1), np.float32)
    for _ in range(30):
        weight, habit = combine.learn(weight, habit, errors, np.ones((1, 1), np.float32), scale)
    after = np.exp(weight)[0, 0]
    assert after[LAST] == pytest.approx(after[EXPERTS.index("ewma")], rel=1e-3)  # which was as good as the combination
    assert after[LAST] > 2 * after[MODEL]
    share = combine.weights(weight, np.isfinite(errors))[0, 0]
    assert share[LAST] == 0
    assert share.sum() == pytest.approx(1, abs=1e-6)


def test_nothing_is_learnt_where_nothing_was_measured():
    even = np.full((1, 1, len(EXPERTS)), 1 / len(EXPERTS), np.float32)
    missing, scale = np.full((1, 1), np.nan, np.float32), np.ones((1, 1), np.float32)
    after, habit = combine.learn(np.log(even), even, np.full(even.shape, np.nan, np.float32), missing, scale)
    assert np.array_equal(after, np.log(even))
    assert np.array_equal(habit, even)


@given(st.lists(st.floats(0, 1e6, width=32), min_size=10, max_size=120), st.integers(0, 100))
def test_simple_forecasters_are_what_they_are_called(values, unknown):
    values = np.array(values, np.float32)
    unknown = min(unknown, len(values) - 10)
    values[:unknown] = np.nan
    window = np.full((1, len(values), 6), np.nan, np.float32)
    window[0, :, 1] = values
    heard = listen(metrics_last(window))
    said = dict(zip(EXPERTS, heard.experts[0, 1], strict=True))
    known = values[unknown:].astype(float)
    assert said["last"] == known[-1]
    for slots in (10, 30, 100):
        assert said[f"mean{slots}"] == pytest.approx(known[-slots:].mean(), rel=1e-4, abs=1e-6)
        assert said[f"median{slots}"] == pytest.approx(np.median(known[-slots:]), rel=1e-5, abs=1e-6)
    weight = 0.7 ** np.arange(len(known))[::-1]
    assert said["ewma"] == pytest.approx((known * weight).sum() / weight.sum(), rel=1e-3, abs=max(known) * 1e-4 + 1e-9)
    assert np.isnan([said["seasonal"], said["model"]]).all()
    assert heard.tails[0, 1] == pytest.approx(np.quantile(known[-100:], TAIL_LEVELS), rel=1e-4, abs=1e-3)
    assert np.isnan(heard.experts[0, [0, 2, 3]]).all()
    assert np.isnan(heard.tails[0, [0, 2, 3]]).all()


@given(st.floats(-1e9, 1e9, allow_nan=False, width=32))
def test_packed_distances_keep_sign_and_size(distance):
    back = float(codes.unpack(codes.pack(np.array([distance], np.float32)))[0])
    if abs(distance) < 2**-5:
        assert abs(back) <= 2**-5
    elif abs(distance) > 2**15:
        assert back == pytest.approx(np.sign(distance) * 2**15, rel=0.06)
    else:
        assert back == pytest.approx(distance, rel=0.06)


def test_packing_keeps_absence():
    assert np.isnan(codes.unpack(codes.pack(np.array([np.nan], np.float32)))[0])


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((0.05, 0.1, 0.5, 0.9, 0.95), [0, 1, 2, 3, 4]),
        ((0.05, 0.25, 0.5, 0.75, 0.95), [0, 0.25, 2, 3.75, 4]),
        ((0.5,), [np.nan, np.nan, 0, np.nan, np.nan]),
        ((0.25, 0.75), [np.nan, np.nan, 0.5, np.nan, np.nan]),
        ((0.6, 0.9), [np.nan, np.nan, np.nan, 1, np.nan]),
    ],
)
def test_a_models_quantiles_are_read_between_its_levels_and_never_beyond(levels, expected):
    output = np.tile(np.arange(len(levels), dtype=np.float32), (1, 4, 1))
    read = intervals.model_quantiles(output, levels)[0, 0]
    np.testing.assert_allclose(read, expected, atol=1e-6)
    tails = intervals.model_tails(output, levels, intervals.model_median(output, levels))[0, 0]
    np.testing.assert_allclose(tails, np.delete(expected, 2) - expected[2], atol=1e-6)


@pytest.mark.parametrize("noise", ["normal", "exponential", "jumping"])
def test_intervals_cover_what_they_say_whatever_the_noise(noise):
    rng = np.random.default_rng(5)
    n = 4000
    draws = {
        "normal": rng.standard_normal(n),
        "exponential": rng.exponential(size=n) - 0.7,
        "jumping": rng.standard_normal(n) * np.where(np.arange(n) // 500 % 2, 6, 1),
    }[noise].astype(np.float32)
    tracked = untracked(1)
    level, scale = np.full((1, 4), 100, np.float32), np.full((1, 4), 1, np.float32)
    nothing = np.full((1, 4, 4), np.nan, np.float32)
    inside, recent = [], level[..., None] + np.array([-1, -0.5, 0.5, 1], np.float32)
    for draw in draws:
        stated = quantiles(level, recent, nothing, level, tracked=tracked, scale=scale)
        assert (np.diff(stated) >= 0).all()
        actual = level + draw
        inside.append((stated[0, 0, [0, 1]] <= actual[0, 0]) & (actual[0, 0] <= stated[0, 0, [4, 3]]))
        tracked = tracked_on(tracked, stated, actual)
        scale = scale + np.float32(0.05) * (np.abs(actual - level) - scale)
    of_90, of_80 = np.mean(inside, axis=0)
    assert of_90 == pytest.approx(0.9, abs=0.015)
    assert of_80 == pytest.approx(0.8, abs=0.015)
    stretches = np.convolve(np.array(inside)[:, 0], np.ones(200) / 200, "valid")
    assert stretches.min() >= 0.8


def test_the_intervals_of_a_constant_link_shrink_to_nothing():
    tracked = untracked(1)
    level, scale = np.full((1, 4), 100, np.float32), np.full((1, 4), 0.01, np.float32)
    nothing = np.full((1, 4, 4), np.nan, np.float32)
    recent = np.repeat(level[..., None], 4, axis=2)
    for _ in range(1000):
        stated = quantiles(level, recent, nothing, level, tracked=tracked, scale=scale)
        tracked = tracked_on(tracked, stated, level)
    assert np.ptp(stated[0, 0]) < 0.01


def test_a_shifted_level_is_inside_the_interval_before_its_first_miss_is_known():
    level, scale = np.full((1, 4), 100, np.float32), np.full((1, 4), 1, np.float32)
    recent, nothing = np.repeat(level[..., None], 4, axis=2), np.full((1, 4, 4), np.nan, np.float32)
    shifted = level + np.array([50, -50, 0, 0.1], np.float32)
    stated = quantiles(level, recent, nothing, shifted, tracked=untracked(1), scale=scale)
    usual = quantiles(level, recent, nothing, level, tracked=untracked(1), scale=scale)
    assert stated[0, 0, 4] == pytest.approx(100 + 0.9 * 50, abs=0.05)
    assert stated[0, 1, 0] == pytest.approx(100 - 0.9 * 50, abs=0.05)
    assert np.array_equal(stated[0, 2:], usual[0, 2:])
    assert np.array_equal(stated[0, :, 1:4], usual[0, :, 1:4])


def test_a_run_of_misses_widens_the_tail_that_they_lie_beyond():
    level, scale = np.full((1, 4), 100, np.float32), np.full((1, 4), 1, np.float32)
    recent, nothing = np.repeat(level[..., None], 4, axis=2), np.full((1, 4, 4), np.nan, np.float32)
    tracked, width = untracked(1), []
    for actual in [level + 1000] * 15 + [level] * 150:
        stated = quantiles(level, recent, nothing, level, tracked=tracked, scale=scale)
        width.append((stated[0, 0] - 100).tolist())
        tracked = tracked_on(tracked, stated, actual)
    before, at_most, after = (np.array(width[at]) for at in (0, 15, -1))
    assert at_most[4] > 4 * before[4]
    assert 1 < at_most[0] / before[0] < 3  # what makes a link restless seldom asks on which side
    assert abs(after[4]) < 1.5 * before[4]


def untracked(links):
    """What is learnt of the intervals of new links."""
    return {
        "offset": np.zeros((links, 4, 4), np.float32),
        "excess": np.zeros((links, 4, 2), np.float32),
        "burst": np.zeros((links, 4, 2), np.float16),
    }


def quantiles(level, recent, model, newest, *, tracked, scale):
    """float32[n, 4, 5], the median among them."""
    tails = intervals.tails(level, recent, model, newest, **tracked, scale=scale)
    stated = np.insert(intervals.stated(tails, level, scale), intervals.MEDIAN, level, axis=2)
    return np.minimum(stated, MAXIMA[:, None])


def tracked_on(tracked, stated, actual):
    tails = np.delete(stated, intervals.MEDIAN, axis=2)
    learnt = intervals.learn(*tracked.values(), tails, actual)
    return dict(zip(tracked, learnt, strict=True))


def test_confidence_becomes_the_hit_rate():
    rng = np.random.default_rng(2)
    coefficients = np.array([[0.0, 0.5, 0.5]], np.float32)
    evidence = np.array([[2.0, 2.0]], np.float32)  # both say 88 %
    said = []
    for _ in range(3000):
        said.append(confidence.confidence(coefficients, evidence)[0])
        coefficients = confidence.learn(coefficients, evidence, np.array([rng.random() < 0.4]))
    assert np.mean(said[-1000:]) == pytest.approx(0.4, abs=0.03)


def test_the_quantiles_probability_of_a_hit():
    quantiles = np.full((3, 4, len(QUANTILES)), np.nan, np.float32)
    quantiles[0, 0] = [95, 97, 100, 103, 105]  # certainly within 20 %
    quantiles[1, 0] = [20, 60, 100, 140, 180]  # half of what lies between the 10 % and 90 % quantiles
    quantiles[2, 3] = [1, 2, 3, 4, 5]  # jitter alone cannot hit
    sure, half, never = confidence.probability_within(quantiles)
    assert sure == pytest.approx(1, abs=0.02)
    assert half == pytest.approx(0.4, abs=0.01)
    assert never == 0
    quantiles[0, 1] = quantiles[1, 0]
    assert confidence.probability_within(quantiles)[0] == pytest.approx(sure * half, rel=0.01)


def test_what_is_certain_to_be_zero_is_a_certain_hit():
    quantiles = np.full((3, 4, len(QUANTILES)), np.nan, np.float32)
    quantiles[0, 0] = 0
    quantiles[1, 0] = [0, 0, 0, 0, 3]
    quantiles[2, 0] = [80, 80, 100, 120, 120]  # both edges count as within
    certain, likely, edges = confidence.probability_within(quantiles)
    assert certain == pytest.approx(1)
    assert likely == pytest.approx(0.85)
    assert edges == pytest.approx(0.9)


@given(st.data())
def test_the_nearest_sample_is_found_among_many_links(data):
    count = data.draw(st.integers(1, 3))
    series, now, wanted, tolerance = [], [], [], []
    step = data.draw(st.integers(1, 20))
    for _ in range(count):
        times = sorted(data.draw(st.sets(st.integers(0, 60), max_size=8)))
        series.append(Series(np.array(times, np.int64), np.array(times, np.float32)[:, None].repeat(4, 1)))
        now.append(data.draw(st.integers(0, 60)))
        wanted.append(data.draw(st.integers(0, 60)))
        tolerance.append(data.draw(st.integers(0, 20)))
    sought = Sought(np.arange(count), np.array(wanted), np.array(tolerance))
    found = Timeline(series, np.array(now), np.full(count, step)).nearest(sought)
    for i in range(count):
        distances = [abs(t - wanted[i]) for t in series[i].times_ms if t <= now[i]]
        if distances and min(distances) <= tolerance[i]:
            assert found.exists[i]
            assert abs(found.measured_at_ms[i] - wanted[i]) == min(distances)
            assert found.measured_at_ms[i] <= now[i]
            assert (found.values[i] == found.measured_at_ms[i]).all()
        else:
            assert not found.exists[i]


def test_what_is_missed_at_each_hour_is_learnt_and_told_between_hours():
    hour_ms, day = 3_600_000, 24
    table, scale = np.zeros((1, 24, 4), np.float32), np.ones((1, 4), np.float32)
    settled = np.zeros((1, 4), np.uint32)
    for k in range(10 * day * 12):
        target = np.array([k * 300_000], np.int64)
        error = np.where(np.arange(4) < 3, np.sin(2 * np.pi * k / (12 * day)) + 1, np.nan).astype(np.float32)[None]
        step = np.array([300_000], np.int64)
        hourly.learn(table, error, scale, target_ms=target, step_ms=step, settled=settled)
        settled = settled + np.uint32([1, 1, 1, 0])
    for hour in (0.0, 3.5, 6.0, 13.25, 23.9):
        told = hourly.usual_error(table, np.array([int(hour * hour_ms)], np.int64))[0]
        assert told[:3] == pytest.approx(np.full(3, np.sin(2 * np.pi * hour / day) + 1), abs=0.15)
        assert told[3] == 0


def test_one_outage_does_not_make_an_hour_bad():
    table, scale = np.zeros((1, 24, 4), np.float32), np.ones((1, 4), np.float32)
    at = {"target_ms": np.zeros(1, np.int64), "step_ms": np.full(1, 60_000), "settled": np.full((1, 4), 2000)}
    hourly.learn(table, np.full((1, 4), -1e6, np.float32), scale, **at)
    assert (np.abs(table) < 0.1).all()
