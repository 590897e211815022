import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pba_service.domain import online
from pba_service.domain.columns import Columns
from pba_service.domain.samples import MAXIMA, Series
from pba_service.domain.window import horizon_ms, windows_at

START_MS = 1_760_000_000_000
STEP_MS = 60_000
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def walk(samples=200, seed=0, step_ms=STEP_MS, metrics=(True, True, True, True)):
    rng = np.random.default_rng(seed)
    level = np.array([80, 30, 0.02, 4]) * np.exp(0.05 * rng.standard_normal((samples, 4)).cumsum(axis=0))
    values = np.minimum(level * np.exp(0.2 * rng.standard_normal((samples, 4))), [1e8, 1e6, 1, 1e6])
    values[:, ~np.array(metrics)] = np.nan
    return Series(START_MS + step_ms * np.arange(samples, dtype=np.int64), values.astype(np.float32))


def guess(windows):
    """A model of sorts: the last value, with a spread of 10 %."""
    return windows[:, -1, :4, None] * np.linspace(0.9, 1.1, len(LEVELS), dtype=np.float32)


class Replay:
    """Advances some links sample by sample."""

    def __init__(self, *series, slots=60, whole_series=False, version="m1", held_as=list):
        self.series = series
        self.slots = slots
        self.whole_series = whole_series
        self.version = version
        self.held_as = held_as
        self.states = online.decode([b""] * len(series))
        self.forecasts = []
        self.entries = [[] for _ in series]

    def step(self, end):
        built = [windows_at(s, np.array([end]), self.slots, STEP_MS) for s in self.series]
        made_at = np.concatenate([w.made_at_ms for w in built])
        step = np.concatenate([w.step_ms for w in built])
        windows = np.concatenate([w.values for w in built])
        known = slice(None) if self.whole_series else slice(0, end + 1)
        advanced = online.advance(
            self.states,
            series=self.held_as([Series(s.times_ms[known], s.values[known]) for s in self.series]),
            made_at_ms=made_at,
            step_ms=step,
            target_ms=made_at + horizon_ms(step, 900_000),
            windows=windows,
            model_output=guess(windows),
            levels=LEVELS,
            model_version=self.version,
        )
        self.states = advanced.states
        self.forecasts.append(advanced.forecasts)
        for entries, closed in zip(self.entries, advanced.entries, strict=True):
            entries.extend(closed)
        return advanced

    def run(self, ends):
        for end in ends:
            self.step(end)
        return self


def same(left, right):
    for a, b in zip(left, right, strict=True):
        for field in ("values", "quantiles", "confidence", "target_ms"):
            if not np.array_equal(getattr(a, field), getattr(b, field), equal_nan=True):
                return False
    return True


def test_each_forecast_is_closed_by_the_sample_of_its_target():
    series = walk(120)
    replay = Replay(series).run(range(20, 120))
    entries = replay.entries[0]
    assert [e.target_ms for e in entries] == [START_MS + STEP_MS * (k + 15) for k in range(20, 105)]
    for k, entry in zip(range(20, 105), entries, strict=True):
        assert entry.made_at_ms == series.times_ms[k]
        assert entry.measured_at_ms == entry.target_ms
        assert np.array_equal(entry.actual, series.values[k + 15])
        assert np.array_equal(entry.predicted, replay.forecasts[k - 20].values[0])
        assert entry.confidence == replay.forecasts[k - 20].confidence[0]
        assert entry.model_version == "m1"


def test_each_entry_knows_the_last_value_and_whether_its_interval_held():
    series = walk()
    replay = Replay(series)
    for end in range(20, 120):
        replay.step(end)
    scale = np.median(np.abs(np.diff(series.values, axis=0)), axis=0)
    for k, entry in zip(range(20, 105), replay.entries[0], strict=True):
        low, high = replay.forecasts[k - 20].quantiles[0][:, 0], replay.forecasts[k - 20].quantiles[0][:, -1]
        assert np.array_equal(entry.inside, (low <= entry.actual) & (entry.actual <= high))
        assert (
            np.abs(entry.last - series.values[k]) <= 0.05 * np.abs(series.values[k] - entry.predicted) + scale
        ).all()


