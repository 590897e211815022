"""Links advance over their new samples, each from its own window, in the order of time."""

import numpy as np
import pytest

from pba_service.domain import online, parts
from pba_service.domain.drift import ConditionKind
from pba_service.domain.errors import HistoryTooShortError
from pba_service.domain.forecast import Source
from pba_service.domain.samples import Series
from pba_service.engine import advance as engine
from pba_service.engine.advance import Options, context_ms, predict_window, wanted_context_ms
from pba_service.engine.models import Route
from pba_service.engine.ports import LinkState, Snapshot
from tests.fakes import LastValueModel

MINUTE = 60_000
START = 1_800_000_000_000
OPTIONS = Options(base_ms=MINUTE, catch_up=480)
MODEL = LastValueModel()


def walk(count, seed=1, step_ms=MINUTE):
    rng = np.random.default_rng(seed)
    values = np.abs(np.cumsum(rng.normal(0, 1, (count, 4)), axis=0)) + np.array([100, 20, 0.01, 1])
    values[:, 2] = np.clip(values[:, 2] / 100, 0, 1)
    return Series(START + np.arange(count, dtype=np.int64) * step_ms, values.astype(np.float32))


def snapshot(series, state=None, link_id="a"):
    return Snapshot(link_id, series, state or LinkState(), None)


def advance(snapshots, model, options):
    return engine.advance(snapshots, [Route(model)] * len(snapshots), options)


def first(series, count):
    return Series(series.times_ms[:count], series.values[:count])


def test_a_link_is_predicted_from_its_newest_sample():
    series = walk(30)
    [one] = advance([snapshot(series)], MODEL, OPTIONS)
    made = one.prediction
    assert made.made_at_ms == series.times_ms[-1]
    assert made.target_ms == made.made_at_ms + 15 * MINUTE
    assert made.source is Source.COMBINED
    assert made.model_version == MODEL.info.version
    assert np.isfinite(made.values).all()
    assert (np.diff(made.quantiles, axis=1) >= 0).all()
    assert 0 <= made.confidence <= 1


def test_a_backlog_teaches_what_living_through_it_would_have():
    series = walk(120)
    [at_once] = advance([snapshot(series)], MODEL, OPTIONS)

    state, ledger = LinkState(), []
    for count in range(1, len(series) + 1):
        [one] = advance([snapshot(first(series, count), state)], MODEL, OPTIONS)
        if one.commit:
            state = LinkState(state.version + 1, one.commit.blob)
            ledger.extend(one.commit.ledger)

    assert at_once.prediction.same_as(one.prediction)
    assert at_once.commit.blob == one.commit.blob
    assert [entry.target_ms for entry in at_once.commit.ledger] == [entry.target_ms for entry in ledger]
    # the first prediction is made from the tenth sample; the newest settled one is 15 minutes old
    assert len(ledger) == len(series) - 9 - 15


def test_the_ledger_compares_with_the_sample_of_the_target_minute():
    series = walk(100)
    [one] = advance([snapshot(series)], MODEL, OPTIONS)
    actual = dict(zip(series.times_ms.tolist(), series.values, strict=True))
    assert one.commit.ledger
    for entry in one.commit.ledger:
        assert entry.target_ms == entry.made_at_ms + 15 * MINUTE
        assert entry.measured_at_ms == entry.target_ms
        np.testing.assert_array_equal(entry.actual, actual[entry.target_ms])


def test_the_company_a_link_is_in_does_not_matter():
    links = [walk(40 + 7 * i, seed=i, step_ms=MINUTE * (1 + i % 3)) for i in range(6)]
    together = advance([snapshot(link, link_id=str(i)) for i, link in enumerate(links)], MODEL, OPTIONS)
    for i, link in enumerate(links):
        [alone] = advance([snapshot(link, link_id=str(i))], MODEL, OPTIONS)
        assert alone.prediction.same_as(together[i].prediction)
        assert alone.commit.blob == together[i].commit.blob


def test_one_batch_of_windows_serves_all_links_and_all_of_their_samples():
    model = LastValueModel()
    advance([snapshot(walk(40, seed=i), link_id=str(i)) for i in range(5)], model, OPTIONS)
    assert model.batches == [5 * 31]


def test_only_the_newest_samples_of_a_long_backlog_are_advanced_over():
    model = LastValueModel()
    [one] = advance([snapshot(walk(300))], model, Options(base_ms=MINUTE, catch_up=50))
    assert model.batches == [50]
    assert one.prediction.made_at_ms == walk(300).times_ms[-1]


