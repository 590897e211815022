"""Links whose daily course is stronger than all else are forecast far better than by any simple forecaster."""

from pathlib import Path

import numpy as np
import pytest

from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import METRICS
from pba_service.domain.simulate import LinkSimulator
from pba_service.evaluation import replay
from pba_service.evaluation.scores import SIMPLE, forecasts
from pba_service.runtime.session import load_model

HOUR_MS = 3_600_000
START_MS = 1_770_000_000_000
WARM_UP = 1_000


@pytest.mark.parametrize("metric", ["bandwidth_mbps", "latency_ms", "jitter_ms"])
def test_a_link_measured_once_an_hour_is_foreseen_by_its_daily_course(measured_hourly, metric):
    column = METRICS.index(metric)
    actual = measured_hourly.actual[WARM_UP:, column]
    said = forecasts(measured_hourly)
    error = {name: np.nanmean(np.abs(said[name][WARM_UP:, column] - actual)) for name in (*SIMPLE, "served")}
    assert error["served"] < 0.7 * min(error[name] for name in SIMPLE)


@pytest.fixture(scope="module")
def measured_hourly():
    simulator = LinkSimulator(PROFILES["daily"], 3)
    series = simulator.measured(START_MS, START_MS + 3_000 * HOUR_MS, HOUR_MS)
    [link] = replay({"daily": series}, load_model(Path("models/pba_lstm")), base_ms=60_000)
    return link
