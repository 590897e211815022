"""One tiny model of each kind, trained once for the whole run."""

import functools

import numpy as np
import pytest

from pba_service.domain.samples import Series
from pba_service.domain.window import clock_features
from pba_service.runtime.session import load_model
from pba_service.training import TrainOptions, train

START_MS = 1_767_225_600_000


def tiny(folder, model, **changes):
    """Options of a run that takes seconds."""
    few = {
        "epochs": 1,
        "batch_size": 128,
        "windows_per_epoch": 1_024,
        "simulated_links": 2,
        "threads": 1,
        "created_at": "2026-01-01T00:00:00Z",
    }
    return TrainOptions(output=folder, model=model, **(few | changes))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Trains a tiny model the first time it is asked for; its folder."""

    @functools.cache
    def folder_of(model):
        folder = tmp_path_factory.mktemp(model)
        lines = []
        train(tiny(folder, model), lines.append)
        assert any("epoch   1/1" in line for line in lines)
        return folder

    return folder_of


@pytest.fixture(scope="session", params=["bandwidth_lstm", "pba_lstm"])
def trained(request, folders):
    """(folder, loaded model) of one tiny run."""
    folder = folders(request.param)
    return folder, load_model(folder)


@pytest.fixture(scope="session")
def product(folders):
    """A tiny `pba_lstm`, loaded."""
    return load_model(folders("pba_lstm"))


@pytest.fixture
def noisy():
    """Makes float32[n, slots, 6] windows around a level, with seeded noise."""

    def make(n, slots, seed=0):
        random = np.random.default_rng(seed)
        windows = np.empty((n, slots, 6), np.float32)
        level = np.array([100.0, 40.0, 0.01, 4.0]) * np.exp(random.normal(0, 1, (n, 1, 4)))
        windows[..., :4] = level * np.exp(random.normal(0, 0.3, (n, slots, 4)))
        windows[..., 2] = np.minimum(windows[..., 2], 1)
        windows[..., 4:] = clock_features(START_MS + 60_000 * np.arange(slots))
        return windows

    return make


@pytest.fixture
def series():
    """Makes a series of n samples on the beat, from float[n, 4] or by seed."""

    def make(n=300, step_s=60, seed=0, values=None):
        random = np.random.default_rng(seed)
        drawn = np.array([50.0, 20.0, 0.02, 2.0]) * np.exp(random.normal(0, 0.2, (n, 4)))
        times = START_MS + step_s * 1000 * np.arange(n, dtype=np.int64)
        return Series(times, np.asarray(drawn if values is None else values, np.float32))

    return make
