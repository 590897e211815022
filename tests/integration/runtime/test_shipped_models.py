"""The models that this repository ships, as the service loads them."""

from pathlib import Path

import numpy as np
import pytest

from pba_service.domain.profiles import PROFILES
from pba_service.domain.simulate import simulate
from pba_service.domain.window import windows_at
from pba_service.runtime.files import PREFERRED
from pba_service.runtime.session import load_model

MODELS = Path(__file__).parents[3] / "models"
SHIPPED = sorted(manifest.parent.name for manifest in MODELS.glob("*/manifest.json"))


@pytest.fixture(scope="module", params=SHIPPED)
def model(request):
    return load_model(MODELS / request.param)


def windows(model):
    parts = []
    for profile in PROFILES.values():
        series = simulate(profile, 3, 1_700_000_000_000, 400, 60_000).series
        parts.append(windows_at(series, np.arange(100, 360, 13), model.info.window_slots, 60_000))
    values, steps = (np.concatenate([getattr(p, field) for p in parts]) for field in ("values", "step_ms"))
    usable = np.concatenate([part.usable for part in parts])
    assert usable.sum() > 100
    return values[usable], steps[usable]


def test_there_is_one_and_it_is_a_preferred_one():
    assert SHIPPED
    assert load_model(MODELS).info.name in PREFERRED


def test_forecasts_are_sound_for_whatever_links_do(model):
    values, steps = windows(model)
    forecasts = model.predict(values, steps)
    known = np.isfinite(values[:, -1, :4])
    assert np.array_equal(np.isfinite(forecasts).all(axis=(1, 3)), known)
    assert np.array_equal(np.isnan(forecasts).all(axis=(1, 3)), ~known)
    assert np.nanmin(forecasts) >= 0
    assert np.nanmax(forecasts[:, :, 2]) <= 1
    assert (np.diff(forecasts, axis=-1)[np.isfinite(np.diff(forecasts, axis=-1))] >= 0).all()


def test_a_forecast_does_not_depend_on_its_company(model):
    values, steps = windows(model)
    together = model.predict(values, steps)
    alone = np.concatenate([model.predict(values[i : i + 1], steps[i : i + 1]) for i in range(len(values))])
    shuffled = np.random.default_rng(0).permutation(len(values))
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.predict(values[shuffled], steps[shuffled]), together[shuffled], rtol=1e-5, atol=1e-6
    )
