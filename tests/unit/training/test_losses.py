"""Losses over targets of which some are absent."""

import numpy as np
import pytest

from pba_service.training.losses import masked_huber, pinball

LEVELS = (0.1, 0.5, 0.9)


def test_an_absent_target_weighs_nothing_in_huber():
    y = np.array([[[1.0, 1.0], [999.0, 0.0]]], np.float32)
    forecast = np.array([[0.5, 0.0]], np.float32)
    assert float(masked_huber()(y, forecast)) == pytest.approx(0.125)
    assert float(masked_huber()(y * [1, 0], forecast)) == 0


def test_pinball_is_least_at_the_quantiles():
    random = np.random.default_rng(5)
    target = random.normal(size=(4000, 1, 1)).astype(np.float32)
    y = np.concatenate([target, np.ones_like(target)], axis=-1)
    loss = pinball(LEVELS, (1, 1, 1), (1,))
    true = np.quantile(target, LEVELS).astype(np.float32)

    def at(quantiles):
        return float(loss(y, np.broadcast_to(quantiles, (4000, 1, 3)).astype(np.float32)))

    for shift in (-0.3, 0.3):
        for level in range(3):
            moved = true.copy()
            moved[level] += shift
            assert at(moved) > at(true)


def test_an_absent_target_weighs_nothing_in_pinball_and_a_freak_is_capped():
    loss = pinball(LEVELS, (1, 1, 1), (0.5, 0.5), cap=10)
    y = np.array([[[1.0, 1.0], [1e6, 0.0]]], np.float32)
    forecast = np.ones((1, 2, 3), np.float32)
    assert float(loss(y, forecast)) == 0
    y[0, 1, 1] = 1
    assert float(loss(y, forecast)) == pytest.approx(5)