def test_a_corrected_sample_predicts_again_and_learns_nothing_twice():
    series = walk(60)
    [before] = advance([snapshot(series)], MODEL, OPTIONS)
    corrected = Series(series.times_ms, series.values.copy())
    corrected.values[-1] *= 2
    state = LinkState(1, before.commit.blob)
    [after] = advance([snapshot(corrected, state)], MODEL, OPTIONS)
    assert after.prediction.made_at_ms == before.prediction.made_at_ms
    assert (after.prediction.values > before.prediction.values).all()
    assert after.commit.read_version == 1
    assert not after.commit.ledger
    # and the corrected forecast is the one that will be judged, alone
    later = walk(76)
    [judged] = advance([snapshot(later, LinkState(2, after.commit.blob))], MODEL, OPTIONS)
    of_minute = [entry for entry in judged.commit.ledger if entry.made_at_ms == series.times_ms[-1]]
    assert len(of_minute) == 1
    np.testing.assert_array_equal(of_minute[0].predicted, after.prediction.values)


@pytest.mark.parametrize("count", [1, 9])
def test_too_little_history_says_how_much_and_when(count):
    [one] = advance([snapshot(walk(count))], MODEL, OPTIONS)
    assert one.commit is None
    assert isinstance(one.prediction, HistoryTooShortError)
    assert (one.prediction.have, one.prediction.need) == (count, 10)
    assert one.prediction.retry_after_s == (10 - count) * 60


def test_after_a_long_silence_history_begins_anew_but_what_was_learnt_stays():
    series = walk(80)
    gap = Series(
        np.append(series.times_ms, series.times_ms[-1] + 3_600_000), np.vstack([series.values, series.values[-1:]])
    )
    [before] = advance([snapshot(series)], MODEL, OPTIONS)
    [after] = advance([snapshot(gap, LinkState(1, before.commit.blob))], MODEL, OPTIONS)
    assert isinstance(after.prediction, HistoryTooShortError)
    assert after.prediction.have == 1
    assert after.commit is None


def test_a_damaged_state_starts_anew():
    [clean] = advance([snapshot(walk(60))], MODEL, OPTIONS)
    [damaged] = advance([snapshot(walk(60), LinkState(7, b"not a state"))], MODEL, OPTIONS)
    assert damaged.prediction.same_as(clean.prediction)
    assert damaged.commit.read_version == 7


def test_what_must_be_read_follows_the_cadence_and_the_backlog():
    fresh = snapshot(walk(40, step_ms=4 * MINUTE))
    assert wanted_context_ms(fresh, 10, OPTIONS) == context_ms(4 * MINUTE, 10, 480 * 4 * MINUTE)
    [one] = advance([fresh], MODEL, OPTIONS)
    known = snapshot(fresh.recent, LinkState(1, one.commit.blob))
    assert wanted_context_ms(known, 10, OPTIONS) == context_ms(4 * MINUTE, 10)


def test_what_is_read_first_is_enough_for_a_link_that_keeps_up():
    """The prediction from the usual context is the prediction from all of the past."""
    series = walk(2000)
    [before] = advance([snapshot(first(series, 1999))], MODEL, OPTIONS)
    state = LinkState(1, before.commit.blob)
    start = np.searchsorted(series.times_ms, series.times_ms[-1] - context_ms(MINUTE, 10))
    recent = Series(series.times_ms[start:], series.values[start:])
    [from_all] = advance([snapshot(series, state)], MODEL, OPTIONS)
    [from_recent] = advance([snapshot(recent, state)], MODEL, OPTIONS)
    assert from_recent.prediction.same_as(from_all.prediction)
    assert from_recent.commit.blob == from_all.commit.blob


def test_a_callers_own_window_is_predicted_and_nothing_else():
    made = predict_window("x", walk(12), MODEL, OPTIONS)
    assert made.source is Source.CALLER_WINDOW
    assert made.link_id == "x"
    assert np.isfinite(made.values).all()
    for too_short in (Series.empty(), walk(9)):
        with pytest.raises(HistoryTooShortError):
            predict_window("x", too_short, MODEL, OPTIONS)


def test_what_a_link_learnt_survives_a_change_of_model():
    series = walk(100)
    [before] = advance([snapshot(first(series, 80))], MODEL, OPTIONS)
    newer = LastValueModel(version="test-2", window_slots=20)
    [after] = advance([snapshot(series, LinkState(1, before.commit.blob))], newer, OPTIONS)
    assert after.prediction.model_version == "test-2"
    versions = {entry.model_version for entry in after.commit.ledger}
    assert versions == {"test-1", "test-2"}
    assert online.last_made_at_ms(online.decode([parts.split(after.commit.blob)[0]]))[0] == series.times_ms[-1]


def test_what_is_wrong_with_a_link_is_in_its_prediction_and_outlives_the_replica():
    series = walk(60)
    series.values[58:] = (0.0, np.nan, 1.0, np.nan)
    [before] = advance([snapshot(first(series, 59))], MODEL, OPTIONS)
    assert before.prediction.condition is None
    [after] = advance([snapshot(series, LinkState(1, before.commit.blob))], MODEL, OPTIONS)
    assert after.prediction.condition.kind is ConditionKind.OUTAGE
    assert after.prediction.condition.since_ms == series.times_ms[58]
    assert after.commit.prediction.condition == after.prediction.condition
