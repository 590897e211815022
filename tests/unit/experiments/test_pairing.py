import numpy as np
import pytest

from pba_service.domain.experiments import PERIOD_MS, Tally, advantage, counts, tally
from pba_service.domain.experiments.pairing import LIMIT

MINUTE_MS = 60_000
NAN = np.nan


def rows(*values):
    return np.array(values, np.float32)


def test_the_nearer_one_has_the_advantage_in_usual_errors():
    better = advantage(rows([9, 5, 0, 1]), rows([6, 5, 0, 3]), rows([10, 5, 0, 2]), rows([2, 1, 1, 1]))
    assert better.tolist() == [[1.5, 0, 0, 0]]


def test_one_target_says_only_so_much():
    better = advantage(rows([1e9, 0, 0, 0]), rows([0, 1e9, 0, 0]), rows([0, 0, 0, 0]), rows([1, 1, 1, 1]))
    assert better.tolist() == [[-LIMIT, LIMIT, 0, 0]]


def test_silence_where_the_other_speaks_is_the_worst_error():
    said, actual, unit = rows([1, 1, 1, 1]), rows([1, 1, NAN, 1]), rows([1, 1, 1, 1])
    better = advantage(rows([NAN, np.inf, 1, 1]), said, actual, unit)
    assert better[0, :2].tolist() == [-LIMIT, -LIMIT]
    assert np.isnan(better[0, 2])
    assert advantage(said, rows([NAN, np.inf, 1, 1]), actual, unit)[0, :2].tolist() == [LIMIT, LIMIT]
    assert np.isnan(advantage(rows([NAN] * 4), rows([NAN] * 4), actual, unit)).all()


def test_forecasts_count_that_were_made_after_the_last_target_of_the_period_before():
    target = PERIOD_MS * 10 + MINUTE_MS * np.arange(60)
    used = counts(target - 15 * MINUTE_MS, target)
    assert used.tolist() == [False] * 15 + [True] * 45


def compared(link_targets, challenger, incumbent, step_ms):
    n = len(link_targets)
    one = np.ones((n, 4), np.float32)
    target = np.array(link_targets, np.int64)
    return tally(
        challenger=challenger * one,
        incumbent=incumbent * one,
        actual=0 * one,
        scale=one,
        made_at_ms=target - 15 * MINUTE_MS,
        target_ms=target,
        step_ms=np.full(n, step_ms, np.int64),
    )


def test_links_count_alike_whatever_their_cadence():
    fast = compared([PERIOD_MS + m * MINUTE_MS for m in range(60)], 0.5, 1.0, MINUTE_MS)[1]
    slow = compared([PERIOD_MS + m * MINUTE_MS for m in (15, 30, 45)], 1.0, 0.5, 15 * MINUTE_MS)[1]
    assert (fast.targets, slow.targets) == (45, 3)
    assert fast.value == 0.5
    together = Tally()
    together.add(fast)
    together.add(slow)
    assert together.targets == 48
    assert together.value == pytest.approx(0)
    assert together.by_metric[:, 0].tolist() == [48] * 4
    assert together.by_metric[0, 1:].tolist() == pytest.approx([45 * 1.0 + 3 * 0.5, 45 * 0.5 + 3 * 1.0])


def test_periods_are_told_apart_and_nothing_compared_says_nothing():
    found = compared([PERIOD_MS + 20 * MINUTE_MS, 2 * PERIOD_MS + 20 * MINUTE_MS], 0.0, 1.0, MINUTE_MS)
    assert {period: one.value for period, one in found.items()} == {1: 1.0, 2: 1.0}
    assert compared([PERIOD_MS], 0.0, 1.0, MINUTE_MS) == {}
    assert Tally().value == 0
