"""What a trained, exported and loaded model does, whatever its weights."""

import json

import numpy as np
import pytest

from pba_service.domain.samples import METRICS, Series
from pba_service.engine.ports import TrainingData
from pba_service.training import TrainOptions, dataset, scores, train, trainer
from pba_service.training.dataset import TooFewExamplesError
from pba_service.training.finetune import NotRestorableError
from pba_service.training.onnx_run import OnnxGraph
from tests.unit.training.conftest import tiny

STEP_MS = 60_000


def steps(n, step_ms=STEP_MS):
    return np.full(n, step_ms, np.int64)


def test_the_documented_topology_has_its_parameters(trained):
    _, model = trained
    expected = {"bandwidth_lstm": 120_804}
    assert model.info.parameter_count == expected.get(model.info.name, model.info.parameter_count)
    assert model.info.window_slots == {"bandwidth_lstm": 10, "pba_lstm": 100}[model.info.name]


def test_the_manifest_tells_what_was_trained_on(trained):
    folder, model = trained
    fields = json.loads((folder / "manifest.json").read_text())
    training = fields["training"]
    assert training["collections"] == []
    assert training["simulated_links"] == 2
    assert 4_500 < training["simulated_rows"] <= 5_000
    assert training["options"]["seed"] == 7
    assert model.info.name in fields["scores"]["test"]
    assert fields["scores"]["test"]["last"]["mean"] == pytest.approx(1)
    assert str(folder) not in json.dumps(fields)
    assert model.info.training == TrainingData(rows=0, links=0, fingerprint_sha256="")


def test_a_part_with_too_few_targets_has_no_score_rather_than_one_of_nothing(folders):
    recipe = trainer.recipe_of("pba_lstm")
    series = Series(np.arange(130, dtype=np.int64) * STEP_MS, np.full((130, 4), 20.0, np.float32))
    examples = dataset.examples_of(
        [dataset.Trace("history", "short", series)], slots=trainer.EXAMPLE_SLOTS, horizons_s=recipe.horizons_s
    )
    assert 0 < (examples.part == dataset.TEST).sum() < scores.LEAST_TARGETS
    graph = OnnxGraph((folders("pba_lstm") / "model.onnx").read_bytes())
    said = []
    assert trainer.parts_scored(recipe, graph, examples, said.append)[1] is None
    assert said == []


def test_times_are_written_so_that_a_server_reads_them():
    assert trainer.rfc3339(1_767_225_600_999) == "2026-01-01T00:00:00Z"


