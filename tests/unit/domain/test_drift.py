import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pba_service.domain import drift
from pba_service.domain.columns import Columns
from pba_service.domain.drift import Condition, ConditionKind, Record, decode, encode, silence
from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import Series
from pba_service.domain.simulate import LinkSimulator

MINUTE_MS = 60_000
START_MS = 1_767_225_600_000
KEPT = 600
"""Samples that are at hand when a link is looked at, as in service."""


def steady(count, seed=0):
    """A link that varies by a tenth around its level: float32[count, 4]."""
    random = np.random.default_rng(seed)
    noise = np.exp(0.1 * random.normal(size=(count, 4)))
    return (np.array([100, 40, 0.01, 3]) * noise).astype(np.float32)


def follow(blobs, series):
    return drift.follow(blobs, Columns.of(series), [MINUTE_MS] * len(blobs))


def watch(values, blob=b"", start=0, at_hand=KEPT):
    """Follows a link sample by sample, of which so many are at hand; yields what is told after each."""
    times = START_MS + MINUTE_MS * np.arange(len(values), dtype=np.int64)
    for k in range(start + 1, len(values) + 1):
        first = max(0, k - at_hand)
        [blob], [told] = follow([blob], [Series(times[first:k], values[first:k])])
        yield blob, told


def kinds(values):
    return [told.kind if told else None for _, told in watch(values)]


WARM = drift.BLOCK_SAMPLES * (drift.WARM_UP_BLOCKS + 2)


@pytest.mark.parametrize("factor", [0.25, 4.0])
@pytest.mark.parametrize("metric", [0, 1])
def test_a_shifted_level_is_told_within_the_bound_and_for_some_hours(factor, metric):
    values = steady(WARM + 600)
    values[WARM:, metric] *= factor
    told = [one for _, one in watch(values)]
    assert not any(told[:WARM])
    found = next(k for k, one in enumerate(told) if one) - WARM + 1
    assert found <= drift.SHIFT_SAMPLES
    first = told[WARM + found - 1]
    assert first.kind is ConditionKind.LEVEL_SHIFT
    assert first.metrics == (("bandwidth_mbps", "latency_ms")[metric],)
    assert first.strength >= drift.LIMIT
    assert abs(first.since_ms - (START_MS + WARM * MINUTE_MS)) <= drift.BLOCK_SAMPLES * 2 * MINUTE_MS
    assert told[-1] is None
    assert sum(one is not None for one in told) >= drift.BLOCK_SAMPLES * drift.HOLD_BLOCKS


def test_a_steady_link_and_an_hour_of_congestion_that_ends_before_are_no_shift():
    values = steady(WARM + 600, seed=3)
    values[WARM : WARM + 40, 0] /= 3
    assert not any(kinds(values))


def test_false_alarms_on_simulated_links_without_events_are_rare():
    """Six days of each kind of link, without shifts, outages or congestion: wandering and the daily cycle remain."""
    from dataclasses import replace  # noqa: PLC0415 - beside its only use

    days, told = 6, 0
    for kind in ("wan", "wireless", "daily"):
        quiet = replace(PROFILES[kind], regimes_per_day=0.0, outages_per_day=0.0, episodes_per_day=0.0)
        series = LinkSimulator(quiet, 5).measured(START_MS, START_MS + days * 86_400_000, MINUTE_MS)
        blob = b""
        for k in range(drift.BLOCK_SAMPLES, len(series), drift.BLOCK_SAMPLES):
            part = slice(max(0, k - KEPT), k)
            before = decode(blob).shift
            [blob], [one] = follow([blob], [Series(series.times_ms[part], series.values[part])])
            told += one is not None and before is None
    assert told <= 3


def test_an_outage_is_told_with_its_second_sample_and_ends_with_it():
    values = steady(60)
    values[40:45] = (0.0, np.nan, 1.0, np.nan)
    told = [one for _, one in watch(values)]
    assert [one is not None for one in told[39:47]] == [False, False, True, True, True, True, False, False]
    assert told[44] == Condition(
        ConditionKind.OUTAGE, START_MS + 40 * MINUTE_MS, 5.0, ("bandwidth_mbps", "packet_loss_ratio")
    )


def test_total_loss_alone_is_an_outage():
    values = steady(30)
    values[20:22, 2] = 1.0
    told = list(watch(values))[21][1]
    assert (told.kind, told.metrics) == (ConditionKind.OUTAGE, ("packet_loss_ratio",))