def test_the_intervals_of_a_link_with_few_values_hold_as_often_as_they_say():
    """Most samples lose nothing, the others one packet or two of 600: the values lie on the tails."""
    rng = np.random.default_rng(4)
    series = walk(2500)
    series.values[:, 2] = rng.poisson(0.4, 2500) / np.float32(600)
    replay = Replay(series).run(range(20, 2500))
    inside = np.array([entry.inside[2] for entry in replay.entries[0]])
    assert inside[500:].mean() == pytest.approx(0.9, abs=0.03)
    for k, entry in enumerate(replay.entries[0]):
        low, high = replay.forecasts[k].quantiles[0][2, [0, -1]]
        assert inside[k] == (low <= entry.actual[2] <= high)


def test_each_entry_names_the_model_that_took_part():
    replay = Replay(walk(130), walk(130, seed=1))
    for version, ends in (("m1", range(20, 40)), ("m2", range(40, 50)), ("m3", range(50, 60)), ("m4", range(60, 110))):
        replay.version = version
        replay.run(ends)
    for entries in replay.entries:
        versions = [entry.model_version for entry in entries]
        assert versions == ["m1"] * 20 + ["m2"] * 10 + ["m3"] * 10 + ["m4"] * 35


def test_nothing_measured_later_is_looked_at():
    series = walk(150)
    changed = Series(series.times_ms, series.values.copy())
    changed.values[100:] *= 3
    seen = Replay(series, whole_series=True).run(range(20, 100))
    other = Replay(changed, whole_series=True).run(range(20, 100))
    blind = Replay(series, whole_series=False).run(range(20, 100))
    assert same(seen.forecasts, other.forecasts)
    assert same(seen.forecasts, blind.forecasts)
    assert online.encode(seen.states) == online.encode(other.states) == online.encode(blind.states)
    assert len(seen.entries[0]) == len(blind.entries[0]) == 65
    # and the change does show as soon as it may
    assert not same(seen.run([100]).forecasts[-1:], other.run([100]).forecasts[-1:])


def test_links_do_not_influence_each_other():
    links = [walk(100, seed) for seed in range(3)]
    together = Replay(*links).run(range(20, 100))
    for i, link in enumerate(links):
        alone = Replay(link).run(range(20, 100))
        assert online.encode(alone.states) == [online.encode(together.states)[i]]


def test_states_survive_their_bytes():
    through, direct = Replay(walk()), Replay(walk())
    for end in range(20, 120):
        through.step(end)
        through.states = online.decode(online.encode(through.states))
        direct.step(end)
    assert same(through.forecasts, direct.forecasts)


@pytest.mark.parametrize("blob", [b"", b"\0" * 4000, b"x" * 100, b"PBA" * 2000])
def test_foreign_bytes_are_a_new_link(blob):
    assert online.encode(online.decode([blob])) == online.encode(online.decode([b""]))


def test_a_damaged_byte_is_noticed():
    blob = online.encode(Replay(walk()).run(range(20, 60)).states)[0]
    prior = online.encode(online.decode([b""]))
    rng = np.random.default_rng(1)
    for position in rng.choice(len(blob), 200, replace=False):
        damaged = bytearray(blob)
        damaged[position] ^= 1 << int(rng.integers(8))
        assert online.encode(online.decode([bytes(damaged)])) == prior


def test_absent_metrics_stay_absent():
    replay = Replay(walk(metrics=(True, False, False, True))).run(range(20, 120))
    for made in replay.forecasts:
        assert np.isfinite(made.values).tolist() == [[True, False, False, True]]
        assert np.isfinite(made.quantiles).all(axis=2).tolist() == [[True, False, False, True]]
    assert replay.states["learnt"]["settled"].tolist() == [[85, 0, 0, 85]]


