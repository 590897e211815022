"""An evaluation is what serving would have done, it never peeks, and its numbers are those of the definitions."""

import json
import math

import numpy as np
import pytest

from pba_service.cli.evaluate import evaluate_file
from pba_service.domain.online import EXPERTS
from pba_service.domain.samples import METRICS, LinkInfo, Series
from pba_service.engine.advance import Options, advance
from pba_service.engine.models import Route
from pba_service.engine.ports import LinkState, Snapshot
from pba_service.evaluation import replay, score_all, summarise, text_table
from pba_service.evaluation.scores import RECENT_FORECASTS, SETTLED_AFTER, SIMPLE
from pba_service.files import JsonlWriter
from pba_service.settings import SHIPPED_MODELS
from tests.fakes import LastValueModel

MINUTE = 60_000
START = 1_800_000_000_000
MODEL = LastValueModel()


def walk(count, seed=1, step_ms=MINUTE, absent=()):
    rng = np.random.default_rng(seed)
    values = np.abs(np.cumsum(rng.normal(0, 1, (count, 4)), axis=0)) + np.array([100, 20, 0, 1])
    values[:, 2] = np.clip(np.abs(rng.normal(0, 0.01, count)), 0, 1)
    values[:, list(absent)] = np.nan
    return Series(START + np.arange(count, dtype=np.int64) * step_ms, values.astype(np.float32))


def replayed(*series, model=MODEL):
    return replay({f"c/{i}": link for i, link in enumerate(series)}, model, base_ms=MINUTE)


def collection(link_id):
    return link_id.partition("/")[0]


def test_a_replay_is_what_serving_does():
    series = walk(90)
    [link] = replayed(series)
    state = LinkState()
    served = []
    for count in range(1, len(series) + 1):
        seen = Series(series.times_ms[:count], series.values[:count])
        [one] = advance([Snapshot("a", seen, state, None)], [Route(MODEL)], Options(base_ms=MINUTE, catch_up=480))
        if one.commit:
            state = LinkState(state.version + 1, one.commit.blob)
            served.append(one.prediction)
    assert link.made_at_ms.tolist() == [made.made_at_ms for made in served]
    np.testing.assert_array_equal(link.values, np.stack([made.values for made in served]))
    np.testing.assert_array_equal(link.quantiles, np.stack([made.quantiles for made in served]))
    np.testing.assert_allclose(link.confidence, [made.confidence for made in served], rtol=1e-6)


@pytest.mark.parametrize("cut", [60, 61, 140])
def test_nothing_measured_later_influences_a_forecast(cut):
    series = walk(200)
    changed = series.values.copy()
    changed[cut + 1 :] = np.random.default_rng(9).random(changed[cut + 1 :].shape) * 0.5
    futures = (Series(series.times_ms, changed), Series(series.times_ms[: cut + 1], series.values[: cut + 1]))
    [before] = replayed(series)
    now = before.made_at_ms <= series.times_ms[cut]
    for [after] in map(replayed, futures):
        same = after.made_at_ms <= series.times_ms[cut]
        for name in ("made_at_ms", "values", "quantiles", "confidence", "experts", "model", "without_model", "recent"):
            np.testing.assert_array_equal(getattr(before, name)[now], getattr(after, name)[same], err_msg=name)


def test_the_company_of_other_links_changes_nothing():
    one, two = walk(150, seed=1), walk(70, seed=2, step_ms=4 * MINUTE, absent=(2,))
    together = replayed(one, two)
    for alone, link in zip((one, two), together, strict=True):
        [expected] = replayed(alone)
        np.testing.assert_array_equal(link.values, expected.values)
        np.testing.assert_array_equal(link.quantiles, expected.quantiles)


def test_targets_are_compared_with_the_sample_nearest_to_them():
    series = walk(60)
    missing = np.delete(np.arange(60), 40)
    [link] = replayed(Series(series.times_ms[missing], series.values[missing]))
    for made_at, target, actual in zip(link.made_at_ms, link.target_ms, link.actual, strict=True):
        assert target == made_at + 15 * MINUTE
        minute = (target - START) // MINUTE
        if minute == 40 or minute >= 60:
            assert np.isnan(actual).all()
        else:
            np.testing.assert_array_equal(actual, series.values[minute])


def test_scores_are_those_of_the_definitions():
    [link] = replayed(walk(400))
    [scored] = score_all([link], collection, part=0.5)
    rows = np.arange(len(link)) >= len(link) - round(len(link) * 0.5)
    for column, metric in enumerate(scored.metrics):
        assert metric.metric == METRICS[column]
        y = link.actual[:, column]
        used = rows & np.isfinite(y)
        y = y[used].astype(float)
        assert metric.forecasts == used.sum()
        assert metric.mae["served"] == pytest.approx(np.abs(link.values[used, column] - y).mean())
        for name in SIMPLE:
            said = link.experts[used, column, EXPERTS.index(name)]
            assert metric.mae[name] == pytest.approx(np.abs(said - y).mean())
        low, high = link.quantiles[used, column, 0].astype(float), link.quantiles[used, column, 4].astype(float)
        inside = (low <= y) & (y <= high)
        assert metric.coverage_90 == pytest.approx(inside.mean())
        assert metric.width_90 == pytest.approx((high - low).mean())
        outside = np.where(y < low, low - y, np.where(y > high, y - high, 0))
        assert metric.interval_score["served"] == pytest.approx((high - low + 20 * outside).mean())
        change = np.abs(np.diff(link.series.values[:, column].astype(float))).mean()
        assert metric.mase == pytest.approx(metric.mae["served"] / change)