def test_an_outage_is_shown_by_what_the_link_measures():
    values = steady(30)
    values[:, 2] = np.nan
    values[20:22, 0] = 0.0
    told = list(watch(values))[21][1]
    assert (told.kind, told.metrics) == (ConditionKind.OUTAGE, ("bandwidth_mbps",))


def test_a_stuck_sensor_is_told_after_a_dozen_equal_values_until_it_moves():
    values = steady(200)
    values[100:150, 1] = values[99, 1]
    found = kinds(values)
    first = found.index(ConditionKind.SENSOR_STUCK)
    assert drift.STUCK_LEAST <= first - 99 <= drift.STUCK_LEAST + 1
    assert found[149] is ConditionKind.SENSOR_STUCK
    assert found[150] is None


@pytest.mark.parametrize("at_hand", [40, 150, 600])
def test_a_sensor_is_stuck_since_it_first_said_what_it_goes_on_saying(at_hand):
    values = steady(700)
    values[100:, 1] = 40.0
    told = [one for _, one in watch(values, at_hand=at_hand) if one]
    assert {(one.since_ms, one.metrics) for one in told} == {(START_MS + 100 * MINUTE_MS, ("latency_ms",))}
    assert [one.strength for one in told] == list(range(601 - len(told), 601))


def test_a_link_that_moves_now_and_then_is_not_stuck_in_between():
    values = steady(1500)
    values[:, 1] = 20 + np.cumsum(np.random.default_rng(6).random(len(values)) > 0.9) % 7
    assert not any(kinds(values))


def test_a_link_that_is_always_the_same_is_not_stuck():
    values = steady(300)
    values[:, 0] = 100.0
    assert not any(kinds(values))


def test_a_sensor_that_stays_stuck_for_longer_than_is_at_hand_stays_told():
    values = steady(100 + KEPT + 200)
    values[100:, 1] = 40.0
    assert kinds(values)[-1] is ConditionKind.SENSOR_STUCK


def test_a_change_of_units_is_told_for_a_few_samples():
    values = steady(60)
    values[40:, 0] *= 1000
    found = kinds(values)
    assert found[39] is None
    assert found[40] is ConditionKind.SENSOR_JUMP
    assert found[40 + drift.JUMP_HOLD + 1] is None


@pytest.mark.parametrize("together", range(1, drift.JUMP_HOLD + 1))
def test_a_change_of_units_is_told_however_many_samples_come_at_a_time(together):
    values = steady(40 + together)
    values[40:, 0] *= 1000
    blob = [blob for blob, _ in watch(values[:40])][-1]
    times = START_MS + MINUTE_MS * np.arange(len(values), dtype=np.int64)
    _, [told] = follow([blob], [Series(times, values)])
    assert (told.kind, told.since_ms) == (ConditionKind.SENSOR_JUMP, START_MS + 40 * MINUTE_MS)


def test_a_spike_within_reason_and_loss_that_begins_are_no_fault():
    values = steady(60)
    values[:, 2] = 0
    values[40, 1] *= 50
    values[41:, 2] = steady(19)[:, 2] * 30
    assert not any(kinds(values))


def test_a_backlog_and_living_through_it_come_to_the_same_level():
    values = steady(KEPT)
    times = START_MS + MINUTE_MS * np.arange(len(values), dtype=np.int64)
    *_, (lived, _) = watch(values)
    [at_once], _ = follow([b""], [Series(times, values)])
    assert decode(lived) == decode(at_once)
    assert decode(lived).blocks == KEPT // drift.BLOCK_SAMPLES


def test_gaps_and_metrics_that_are_not_measured_are_no_news():
    values = steady(WARM + 300)
    values[:, 1] = np.nan
    times = START_MS + MINUTE_MS * np.arange(len(values), dtype=np.int64)
    times[WARM:] += 86_400_000
    blob = b""
    for k in range(15, len(values), 7):
        first = max(0, k - KEPT)
        [blob], [told] = follow([blob], [Series(times[first:k], values[first:k])])
        assert told is None


CONDITIONS = st.none() | st.builds(
    Condition,
    st.sampled_from([ConditionKind.OUTAGE, ConditionKind.SENSOR_JUMP, ConditionKind.SENSOR_STUCK]),
    st.integers(0, 2**60),
    st.floats(1, 1e6, width=32),
    st.sampled_from([("bandwidth_mbps",), ("latency_ms", "jitter_ms")]),
)


