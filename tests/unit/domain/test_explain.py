"""Explanations are complete, and right where the right answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.explain import CLOCK, explain, flat_window
from pba_service.domain.samples import METRICS


def window(seed=1, slots=20, absent=()):
    made = np.random.default_rng(seed).random((slots, 6)).astype(np.float32) * [100, 50, 1, 10, 24, 6]
    made[:, list(absent)] = np.nan
    return made.astype(np.float32)


def linear(weights):
    """Each metric's forecast is a weighted sum over slots of itself, plus a little of the latency and the hour."""

    def forecast(windows):
        own = (windows[:, :, :4] * weights[None, :, None]).sum(axis=1)
        return own + 0.5 * windows[:, -1, 1:2] + 0.1 * windows[:, -1, 4:5]

    return forecast


def nonlinear(windows):
    last = windows[:, -1, :4]
    return last * windows[:, -2, :4] + np.maximum(last, windows[:, -5, :4]) ** 2


@given(st.integers(0, 2**32), st.sampled_from([(), (2,), (0, 3), (1, 2, 3)]))
def test_attributions_add_up(seed, absent):
    made = window(seed, absent=absent)
    found = explain(made, nonlinear)
    difference = found.forecast.astype(np.float64) - found.baseline
    np.testing.assert_allclose(found.attributions.sum(axis=1), difference, rtol=1e-4, atol=1e-2)
    assert np.isnan(found.forecast[list(absent)]).all()


def test_a_linear_model_is_explained_exactly():
    made = window()
    weights = np.linspace(0, 1, 20, dtype=np.float32)
    found = explain(made, linear(weights))
    flat = flat_window(made)
    players = {(player.feature, player.lag): i for i, player in enumerate(found.players)}
    for target, metric in enumerate(METRICS):
        for lag in range(9):
            expected = weights[-1 - lag] * (made[-1 - lag, target] - flat[-1 - lag, target])
            if lag == 0 and metric == "latency_ms":
                expected += 0.5 * (made[-1, 1] - flat[-1, 1])
            assert found.attributions[target, players[metric, lag]] == pytest.approx(expected, rel=1e-3, abs=1e-3)
        older = (weights[:11] * (made[:11, target] - flat[:11, target])).sum()
        assert found.attributions[target, players[metric, 9]] == pytest.approx(older, rel=1e-3, abs=1e-2)
        clock = 0.1 * (made[-1, 4] - 12)
        assert found.attributions[target, players[CLOCK, 0]] == pytest.approx(clock, rel=1e-3, abs=1e-3)


def test_an_input_that_does_not_matter_gets_nothing():
    found = explain(window(), lambda windows: windows[:, -1, :4])
    for i, player in enumerate(found.players):
        if player.lag or player.feature == CLOCK:
            np.testing.assert_allclose(found.attributions[:, i], 0, atol=1e-5)


def test_the_model_is_asked_once_and_not_for_much():
    sizes = []

    def forecast(windows):
        sizes.append(len(windows))
        return windows[:, -1, :4]

    explain(window(slots=100), forecast)
    assert sizes == [1 + 8 * 41]
