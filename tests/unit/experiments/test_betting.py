import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments.laws import LAWS, observations
from pba_service.domain.experiments import Rule, Verdict, judge
from pba_service.domain.experiments.betting import CLIP

RULE = Rule()


def test_nothing_seen_is_no_evidence():
    evidence = judge([], RULE)
    assert (evidence.verdict, evidence.periods) == (Verdict.KEEP_ON, 0)
    assert (evidence.promote_wealth, evidence.reject_wealth) == (1.0, 1.0)
    assert evidence.low == pytest.approx(-CLIP, abs=1e-6)
    assert evidence.high == pytest.approx(CLIP, abs=1e-6)


@pytest.mark.parametrize(("sign", "verdict"), [(1, Verdict.PROMOTE), (-1, Verdict.REJECT)])
def test_a_clear_difference_is_decided_within_hours(sign, verdict):
    evidence = judge(sign * np.full(50, 0.1), RULE)
    assert evidence.verdict is verdict
    assert evidence.periods < 15


def test_a_little_better_in_most_hours_is_not_enough_where_the_others_cost_more():
    observations = np.full(RULE.max_periods, 0.03)
    observations[9::20] = -1.0  # counts as a fifth, and is more than all others bring
    bounded = judge(np.maximum(observations, -CLIP), RULE)
    assert bounded.verdict is Verdict.PROMOTE
    assert judge(observations, RULE).verdict is Verdict.EXPIRED
    assert judge(-observations, RULE).verdict is Verdict.EXPIRED


def test_identical_models_are_neither_promoted_nor_rejected_and_expire():
    evidence = judge(np.zeros(RULE.max_periods), RULE)
    assert evidence.verdict is Verdict.EXPIRED
    assert evidence.promote_wealth == evidence.reject_wealth == 1.0
    assert judge(np.zeros(RULE.max_periods - 1), RULE).verdict is Verdict.KEEP_ON


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name.split(":")[0])
def test_equally_good_models_are_promoted_no_oftener_than_stated_although_watched_all_the_time(law):
    runs = 150
    promoted = sum(
        judge(observations(law, RULE.max_periods, 0.0, np.random.default_rng([9, run])), RULE).verdict
        is Verdict.PROMOTE
        for run in range(runs)
    )
    # three standard errors above the stated rate of a fair coin of that rate; measured rates are half of it or less
    assert promoted / runs <= RULE.false_promotion + 3 * np.sqrt(RULE.false_promotion * 0.95 / runs)


def test_peeking_at_a_plain_t_test_is_what_this_is_not():
    """The same data, watched with the usual test of a mean: the stated 5 % is far exceeded."""
    runs, fooled = 100, 0
    for run in range(runs):
        x = observations(LAWS[0], RULE.max_periods, 0.0, np.random.default_rng([9, run]))
        count = np.arange(1, len(x) + 1)
        mean = np.cumsum(x) / count
        deviation = np.sqrt(np.maximum(np.cumsum(x**2) / count - mean**2, 1e-12) / count)
        fooled += (mean[10:] > 1.645 * deviation[10:]).any()
    assert fooled / runs > 3 * RULE.false_promotion


def test_an_improvement_of_ten_percent_is_found():
    found = [judge(observations(LAWS[1], 336, 0.1, np.random.default_rng([5, run])), RULE) for run in range(20)]
    assert all(evidence.verdict is Verdict.PROMOTE for evidence in found)
    assert np.median([evidence.periods for evidence in found]) < 48


hours = st.builds(
    lambda x, better: [value + better for value in x],
    st.lists(st.floats(-0.2, 0.2), max_size=60),
    st.sampled_from([-0.2, -0.1, 0.0, 0.1, 0.2]),
)
"""Observations of challengers that are as good, or so much better or worse that it comes to a verdict."""


@given(hours)
def test_looking_at_every_step_and_looking_once_agree(x):
    whole = judge(x, RULE)
    steps = [judge(x[:n], RULE) for n in range(len(x) + 1)]
    decided = [step for step in steps if step.verdict is not Verdict.KEEP_ON]
    assert (decided[0] if decided else steps[-1]) == whole
    assert whole.periods == (steps.index(decided[0]) if decided else len(x))


@given(hours)
def test_better_and_worse_are_mirror_images(x):
    one, other = judge(x, RULE), judge([-value for value in x], RULE)
    assert one.promote_wealth == pytest.approx(other.reject_wealth)
    assert one.low == pytest.approx(-other.high, abs=1e-5)
    assert (one.verdict is Verdict.PROMOTE) == (one.low > 1e-6)
    assert one.low <= one.advantage + 1e-6
    assert one.advantage <= one.high + 1e-6


def test_the_confidence_sequence_holds_the_truth_at_all_times():
    missed = 0
    for run in range(60):
        x = np.clip(np.random.default_rng(run).normal(0.03, 0.05, 80), -CLIP, CLIP)
        missed += any(
            not (evidence.low <= 0.03 <= evidence.high)
            for evidence in (judge(x[:n], Rule(false_promotion=1e-9, false_rejection=1e-9)) for n in (5, 20, 80))
        )
    assert missed == 0


@pytest.mark.parametrize("wrong", [{"false_promotion": 0.0}, {"false_rejection": 1.0}, {"max_periods": 0}])
def test_what_is_no_rule_is_refused(wrong):
    with pytest.raises(ValueError, match="error rates"):
        Rule(**wrong)
