import numpy as np
import pytest

from pba_service.domain.experiments import Scales
from pba_service.domain.experiments.scales import LEAST, LEAST_TARGETS


def measured(scales, link_ids, periods, errors):
    actual = np.zeros((len(link_ids), 4), np.float32)
    last = np.repeat(np.array(errors, np.float32)[:, None], 4, axis=1)
    return scales.measure(link_ids, np.array(periods, np.int64), last, actual)


def test_within_a_period_errors_are_measured_in_those_of_the_periods_before():
    scales = Scales()
    first = measured(scales, ["a"] * 20, [1] * 20, [3.0] * 20)
    assert np.isnan(first).all()
    assert measured(scales, ["a"] * 3, [2] * 3, [50.0] * 3)[:, 0].tolist() == pytest.approx([3, 3, 3])
    assert measured(scales, ["a"], [3], [0.0])[0, 0] > 3


def test_too_little_is_no_scale_and_links_are_told_apart():
    scales = Scales()
    links = ["a"] * LEAST_TARGETS + ["b"] * 2 * LEAST_TARGETS
    measured(scales, links, [1] * len(links), [1.0] * len(links))
    found = measured(scales, ["a", "b", "c"], [2, 2, 2], [1.0, 1.0, 1.0])
    assert np.isfinite(found[:, 0]).tolist() == [False, True, False]


def test_the_order_of_links_in_a_batch_does_not_matter():
    random = np.random.default_rng(1)
    links, periods = random.integers(0, 5, 300), np.sort(random.integers(0, 6, 300))
    errors = random.exponential(size=300)
    together = measured(Scales(), [str(link) for link in links], periods, errors)
    apart = Scales()
    alone = np.stack(
        [measured(apart, [str(link)], [p], [e])[0] for link, p, e in zip(links, periods, errors, strict=True)]
    )
    np.testing.assert_array_equal(together, alone)


def test_a_steady_link_is_measured_in_the_least_that_matters():
    scales = Scales()
    measured(scales, ["a"] * 20, [1] * 20, [0.0] * 20)
    assert measured(scales, ["a"], [2], [0.0])[0].tolist() == pytest.approx(LEAST.tolist())


def test_absent_values_teach_nothing():
    scales = Scales()
    nothing = np.full((40, 4), np.nan, np.float32)
    assert np.isnan(scales.measure(["a"] * 40, np.repeat([1, 2], 20), nothing, nothing)).all()


def test_more_links_than_are_kept_begin_anew():
    scales = Scales(links_kept=100)
    for start in range(0, 300, 50):
        measured(scales, [str(start + i) for i in range(50)], [1] * 50, [1.0] * 50)
    assert measured(scales, ["0"], [2], [1.0]).shape == (1, 4)