@given(st.integers(0, 2**60), CONDITIONS, st.lists(st.floats(-5, 5, width=32), max_size=drift.OLD + drift.NEW))
def test_records_come_back_as_they_were(block_ms, fault, levels):
    record = Record(block_ms, 7, (tuple(levels), ()), (0.5, 0.25), fault=fault, fault_until_ms=9 if fault else 0)
    assert decode(encode(record)) == record


@given(st.binary(max_size=400))
def test_foreign_bytes_are_a_fresh_record(blob):
    assert decode(blob) == Record()


@given(st.integers(0, 170), st.integers(1, 255))
def test_damaged_bytes_are_a_fresh_record(at, flip):
    blob = bytearray(encode(Record(5, 3, ((1.0,), (2.0,)), (0.1, 0.2))))
    blob[at % len(blob)] ^= flip
    assert decode(bytes(blob)) == Record()


def sealed(blob):
    """With the checksum that goes with whatever was done to it."""
    return zlib.crc32(blob[4:]).to_bytes(4, "little") + blob[4:]


@pytest.mark.parametrize("levels", [(33, 1), (1, 255)])
def test_a_record_that_claims_more_levels_than_there_is_room_for_is_a_fresh_one(levels):
    blob = bytearray(encode(Record(5, 3, ((1.0,), (2.0,)), (0.1, 0.2))))
    struct.pack_into("<BB", blob, 17, *levels)
    assert decode(sealed(bytes(blob))) == Record()


def test_what_is_told_in_part_or_is_of_no_known_kind_is_left_out():
    fault = Condition(ConditionKind.OUTAGE, 1, 0.0, ("bandwidth_mbps",))
    blob = bytearray(encode(Record(5, 3, ((1.0,), (2.0,)), (0.1, 0.2), fault=fault)))
    assert decode(sealed(bytes(blob[:-3]))) == Record()
    blob[-22] = 200
    assert decode(sealed(bytes(blob))) == Record(5, 3, ((1.0,), (2.0,)), decode(sealed(bytes(blob))).usual)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.0, 1e-30, 1.0, 1e8, float("nan")]), min_size=40, max_size=40))
def test_no_values_that_the_contract_admits_are_too_much(bandwidths):
    values = steady(40)
    values[:, 0] = bandwidths
    values[:, 1] = values[:, 0]
    assert len(kinds(values)) == 40


def test_silence_is_told_after_five_missing_samples():
    assert silence(START_MS, MINUTE_MS, START_MS + 5 * MINUTE_MS) is None
    told = silence(START_MS, MINUTE_MS, START_MS + 6 * MINUTE_MS)
    assert (told.kind, told.since_ms, told.strength) == (ConditionKind.SILENT, START_MS, 6.0)


def test_links_in_one_batch_do_not_touch_each_other():
    values = [steady(300, seed) for seed in range(5)]
    values[2][280:, 1] = values[2][279, 1]
    times = START_MS + MINUTE_MS * np.arange(300, dtype=np.int64)
    lengths = [300, 100, 300, 7, 2]
    series = [Series(times[:k], one[:k]) for one, k in zip(values, lengths, strict=True)]
    together, told = follow([b""] * 5, series)
    apart = [follow([b""], [one]) for one in series]
    assert together == [blob for [blob], _ in apart]
    assert [one is not None for one in told] == [False, False, True, False, False]


@pytest.mark.parametrize("at_hand", [40, 150, 600])
def test_an_outage_began_when_it_began_however_few_samples_are_at_hand(at_hand):
    values = steady(1000)
    values[500:, 0] = 0
    told = [one for _, one in watch(values, at_hand=at_hand)][500:]
    assert {one.since_ms for one in told[1:]} == {START_MS + 500 * MINUTE_MS}
    assert [one.strength for one in told[1:]] == list(range(2, 501))


@pytest.mark.parametrize("habit", [0.0, 0.9, 0.95])
def test_a_stuck_sensor_is_told_as_soon_however_few_samples_are_at_hand(habit):
    values = steady(1500)
    moves = np.random.default_rng(6).random(len(values)) > habit
    moves[1000:] = False
    values[:, 1] = 20 + np.cumsum(moves) % 7
    told = [
        [one is not None and one.kind is ConditionKind.SENSOR_STUCK for _, one in watch(values, at_hand=at_hand)]
        for at_hand in (40, 150, 600)
    ]
    assert told[0] == told[1] == told[2]
    assert told[0][-1]
