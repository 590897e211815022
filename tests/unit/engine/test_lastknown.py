"""What is answered while the store is away."""

from dataclasses import replace

import numpy as np
import pytest

from pba_service.domain.errors import HistoryTooShortError, StoreUnavailableError
from pba_service.domain.forecast import Prediction, Source
from pba_service.domain.window import MIN_SLOTS
from pba_service.engine.lastknown import LastKnown, PatientDirectory
from pba_service.storage import codec
from tests.fakes import Clock

MINUTE = 60_000
NOW_MS = 1_800_000_000_000
AWAY = StoreUnavailableError()


class Watch:
    away = True
    answered_at_ms = NOW_MS


def prediction(link_id, made_at_ms=NOW_MS):
    floats = np.ones((4, 5), np.float32)
    return Prediction(
        link_id, made_at_ms, MINUTE, made_at_ms + 15 * MINUTE, floats[:, 0], floats, 0.5, "v", Source.COMBINED
    )


def memory(*predictions, **options):
    one = LastKnown(Watch(), **{"max_age_ms": 5 * MINUTE, **options})
    one.learn(predictions)
    return one


def test_what_was_heard_is_given_marked_with_when_the_store_last_answered():
    known, unknown = memory(prediction("a")).answer(["a", "b"], NOW_MS + MINUTE, AWAY)
    assert (known.link_id, known.stale_since_ms) == ("a", NOW_MS)
    assert unknown is AWAY


def test_after_the_longest_age_nothing_is_given():
    one = memory(prediction("a"))
    assert one.answer(["a"], NOW_MS + 5 * MINUTE, AWAY)
    with pytest.raises(StoreUnavailableError):
        one.answer(["a"], NOW_MS + 5 * MINUTE + 1, AWAY)


def test_where_nothing_is_known_the_failure_is_told():
    with pytest.raises(StoreUnavailableError):
        memory(prediction("a")).answer(["b", "c"], NOW_MS, AWAY)


def test_a_prediction_whose_time_is_past_is_none():
    [past] = memory(prediction("a", NOW_MS - 20 * MINUTE)).answer(["a"], NOW_MS, AWAY)
    assert isinstance(past, HistoryTooShortError)
    assert past.retry_after_s == 60 * MIN_SLOTS


def test_an_older_prediction_that_comes_late_changes_nothing():
    [known] = memory(prediction("a"), prediction("a", NOW_MS - MINUTE), None).answer(["a"], NOW_MS, AWAY)
    assert known.made_at_ms == NOW_MS


def test_what_a_sweep_reads_again_stays_the_same_object():
    first = prediction("a")
    first.values[3] = first.quantiles[3] = np.nan
    one = memory(first)
    one.learn([codec.decode_prediction(codec.encode_prediction(first))])
    assert one.newest("a") is first
    corrected = replace(first, values=2 * first.values)  # a sample before the newest was
    one.learn([corrected])
    assert one.newest("a") is corrected


def test_what_is_read_of_the_sample_that_is_known_of_may_be_older_than_what_was_announced():
    corrected = prediction("a")
    one = memory(corrected)
    one.recall([replace(corrected, values=2 * corrected.values), None, prediction("b")])
    assert one.newest("a") is corrected
    assert one.newest("b") is not None
    newer = prediction("a", NOW_MS + MINUTE)
    one.recall([newer])
    assert one.newest("a") is newer


def test_it_stays_within_its_bound_and_forgets_who_was_silent_longest():
    one = memory(*map(prediction, "abc"), prediction("a"), prediction("d"), max_links=3)
    answers = one.answer(list("abcd"), NOW_MS, AWAY)
    assert [answer is AWAY for answer in answers] == [False, True, False, False]


async def test_a_subscription_begins_from_memory():
    class Away:
        async def newest(self, link_ids):
            raise AWAY

    directory = PatientDirectory(Away(), memory(prediction("a")), Clock(NOW_MS))
    known, unknown = await directory.newest(["a", "b"])
    assert known.stale_since_ms == NOW_MS
    assert unknown is None