@pytest.mark.parametrize("held_as", [list, Columns.of])
def test_metrics_measured_by_turns_each_meet_their_own_nearest_sample(held_as):
    """Pings on the minute and speed tests 20 s later: neither kind of sample carries all that was predicted."""
    both = walk(240, step_ms=STEP_MS // 2)
    times = START_MS + np.repeat(STEP_MS * np.arange(120, dtype=np.int64), 2)
    times[1::2] += 20_000
    values = both.values.copy()
    values[0::2, 0], values[1::2, 1:] = np.nan, np.nan
    series = Series(times, values)
    replay = Replay(series, held_as=held_as).run(range(40, 240))
    assert len(replay.entries[0]) > 80
    for entry in replay.entries[0]:
        near = np.flatnonzero(np.abs(times - entry.target_ms) <= STEP_MS // 2)
        for metric in range(4):
            carry = near[np.isfinite(values[near, metric])]
            assert len(carry)
            apart = np.abs(times[carry] - entry.target_ms)
            assert entry.actual[metric] == values[carry[apart.argmin()], metric]


def test_an_outage_is_learnt_from_at_once_though_it_times_no_round_trip():
    series = walk(80)
    values = series.values.copy()
    values[60] = (0, np.nan, 1, np.nan)
    replay = Replay(Series(series.times_ms, values)).run(range(20, 61))
    newest = replay.entries[0][-1]
    assert newest.target_ms == series.times_ms[60]
    assert np.array_equal(newest.actual, values[60], equal_nan=True)


def test_a_silent_link_gives_up_what_it_waited_for():
    series = walk(400)
    keep = np.r_[0:60, 200:400]
    gappy = Series(series.times_ms[keep], series.values[keep])
    replay = Replay(gappy).run(range(20, 60))
    assert online.records(replay.states)[0].pending == 15
    replay.step(60 + 20)
    assert online.records(replay.states)[0].pending == 1
    assert len(replay.entries[0]) == 25


def test_the_seasonal_forecaster_wakes_when_the_past_reaches_back_a_day():
    day = 24 * 12
    times = START_MS + 300_000 * np.arange(3 * day, dtype=np.int64)
    burst = np.where(np.arange(3 * day) % day < 6, 100.0, 10.0)
    series = Series(times, np.repeat(burst[:, None], 4, axis=1).astype(np.float32) * [1, 1, 0.001, 1])
    series = Series(series.times_ms, series.values.astype(np.float32))
    replay = Replay(series).run(range(20, 3 * day))
    said = online.records(replay.states)[0]
    seasonal = online.EXPERTS.index("seasonal")
    others = [online.EXPERTS.index(name) for name in ("last", "median10", "mean100", "ewma", "cycle", "hourly")]
    assert said.weights[0, seasonal] > 0.5
    assert said.weights[0, seasonal] > 4 * said.weights[0, others].max()
    before_burst = 2 * day - 3 - 20  # its target is the first sample of the third burst, which no recent sample tells
    assert replay.forecasts[before_burst].values[0, 0] > 50


def test_a_shift_of_level_shows_who_is_near_before_any_forecast_that_saw_it_meets_its_sample():
    values = np.where(np.arange(180) < 150, 20, 60) + np.random.default_rng(8).normal(0, 1, 180)
    series = Series(START_MS + STEP_MS * np.arange(180, dtype=np.int64), np.tile(values[:, None], 4).astype(np.float32))
    replay = Replay(series).run(range(20, 150))
    slow = [online.EXPERTS.index(name) for name in ("mean100", "median100")]
    before = online.records(replay.states)[0].weights[1, slow].sum()
    replay.run(range(150, 159))  # the first forecast made since the shift meets its sample at 165
    assert before > 0.3 > 2 * online.records(replay.states)[0].weights[1, slow].sum()
    assert replay.forecasts[-1].values[0, 1] > 45


def test_a_sample_that_is_looked_at_again_tells_nothing_new():
    series = walk(120)
    replay = Replay(series).run(range(20, 100))
    before = replay.states["learnt"]["early"].copy()
    replay.step(99)
    assert np.array_equal(replay.states["learnt"]["early"], before)
    assert np.abs(before).max() > 0


@pytest.mark.parametrize("held_as", [list, Columns.of])
def test_a_value_that_a_forecast_knew_does_not_judge_it(held_as):
    """A metric that is measured every third time stands in the window until it is measured again."""
    always, now_and_then = walk(200), walk(200)
    now_and_then.values[np.arange(200) % 3 != 2, 0] = np.nan
    replay = Replay(now_and_then, held_as=held_as).run(range(60, 198))
    before = replay.states["learnt"]["early"].copy()
    assert np.isnan(now_and_then.values[198, 0])
    replay.step(198)
    after = replay.states["learnt"]["early"]
    assert np.array_equal(after[0, 0], before[0, 0])
    assert not np.array_equal(after[0, 1], before[0, 1])
    # measured always or now and then, the last value is as good a forecaster of this walk with noise: a poor one
    for link in (always, now_and_then):
        early = Replay(link, held_as=held_as).run(range(60, 200)).states["learnt"]["early"]
        assert early[0, 0, online.EXPERTS.index("last")] > 0.3


def test_what_the_newest_values_said_fades_where_no_forecast_waits_any_more():
    """A link that is measured every minute, and then every quarter of an hour."""
    minutes, quarters = walk(120), walk(60, seed=1)
    minutes.values[100:] *= 2
    times = np.append(minutes.times_ms, minutes.times_ms[-1] + 15 * STEP_MS * np.arange(1, 61))
    series = Series(times, np.concatenate([minutes.values, quarters.values]))
    replay = Replay(series).run(range(20, 120))
    assert np.abs(replay.states["learnt"]["early"]).max() > 1
    replay.run(range(140, 180))
    assert np.abs(replay.states["learnt"]["early"]).max() < 0.05


def test_a_link_that_carries_nothing_is_foretold_to_carry_nothing_and_surely():
    series = walk(400)
    series.values[:] = 0, np.nan, 1, np.nan
    replay = Replay(series, slots=100).run(range(20, 400))
    assert replay.forecasts[-1].values[0, 0] == 0
    assert replay.forecasts[-1].confidence[0] > 0.9
    assert all(entry.hit for entry in replay.entries[0])


def test_what_is_not_predicted_has_no_weights():
    [record] = online.records(Replay(walk(metrics=(True, False, True, True))).run(range(20, 60)).states)
    assert record.weights.sum(axis=1) == pytest.approx([1, 0, 1, 1], abs=1e-6)
    assert np.isnan(record.mean_absolute_error).tolist() == [False, True, False, False]


def test_contributions_add_up_to_the_forecast():
    series = walk(120)
    replay = Replay(series).run(range(20, 100))
    window = windows_at(series, np.array([100]), 60, STEP_MS)
    arguments = {
        "series": [series],
        "made_at_ms": window.made_at_ms,
        "step_ms": window.step_ms,
        "target_ms": window.made_at_ms + 900_000,
        "windows": window.values,
        "model_output": guess(window.values),
        "levels": LEVELS,
    }
    before = replay.states.copy()
    # the forecast settles one of those waiting before it weighs: so must the explanation's state have
    made = replay.step(100).forecasts.values
    weights, forecasts = online.contributions(replay.states, **arguments)
    assert (weights * np.nan_to_num(forecasts)).sum(axis=2) == pytest.approx(made, rel=1e-5)
    assert weights.sum(axis=2) == pytest.approx(np.ones((1, 4)), abs=1e-6)
    assert before["last_made_at_ms"] != replay.states["last_made_at_ms"]


def test_a_caller_without_history_gets_the_prior():
    series = walk(80)
    window = windows_at(series, np.array([79]), 60, STEP_MS)
    once = online.forecast_once(
        windows=window.values,
        step_ms=window.step_ms,
        made_at_ms=window.made_at_ms,
        target_ms=window.made_at_ms + 900_000,
        model_output=guess(window.values),
        levels=LEVELS,
    )
    first = Replay(series).step(79).forecasts
    assert same([once], [first])


@pytest.mark.parametrize("interval_ms", [10_000, 60_000])
@pytest.mark.parametrize("step_ms", [5_000, 10_000, 30_000, 37_000, 40_000, 45_000, 50_000, 56_000])
def test_finer_cadences_than_the_ring_holds_are_thinned_evenly(step_ms, interval_ms):
    series = walk(24 + 4 * 900_000 // step_ms, step_ms=step_ms)
    states, kept = online.decode([b""]), []
    for end in range(23, len(series)):
        window = windows_at(series, np.array([end]), 60, interval_ms)
        if not window.usable[0]:
            continue
        result = online.advance(
            states,
            series=[Series(series.times_ms[: end + 1], series.values[: end + 1])],
            made_at_ms=window.made_at_ms,
            step_ms=window.step_ms,
            target_ms=window.made_at_ms + horizon_ms(window.step_ms, 900_000),
            windows=window.values,
            model_output=guess(window.values),
            levels=LEVELS,
            model_version="m",
        )
        states = result.states
        kept.extend(entry.made_at_ms for entry in result.entries[0])
    gaps = np.diff(kept)[1:]  # the first forecast of all is kept wherever it falls
    assert len(gaps) > 30
    assert gaps.max() - gaps.min() <= step_ms
    assert gaps.mean() == pytest.approx(900_000 / 16, rel=0.07)


@pytest.mark.parametrize("step_ms", [60_000, 20_000, 5_000])
def test_the_usual_level_remembers_a_day_whatever_the_cadence(step_ms):
    """An old link has doubled its level; on a fine cadence only some of its forecasts are kept and learnt from."""
    slots, samples = 30, 6 * 3_600_000 // step_ms
    series = walk(slots + samples, step_ms=step_ms)
    noise = np.random.default_rng(1).normal(0, 0.05, (len(series), 4))
    series.values[:] = np.array([80, 30, 0.02, 4]) * np.exp(noise)
    states = online.decode([b""])
    learnt = states["learnt"]
    learnt["settled"], learnt["scale"], learnt["course"]["error"] = 1_000_000, [4, 1.5, 0.001, 0.2], 0.5
    learnt["course"]["level"] = np.log(np.array([40, 15, 0.01, 2]))
    ends, reach = np.arange(slots, len(series)), 1_000_000 // step_ms
    windows = windows_at(series, ends, slots, step_ms)
    for i, end in enumerate(ends.tolist()):
        recent = slice(max(end - reach, 0), end + 1)
        states = online.advance(
            states,
            series=[Series(series.times_ms[recent], series.values[recent])],
            made_at_ms=windows.made_at_ms[i : i + 1],
            step_ms=windows.step_ms[i : i + 1],
            target_ms=windows.made_at_ms[i : i + 1] + 900_000,
            windows=windows.values[i : i + 1],
            model_output=guess(windows.values[i : i + 1]),
            levels=LEVELS,
            model_version="m",
        ).states
    left = (np.log(80) - states["learnt"]["course"]["level"][0, 0]) / np.log(2)
    assert left == pytest.approx(np.exp(-5.75 / 24), abs=0.05)  # the first quarter of an hour nothing is settled


def test_a_link_that_skips_a_metric_for_a_while_goes_on_learning_the_others():
    series = walk(200)
    series.values[80:120, 1] = np.nan
    replay = Replay(series).run(range(20, 200))
    settled = replay.states["learnt"]["settled"][0]
    assert settled[0] > settled[1] > 60
    assert np.isfinite(replay.forecasts[-1].values).all()


admitted = st.sampled_from([0.0, 1e-30, 1e-6, 0.3, 1.0, 17.25, 999.0, 3.6e6, 1e8, float("nan")])


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(admitted, admitted, admitted, admitted), min_size=12, max_size=45),
    repeats=st.integers(1, 4),
    gaps=st.lists(st.sampled_from([1, 30_000, 60_000, 61_500, 180_000, 4_000_000]), min_size=1, max_size=8),
    said=st.lists(
        st.sampled_from([0.0, 1.0, -5.0, 1e30, float("nan"), float("inf"), -float("inf")]), min_size=5, max_size=5
    ),
    levels=st.sampled_from([(0.5,), (0.05, 0.1, 0.5, 0.9, 0.95), (0.1, 0.3, 0.7), (0.9, 0.95)]),
)
def test_whatever_is_measured_and_said_forecasts_stay_finite_ordered_and_possible(values, repeats, gaps, said, levels):
    rows = np.minimum(np.repeat(np.array(values, np.float32), repeats, axis=0), MAXIMA)
    times = START_MS + np.cumsum(np.resize(gaps, len(rows))).astype(np.int64)
    series = Series(times, rows)
    states = online.decode([b""])
    for end in range(10, len(rows)):
        window = windows_at(series, np.array([end]), 20, STEP_MS)
        if not window.usable[0]:
            continue
        output = np.tile(np.array(said[: len(levels)], np.float32), (1, 4, 1))
        result = online.advance(
            states,
            series=[series],
            made_at_ms=window.made_at_ms,
            step_ms=window.step_ms,
            target_ms=window.made_at_ms + horizon_ms(window.step_ms, 900_000),
            windows=window.values,
            model_output=output,
            levels=levels,
            model_version="m",
        )
        states = online.decode(online.encode(result.states))
        made = result.forecasts
        known = np.isfinite(window.values[:, -1, :4])
        assert (np.isfinite(made.values) == known).all()
        assert (np.isfinite(made.quantiles) == known[..., None]).all()
        stated = made.quantiles[known]
        assert (np.diff(stated, axis=1) >= 0).all()
        assert (stated >= 0).all()
        assert (made.quantiles <= MAXIMA[:, None])[known].all()
        assert 0 <= made.confidence[0] <= 1
        for field in (
            "log_weight",
            "habit",
            "early",
            "pull",
            "scale",
            "tail_offset",
            "tail_excess",
            "tail_burst",
            "confidence",
            "hit_rate",
        ):
            assert np.isfinite(states["learnt"][field]).all(), field
