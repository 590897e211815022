"""The graph's own preparation against the plain reference."""

import numpy as np
import pytest

from pba_service.domain import anchors
from pba_service.training import features
from pba_service.training.onnx_run import OnnxGraph


@pytest.fixture(scope="module")
def prepare():
    return OnnxGraph(features.feature_graph())


def run(prepare, windows, step_s=60.0):
    return prepare({"window": windows, "step_s": np.full(len(windows), step_s, np.float32)})


@pytest.mark.parametrize("known", [10, 13, 31, 100])
def test_order_statistics_are_those_of_the_reference(prepare, noisy, known):
    windows = noisy(12, features.SLOTS)
    windows[:, :-known, :4] = np.nan
    made = run(prepare, windows)
    values = windows[..., :4]
    wanted = {
        "last": anchors.last_value(values),
        "median3": anchors.median_of(values, 3),
        "median5": anchors.median_of(values, 5),
    }
    for name, reference in wanted.items():
        got = raw(made, name).reshape(12, 4)
        np.testing.assert_allclose(got, reference, rtol=2e-4, err_msg=name)
    for slots in (10, 30):
        # an even count's median is the middle of two transformed values, so within those two
        got = raw(made, f"median{slots}").reshape(12, 4)
        ordered = np.sort(values[:, -min(slots, known) :], axis=1)
        count = ordered.shape[1]
        low, high = ordered[:, (count - 1) // 2], ordered[:, count // 2]
        assert (got >= low * 0.999).all()
        assert (got <= high * 1.001).all()


def raw(made, name):
    """An anchor of the feature graph in raw units."""
    value = made["anchors"][:, features.ANCHORS.index(name)]
    other = (np.exp(value) - features.OFFSET) * made["scale"][:, 0]
    return np.where(made["is_loss"][:, 0] > 0, np.square(value), other)


def test_everything_is_finite_for_the_worst_windows(prepare):
    windows = np.zeros((6, features.SLOTS, 6), np.float32)
    windows[1, :, :4] = [1e8, 3.6e6, 1.0, 3.6e6]
    windows[2, -1, :4] = [1e8, 3.6e6, 1.0, 3.6e6]
    windows[3, :-10, :4] = np.nan
    windows[4, ::2, :4] = [1e8, 3.6e6, 1.0, 3.6e6]
    windows[5, :, :4] = 1e-12
    made = run(prepare, windows, step_s=1_800.0)
    for name in ("steps", "context", "anchors", "spread", "scale"):
        assert np.isfinite(made[name]).all(), name


def test_only_present_metrics_become_rows(prepare, noisy):
    windows = noisy(3, features.SLOTS)
    windows[0, :, 1:4] = np.nan
    windows[2, :, 0] = np.nan
    rows = run(prepare, windows)["index"].astype(int).tolist()
    assert rows == [[0, 0], *[[1, m] for m in range(4)], *[[2, m] for m in range(1, 4)]]


def test_backtests_tell_noise_from_wandering(prepare):
    random = np.random.default_rng(1)
    shocks = random.normal(0, 0.05, (64, features.SLOTS))
    windows = np.full((64, features.SLOTS, 6), np.nan, np.float32)
    windows[:32, :, 0] = 100 * np.exp(shocks[:32])  # noise around one level
    windows[32:, :, 0] = 100 * np.exp(np.cumsum(shocks[32:], axis=1))  # a random walk
    context = run(prepare, windows)["context"]
    first = len(features.ANCHORS)
    last_value, smooth = context[:, first], context[:, first + 2 * len(features.LAGS)]
    assert (last_value - smooth)[:32].mean() > 0.1
    assert (last_value - smooth)[32:].mean() < -0.1
