"""Pairs of forecasts wait for their target, and are kept with the link in between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain import parts, trials
from pba_service.domain.samples import Series

MINUTE = 60_000
START = 1_800_000_000_000


def pairs(*targets_min, experiment=1, champion=1.0):
    made = np.zeros(len(targets_min), trials.PAIR)
    made["experiment"], made["tolerance_ms"] = experiment, MINUTE // 2
    made["target_ms"] = START + np.array(targets_min, np.int64) * MINUTE
    made["made_at_ms"] = made["target_ms"] - 15 * MINUTE
    made["champion"], made["challenger"] = champion, 2.0
    return made


def series(*minutes):
    times = np.array([round(START + minute * MINUTE) for minute in minutes], np.int64)
    return Series(times, np.repeat(np.array(minutes, np.float32)[:, None], 4, axis=1))


def settle(waiting, *minutes, now=None):
    left, met = trials.settle(waiting, series(*minutes), START + (max(minutes) if now is None else now) * MINUTE)
    return minutes_of(left), minutes_of(met.pairs), met.actual[:, 0].tolist()


def minutes_of(some):
    return ((some["target_ms"] - START) // MINUTE).tolist()


def test_a_pair_meets_the_sample_nearest_to_its_target():
    assert settle(pairs(20, 21), 19.0, 19.6, 20.3, 20.5) == ([21], [20], [pytest.approx(20.3)])


def test_what_is_newer_than_now_is_not_looked_at():
    assert settle(pairs(20), 19.6, 20.1, now=20) == ([], [20], [pytest.approx(19.6)])


def test_a_pair_waits_for_a_late_sample_but_not_for_ever():
    assert settle(pairs(20), 19.0, 24.0) == ([20], [], [])
    assert settle(pairs(20), 19.0, 25.0) == ([], [], [])


def test_nothing_is_due_before_its_time_or_without_samples():
    assert settle(pairs(20), 19.9) == ([20], [], [])
    left, met = trials.settle(pairs(20), Series.empty(), START + 60 * MINUTE)
    assert (minutes_of(left), len(met)) == ([20], 0)


def test_a_newer_forecast_for_the_same_target_replaces_the_older():
    both = trials.remember(pairs(20, 21), pairs(21, 22, champion=7.0))
    assert minutes_of(both) == [20, 21, 22]
    assert both["champion"][:, 0].tolist() == [1, 7, 7]
    assert minutes_of(trials.remember(pairs(20), pairs(20, experiment=2))) == [20, 20]


def test_pairs_come_back_from_their_bytes_and_damage_costs_them():
    blob = trials.encode(pairs(20, 21))
    assert trials.decode(blob).tobytes() == pairs(20, 21).tobytes()
    assert trials.encode(trials.none()) == b""
    for damaged in (b"", b"x", blob[:-1], blob[:9] + b"\xff" + blob[10:]):
        assert len(trials.decode(damaged)) == 0


def test_a_link_remembers_no_more_than_so_many():
    many = trials.decode(trials.encode(pairs(*range(200))))
    assert minutes_of(many) == list(range(200 - trials.MAX_PAIRS, 200))


@given(st.binary(max_size=200), st.dictionaries(st.binary(min_size=4, max_size=4), st.binary(max_size=50), max_size=4))
def test_a_blob_gives_back_its_parts(online, sections):
    kept = {name: content for name, content in sections.items() if content}
    assert parts.split(parts.join(online, sections)) == (online, kept)


def test_without_sections_a_blob_is_the_online_state():
    assert parts.join(b"state", {parts.TRIALS: b""}) == b"state"


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_apart_without_an_error(noise):
    blob = parts.join(b"state", {parts.TRIALS: b"pairs"})
    assert parts.split(noise) == (noise, {})
    parts.split(noise + blob[-16:])
    parts.split(blob[len(noise) :])
