"""A variant stands in for its original only if it is as right, answers the same whoever is beside it, and is faster."""

import time

import numpy as np
import pytest

from pba_service.domain.samples import Series
from pba_service.evaluation.variant import compare
from tests.fakes import LastValueModel

MINUTE = 60_000
START = 1_800_000_000_000


class Variant(LastValueModel):
    """The last value, times a factor, moved with the size of the batch, after a while."""

    def __init__(self, factor=1.0, by_batch=0.0, takes_s=0.0):
        super().__init__("variant", 10)
        self.factor, self.by_batch, self.takes_s = factor, by_batch, takes_s

    def predict(self, windows, step_ms):
        time.sleep(self.takes_s)
        return super().predict(windows, step_ms) * np.float32(self.factor + self.by_batch * (len(windows) > 1))


def link(seed, count=120):
    random = np.random.default_rng(seed)
    values = 100 + np.cumsum(random.normal(0, 1, (count, 4)), axis=0)
    values[:, 2] = np.nan  # not measured
    return Series(START + np.arange(count, dtype=np.int64) * MINUTE, values.astype(np.float32))


LINKS = [link(seed) for seed in range(3)]
SLOW_S = 0.002


def faults(variant):
    return compare(Variant(takes_s=SLOW_S), variant, LINKS, MINUTE).faults


def test_a_faster_variant_with_the_same_answers_may_stand_in():
    comparison = compare(Variant(takes_s=SLOW_S), Variant(), LINKS, MINUTE)
    assert comparison.faults == []
    assert comparison.error_ratio == pytest.approx({"bandwidth_mbps": 1, "latency_ms": 1, "jitter_ms": 1})
    assert comparison.windows == 3 * 19
    assert comparison.speed_ratio > 2


def test_one_that_is_worse_may_not():
    told = faults(Variant(factor=1.2))
    assert [text.split(" is ")[0] for text in told] == [
        "the error of bandwidth_mbps",
        "the error of latency_ms",
        "the error of jitter_ms",
    ]


def test_one_that_depends_on_who_is_beside_may_not():
    assert any("windows beside it" in text for text in faults(Variant(by_batch=0.01)))


def test_one_that_is_no_faster_may_not():
    assert ["times as fast" in text for text in faults(Variant(takes_s=SLOW_S))] == [True]


def test_links_without_a_target_are_told():
    with pytest.raises(ValueError, match="no link has enough history"):
        compare(Variant(), Variant(), [link(1, 20), Series.empty()], MINUTE)


@pytest.mark.parametrize("cadence_ms", [59_900, 60_100])
def test_a_link_that_is_measured_a_little_off_the_minute_is_compared_as_well(cadence_ms):
    exact = link(1)
    drifting = Series(START + np.arange(len(exact), dtype=np.int64) * cadence_ms, exact.values)
    assert compare(Variant(), Variant(), [drifting], MINUTE).windows == 19