def test_a_forecast_does_not_depend_on_the_batch(trained, noisy):
    _, model = trained
    windows = noisy(40, model.info.window_slots)
    windows[::3, :, 1] = np.nan
    together = model.predict(windows, steps(40))
    alone = np.concatenate([model.predict(windows[i : i + 1], steps(1)) for i in range(40)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_absent_metrics_are_absent_and_do_not_disturb_present_ones_of_the_product(product, noisy):
    windows = noisy(4, product.info.window_slots)
    whole = product.predict(windows, steps(4))
    for column in range(4):
        lacking = windows.copy()
        lacking[..., column] = np.nan
        forecast = product.predict(lacking, steps(4))
        assert np.isnan(forecast[:, :, column]).all()
        others = [c for c in range(4) if c != column]
        np.testing.assert_allclose(forecast[:, :, others], whole[:, :, others], rtol=1e-4)


def test_absent_metrics_come_out_absent(trained, noisy):
    _, model = trained
    windows = noisy(3, model.info.window_slots)
    windows[0, :, 0] = np.nan
    windows[1, :, [1, 2]] = np.nan
    windows[2, :, :4] = np.nan
    absent = np.isnan(model.predict(windows, steps(3))).all(axis=(1, 3))
    wanted = [[True, False, False, False], [False, True, True, False], [True] * 4]
    np.testing.assert_array_equal(absent, wanted)


def test_a_batch_without_any_metric_is_answered_with_nothing(trained, noisy):
    _, model = trained
    windows = noisy(2, model.info.window_slots)
    windows[..., :4] = np.nan
    assert np.isnan(model.predict(windows, steps(2))).all()


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_forecasts_stay_physical(trained, noisy, scale):
    _, model = trained
    windows = noisy(16, model.info.window_slots)
    windows[..., :4] *= scale
    windows[..., 2] = np.minimum(windows[..., 2], 1)
    forecast = model.predict(windows, steps(16))
    assert np.isfinite(forecast).all()
    assert (forecast >= 0).all()
    assert (forecast[:, :, METRICS.index("packet_loss_ratio")] <= 1).all()


@pytest.mark.parametrize("known", [10, 11, 27, 60, 99])
def test_a_short_history_is_enough(product, noisy, known):
    windows = noisy(8, product.info.window_slots)
    windows[:, :-known, :4] = np.nan
    assert np.isfinite(product.predict(windows, steps(8))).all()


def test_quantiles_never_cross(product, noisy):
    windows = noisy(200, product.info.window_slots)
    windows[:50, 50:] *= 1000.0
    windows[..., 2] = np.clip(windows[..., 2], 0, 1)
    windows[50:100, -1, :4] = 0
    forecast = product.predict(windows, steps(200))
    assert (np.diff(forecast, axis=-1) >= 0).all()
    assert (forecast[..., -1] > forecast[..., 0]).mean() > 0.9


def test_the_product_sees_no_absolute_level_and_no_hour(product, noisy):
    windows = noisy(8, product.info.window_slots)
    other = windows.copy()
    other[..., [0, 1, 3]] *= 64
    other[..., 4:] = 3
    forecast, scaled = (product.predict(w, steps(8)) for w in (windows, other))
    np.testing.assert_allclose(scaled[:, :, [0, 1, 3]], 64 * forecast[:, :, [0, 1, 3]], rtol=1e-3)
    np.testing.assert_allclose(scaled[:, :, 2], forecast[:, :, 2], rtol=1e-3, atol=1e-6)


def test_a_level_that_never_moves_is_forecast_to_stay(product):
    windows = np.zeros((1, product.info.window_slots, 6), np.float32)
    windows[..., :4] = [100.0, 20.0, 0.01, 3.0]
    forecast = product.predict(windows, steps(1))[0, 1, :, 3]
    np.testing.assert_allclose(forecast, [100.0, 20.0, 0.01, 3.0], rtol=0.25)


def test_the_same_seed_gives_the_same_model(trained, tmp_path):
    folder, _ = trained
    fields = json.loads((folder / "manifest.json").read_text())
    options = fields["training"]["options"] | {"hold_out": ()}
    again = TrainOptions(output=tmp_path, threads=1, created_at="2026-01-01T00:00:00Z", **options)
    train(again, lambda line: None)
    assert json.loads((tmp_path / "manifest.json").read_text()) == fields


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "transformer"}, "model must be one of"),
        ({"epochs": 0, "threads": -1}, "epochs must be at least 1; threads must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"simulated_links": 0}, "without data"),
        ({"batch_size": 512, "windows_per_epoch": 100}, "windows_per_epoch must be at least 512"),
    ],
)
def test_options_that_cannot_be_trained_are_refused_together(tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        TrainOptions(output=tmp_path, **changes)


@pytest.mark.parametrize("rows", [[], [f"2026-01-01T00:0{minute}:00Z,a,90,8,0,1" for minute in range(5)]])
def test_measurements_too_few_to_learn_from_are_told_and_not_passed_over(tmp_path, rows):
    file = tmp_path / "few.csv"
    file.write_text("\n".join(["timestamp,link_id,bandwidth_mbps,latency_ms,packet_loss,jitter_ms", *rows]) + "\n")
    with pytest.raises(TooFewExamplesError, match=r"few\.csv holds no measurement|no link has enough"):
        train(tiny(tmp_path / "m", "bandwidth_lstm", data=file), lambda line: None)
    assert not (tmp_path / "m" / "manifest.json").exists()


@pytest.mark.parametrize("said", ["{}", "[]", "half", None])
def test_a_parent_that_does_not_say_its_version_is_refused_before_anything_is_trained(tmp_path, said):
    if said is not None:
        (tmp_path / "manifest.json").write_text(said)
    with pytest.raises(NotRestorableError, match=r"does not say a version|manifest\.json: No such file"):
        train(tiny(tmp_path / "m", "pba_lstm", parent=tmp_path), lambda line: None)
