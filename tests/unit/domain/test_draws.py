"""Draws by position: distributions as named, streams independent, each draw its own."""

import numpy as np
import pytest

from pba_service.domain.draws import Draws, poisson_median

N = np.arange(200_000, dtype=np.int64)
DRAWS = Draws("test")


def test_a_draw_does_not_depend_on_its_company():
    alone = [DRAWS.heavy_tailed("a", N[k : k + 1])[0] for k in range(20)]
    assert np.array_equal(DRAWS.heavy_tailed("a", N)[:20], alone)


def test_uniform_fills_the_open_interval_evenly():
    draws = DRAWS.uniform("a", N)
    assert draws.min() > 0
    assert draws.max() < 1
    counts = np.histogram(draws, 50, (0, 1))[0]
    assert np.abs(counts - len(N) / 50).max() < 5 * np.sqrt(len(N) / 50)


def test_neighbours_streams_and_keys_are_independent():
    draws = DRAWS.uniform("a", N)
    for other in (np.roll(draws, 1), DRAWS.uniform("b", N), Draws("other").uniform("a", N), np.roll(draws, 1440)):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("draws", "mean", "deviation"),
    [(DRAWS.normal("a", N), 0, 1), (DRAWS.exponential("a", N), 1, 1)],
)
def test_moments(draws, mean, deviation):
    assert draws.mean() == pytest.approx(mean, abs=0.02)
    assert draws.std() == pytest.approx(deviation, abs=0.02)


def test_the_heavy_tail_is_heavy_and_centred():
    draws = DRAWS.heavy_tailed("a", N)
    assert np.median(draws) == pytest.approx(0, abs=0.02)
    assert np.mean(np.abs(draws) > 5) == pytest.approx(0.0154, abs=0.002)  # of a normal: 6e-7


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.7, 3.0, 12.5, 19.9, 20.1, 400.0])
def test_poisson_has_its_mean_variance_and_median(mean):
    draws = DRAWS.poisson("a", N, np.full(len(N), mean))
    assert draws.mean() == pytest.approx(mean, abs=0.02 * np.sqrt(mean) + 1e-9)
    assert draws.var() == pytest.approx(mean, rel=0.05, abs=1e-3)
    assert abs(np.median(draws) - poisson_median(np.array([mean]))[0]) <= (0 if mean < 20 else 1)
    assert np.array_equal(draws, np.rint(draws))
