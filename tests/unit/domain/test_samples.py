"""What a sample may be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pba_service.domain.samples import (
    MAX_TEXT_BYTES,
    METRICS,
    Limits,
    LinkInfo,
    Reason,
    SampleBatch,
    Series,
    one_link_batch,
    text_fault,
    validate,
)

NOW = 1_800_000_000_000
LIMITS = Limits(max_ahead_ms=120_000, max_age_ms=30 * 86_400_000)
A_LINK = LinkInfo("a")
GOOD = [100.0, 20.0, 0.01, 1.5]


def batch(rows, times=None, link=A_LINK):
    values = np.array(rows, np.float32).reshape(-1, 4)
    return one_link_batch(link, [NOW] * len(values) if times is None else times, values)


def faults(of):
    good, refusals = validate(of, NOW, LIMITS)
    assert list(np.flatnonzero(~good)) == [refusal.index for refusal in refusals]
    return [(refusal.index, refusal.field, refusal.reason) for refusal in refusals]


def test_good_samples_pass():
    assert faults(batch([GOOD, [0, 0, 0, 0], [1e8, 3.6e6, 1, 3.6e6]])) == []


def test_each_metric_may_be_absent_but_not_all_of_them():
    nan = np.nan
    assert faults(batch([[100, nan, nan, nan], [nan, 20, nan, nan]])) == []
    assert faults(batch([[nan] * 4])) == [(0, "bandwidth_mbps", Reason.EMPTY)]


@pytest.mark.parametrize("metric", range(4))
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, Reason.NOT_FINITE),
        (np.inf, Reason.NOT_FINITE),
        (-np.inf, Reason.NOT_FINITE),
        (-0.001, Reason.OUT_OF_RANGE),
        (1e30, Reason.OUT_OF_RANGE),
    ],
)
def test_a_bad_value_is_named(metric, value, reason):
    rows = np.array([GOOD, GOOD], np.float32)
    rows[1, metric] = value
    bad = SampleBatch((LinkInfo("a"),), np.zeros(2, np.int32), np.full(2, NOW), rows, np.ones((2, 4), bool))
    assert faults(bad) == [(1, METRICS[metric], reason)]


def test_loss_is_a_ratio():
    assert faults(batch([[100, 20, 1.01, 1]])) == [(0, "packet_loss_ratio", Reason.OUT_OF_RANGE)]


def test_time_has_bounds():
    times = [NOW + 120_000, NOW + 120_001, NOW - LIMITS.max_age_ms, NOW - LIMITS.max_age_ms - 1, -(2**62), 2**62]
    assert faults(batch([GOOD] * 6, times)) == [
        (1, "measured_at", Reason.IN_THE_FUTURE),
        (3, "measured_at", Reason.TOO_OLD),
        (4, "measured_at", Reason.TOO_OLD),
        (5, "measured_at", Reason.IN_THE_FUTURE),
    ]


@pytest.mark.parametrize(
    ("link", "field", "reason"),
    [
        (LinkInfo(""), "link_id", Reason.MISSING),
        (LinkInfo("x" * (MAX_TEXT_BYTES + 1)), "link_id", Reason.BAD_TEXT),
        (LinkInfo("ü" * (MAX_TEXT_BYTES // 2 + 1)), "link_id", Reason.BAD_TEXT),
        (LinkInfo("a\nb"), "link_id", Reason.BAD_TEXT),
        (LinkInfo("a\x00"), "link_id", Reason.BAD_TEXT),
        (LinkInfo("a", node="n" * 200), "node", Reason.BAD_TEXT),
        (LinkInfo("a", peer="\x1b[31m"), "peer", Reason.BAD_TEXT),
        (LinkInfo("a", region="\u202e"), "region", Reason.BAD_TEXT),
    ],
)
def test_bad_texts_are_named(link, field, reason):
    assert faults(batch([GOOD], link=link)) == [(0, field, reason)]


@pytest.mark.parametrize("link_id", ["a", "x" * MAX_TEXT_BYTES, "fra→nyc", "{a}", "a:b/c d", "💧"])
def test_liberal_in_link_ids(link_id):
    assert faults(batch([GOOD], link=LinkInfo(link_id))) == []


@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(4)), elements=st.floats(width=32)),
    st.data(),
)
def test_what_passes_is_inside_the_contract(values, data):
    present = data.draw(npst.arrays(np.bool_, values.shape))
    times = data.draw(npst.arrays(np.int64, len(values), elements=st.integers(-(2**63), 2**63 - 1)))
    checked = SampleBatch((LinkInfo("a"),), np.zeros(len(values), np.int32), times, values, present)
    good, refusals = validate(checked, NOW, LIMITS)
    kept = checked.take(good)
    assert len(kept) + len(refusals) == len(checked)
    assert np.isfinite(kept.values[kept.present]).all()
    assert (kept.values[kept.present] >= 0).all()
    assert (kept.values[..., 2][kept.present[..., 2]] <= 1).all()
    assert kept.present.any(axis=1).all()


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100, width=32)), max_size=60))
def test_a_series_is_ordered_and_the_last_of_a_time_wins(samples):
    series = Series.of(
        np.array([time for time, _ in samples], np.int64),
        np.array([[value] * 4 for _, value in samples], np.float32).reshape(-1, 4),
    )
    assert dict(zip(series.times_ms.tolist(), series.values[:, 0].tolist(), strict=True)) == dict(samples)
    assert (np.diff(series.times_ms) > 0).all()


TEXTS = st.sampled_from(["", "a", "b" * 128, "c" * 129, "ü" * 64, "ü" * 65, "tab\t", "\u200b"])


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_texts_are_judged_together_as_each_by_itself(texts):
    links = tuple(LinkInfo(*of_link) for of_link in texts)
    count = len(links)
    values = np.ones((count, 4), np.float32)
    of = SampleBatch(
        links, np.arange(count, dtype=np.int32), np.full(count, NOW), values, np.ones((count, 4), np.bool_)
    )

    good, refusals = validate(of, NOW, LIMITS)

    found = [[text_fault(text, required=place == 0) for place, text in enumerate(link)] for link in links]
    assert good.tolist() == [not any(of_link) for of_link in found]
    assert [refusal.reason for refusal in refusals] == [next(filter(None, f))[0] for f in found if any(f)]
