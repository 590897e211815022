"""The acceptance table on a few real links, held to margins wide enough for any good model: a regression is seen."""

import os
from pathlib import Path

import pytest

from pba_service.domain.samples import Series
from pba_service.evaluation import replay, score_all, summarise, text_table
from pba_service.files import read_links
from pba_service.runtime.session import load_model
from pba_service.settings import SHIPPED_MODELS

SAMPLES = 1_200
LEAST_SAMPLES = 700
MINUTE_MS = 60_000


def collection_of(link_id):
    return link_id.partition("/")[0]


@pytest.fixture(scope="module")
def summary():
    """Of each collection the shortest link that is long enough, its newest samples."""
    if "TRACES_DIR" not in os.environ:
        pytest.skip("TRACES_DIR names no folder with dev.parquet, the traces that this test replays")
    chosen = {}
    for link in read_links(Path(os.environ["TRACES_DIR"]) / "dev.parquet"):
        name, held = collection_of(link.info.link_id), len(link.series)
        if held >= LEAST_SAMPLES and held < len(chosen.get(name, ("", range(10**9)))[1]):
            chosen[name] = (link.info.link_id, link.series)
    links = {
        link_id: Series(series.times_ms[-SAMPLES:], series.values[-SAMPLES:]) for link_id, series in chosen.values()
    }
    assert len(links) >= 10
    result = summarise(score_all(replay(links, load_model(SHIPPED_MODELS), base_ms=MINUTE_MS), collection_of))
    print(text_table(result))  # noqa: T201 - shown where an assertion fails
    return result


def test_the_served_forecast_beats_the_last_value_and_the_median_of_10(summary):
    assert summary.ratios["served"]["mean"] <= 0.85
    assert summary.ratios["served"]["mean"] <= 0.96 * summary.ratios["median10"]["mean"]
    assert summary.to_better["mean"] <= 1.0


def test_the_served_forecast_is_near_the_best_that_hindsight_would_choose(summary):
    assert summary.to_best["mean"] <= 1.03


def test_the_model_does_its_part(summary):
    assert summary.to_without_model["mean"] <= 1.0
    assert summary.ratios["model"]["mean"] <= 0.88


def test_intervals_cover_what_they_say_and_are_no_wider_than_they_need_be(summary):
    assert 0.87 <= summary.mean_coverage[1] <= 0.93
    assert 0.76 <= summary.mean_coverage[0] <= 0.84
    assert summary.coverage_medium >= 0.9
    assert summary.interval_ratios["recent"] <= 1.02


def test_confidence_comes_true(summary):
    assert summary.calibration_error <= 0.03
    assert summary.sure_hits >= 0.88