def test_a_forecaster_that_slept_at_first_is_among_those_that_a_settled_combination_is_held_to():
    """Yesterday's value is not known on the first day; of a link that repeats to the minute it is the best by far."""
    day = walk(288, step_ms=5 * MINUTE).values
    values = np.tile(day, (6, 1)) + np.random.default_rng(3).normal(0, 0.01, (6 * 288, 4))
    times = START + np.arange(len(values), dtype=np.int64) * 5 * MINUTE
    [link] = replayed(Series(times, np.clip(values, 0, [1e8, 1e6, 1, 1e6]).astype(np.float32)))
    [scores] = score_all([link], collection)
    [bandwidth] = [metric for metric in scores.metrics if metric.metric == METRICS[0]]
    assert "seasonal" not in bandwidth.mae  # over all forecasts
    judged = np.isfinite(link.actual[:, 0])
    errors = np.abs(link.experts[judged, 0] - link.actual[judged, :1])[SETTLED_AFTER:].mean(axis=0)
    served = np.abs(link.values[judged, 0] - link.actual[judged, 0])[SETTLED_AFTER:].mean()
    assert np.nanargmin(errors) == EXPERTS.index("seasonal")
    assert bandwidth.settled_ratio == pytest.approx(served / errors.min(), rel=1e-4)


def test_the_best_recent_forecaster_chooses_by_what_is_settled():
    [link] = replayed(walk(300))
    [scored] = score_all([link], collection)
    simple = [EXPERTS.index(name) for name in SIMPLE]
    errors = []
    for i in range(len(link)):
        past = [j for j in range(i) if link.target_ms[j] <= link.made_at_ms[i]][-RECENT_FORECASTS:]
        recent = [np.abs(link.experts[j, 0, simple].astype(float) - link.actual[j, 0]) for j in past]
        chosen = int(np.argmin(np.sum(recent, axis=0))) if recent else 0
        errors.append(abs(float(link.experts[i, 0, simple[chosen]]) - link.actual[i, 0]))
    assert scored.metrics[0].mae["best_recent"] == pytest.approx(np.nanmean(errors), rel=1e-6)


def test_each_collection_counts_once():
    links = {"a/1": walk(200, 1), "a/2": walk(200, 2), "b/1": walk(200, 3)}
    scored = score_all(replay(links, MODEL, base_ms=MINUTE), collection)
    summary = summarise(scored)
    ratios = {link.link_id: link.metrics[0].mae["served"] / link.metrics[0].mae["last"] for link in scored}
    expected = (math.sqrt(ratios["a/1"] * ratios["a/2"]) + ratios["b/1"]) / 2
    assert summary.ratios["served"]["bandwidth_mbps"] == pytest.approx(expected)
    assert summary.collections == ("a", "b")
    assert sum(n for _, _, n in summary.reliability) == sum(len(link.confidences) for link in scored)


def test_the_table_names_every_forecaster_and_survives_what_is_missing():
    [table] = [text_table(summarise(score_all(replayed(walk(60, absent=(0, 2, 3))), collection)))]
    for name in ("served", "without_model", "best_recent", *SIMPLE):
        assert any(line.startswith(name) for line in table.splitlines())
    assert "nan" not in table


def test_links_without_a_judged_forecast_are_left_out():
    assert replayed(walk(9)) == []
    assert score_all(replayed(walk(20)), collection) == []


def test_the_command_prints_a_table_json_and_a_report(tmp_path, capsys):
    file, report = tmp_path / "links.jsonl", tmp_path / "report.html"
    with file.open("w") as stream:
        writer = JsonlWriter(stream)
        writer.write(LinkInfo("x/1"), walk(150))
        writer.write(LinkInfo("y/1"), walk(150, 2, absent=(0,)))
    evaluate_file(file, SHIPPED_MODELS, part=1.0, base_s=60, report=report)
    assert "2 links of 2 collections" in capsys.readouterr().out
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "x/1" in page
    with file.open("a") as stream:
        stream.write(f'{{"link": "x/1", "measured_at_ms": {START}, "latency_ms": null}}\n' * 2)
    evaluate_file(file, SHIPPED_MODELS, part=1.0, base_s=60, prefix="x", as_json=True)
    said = capsys.readouterr()
    assert "2 rows in which nothing was measured are left out" in said.err
    answer = json.loads(said.out)
    assert answer["summary"]["links"] == 1
    assert answer["links"][0]["metrics"][0]["mae"]["served"] > 0
