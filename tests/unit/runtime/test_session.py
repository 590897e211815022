"""A model under ONNX Runtime: proved before it serves, and the same answers whatever the batch."""

import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pba_service.domain.errors import ModelRefusedError, PbaError
from pba_service.domain.window import clock_features
from pba_service.runtime.session import load_model
from tests.unit.runtime import model_files


@pytest.fixture
def model(tmp_path):
    return load_model(model_files.write(tmp_path))


def windows(n, slots=model_files.SLOTS, seed=0):
    random = np.random.default_rng(seed)
    values = random.lognormal(3, 1, (n, slots, 6)).astype(np.float32)
    values[..., 2] = random.uniform(0, 0.1, (n, slots))
    values[..., 4:] = clock_features(1_700_000_000_000 + 60_000 * np.arange(slots))
    values[1::5, :, 0] = np.nan
    return values


def test_it_answers_in_raw_units_by_horizon_metric_and_level(model):
    values, steps = windows(7), np.array([60_000, 240_000, 60_000, 1_000, 60_000, 60_000, 90_000])
    forecasts = model.predict(values, steps)
    assert forecasts.dtype == np.float32
    expected = [model_files.answer(w, s / 1000) for w, s in zip(values, steps, strict=True)]
    np.testing.assert_allclose(forecasts, expected, rtol=1e-6)
    assert np.isnan(forecasts[1, :, 0]).all()


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_batches_of_any_size_are_answered_in_order(model, n):
    values, steps = windows(n), 60_000 * (1 + np.arange(n))
    forecasts = model.predict(values, steps)
    assert forecasts.shape == (n, 2, 4, 3)
    np.testing.assert_allclose(forecasts[:, 0, 1, 0], values[:, -1, 1] + steps / 1000 * 0.1, rtol=1e-5)


def test_other_memory_layouts_and_types_are_taken(model):
    values = windows(6)
    steps = np.full(6, 60_000)
    expected = model.predict(values, steps)
    strided = np.asfortranarray(np.repeat(values, 2, axis=0))[::2]
    np.testing.assert_array_equal(model.predict(strided, steps), expected)
    np.testing.assert_array_equal(model.predict(values.astype(np.float64), steps), expected)


@pytest.mark.parametrize("shape", [(2, 9, 6), (2, 10, 5), (10, 6)])
def test_windows_of_another_shape_are_refused(model, shape):
    with pytest.raises(ValueError, match="do not fit"):
        model.predict(np.zeros(shape, np.float32), np.full(shape[0], 60_000))


def test_threads_may_share_it(model):
    values, steps = windows(50), np.full(50, 60_000)
    expected, results = model.predict(values, steps), []
    threads = [threading.Thread(target=lambda: results.append(model.predict(values, steps))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


def refusal(folder):
    with pytest.raises(ModelRefusedError) as caught:
        load_model(folder)
    assert not isinstance(caught.value, PbaError), "callers are not told of files"
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


def test_a_file_that_was_changed_is_refused(tmp_path):
    folder = model_files.write(tmp_path)
    (folder / "model.onnx").write_bytes(model_files.graph(factor=1.01))
    assert "SHA-256" in refusal(folder)


def test_a_missing_file_is_refused(tmp_path):
    folder = model_files.write(tmp_path)
    (folder / "model.onnx").unlink()
    assert "No such file" in refusal(folder)


@pytest.mark.parametrize("content", [b"not a model", model_files.graph()[:200]])
def test_what_is_no_graph_is_refused(tmp_path, content):
    assert "it is no ONNX file" in refusal(model_files.write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (model_files.graph(name="prediction"), "output names are"),
        (model_files.graph(batch=1), "has the shape"),
        (model_files.graph(element=TensorProto.DOUBLE), "is a tensor"),
    ],
)
def test_a_graph_with_another_signature_is_refused(tmp_path, content, told):
    assert told in refusal(model_files.write(tmp_path, content))


def test_a_graph_without_a_declared_input_is_refused(tmp_path):
    only_window = [{"name": "window", "shape": ["n", 10, 6], "dtype": "float32"}]
    assert "input names are" in refusal(model_files.write(tmp_path, inputs=only_window))


def test_a_graph_that_answers_otherwise_than_it_promises_is_refused(tmp_path):
    reason = refusal(model_files.write(tmp_path, model_files.graph(factor=1.01)))
    assert "golden window 'steady'" in reason
    assert "but the manifest says 106" in reason


def test_a_graph_that_rounds_otherwise_is_taken(tmp_path):
    load_model(model_files.write(tmp_path, model_files.graph(factor=1.0001)))


def test_a_graph_that_answers_for_other_metrics_is_refused(tmp_path):
    fields = model_files.manifest(model_files.graph())
    fields["goldens"][1]["forecast"] = fields["goldens"][0]["forecast"]
    assert "other metrics are absent" in refusal(model_files.write(tmp_path, fields=fields))


def test_a_graph_that_fails_when_run_is_refused(tmp_path):
    graph = onnx.load_from_string(model_files.graph())
    fixed = onnx.numpy_helper.from_array(np.array([1, 10, 6], np.int64), "fixed")  # fits one window only
    graph.graph.initializer.append(fixed)
    graph.graph.node.insert(0, onnx.helper.make_node("Reshape", ["window", "fixed"], ["reshaped"]))
    graph.graph.node[1].input[0] = "reshaped"
    assert "cannot load or run it" in refusal(model_files.write(tmp_path, graph.SerializeToString()))


def test_a_graph_that_fails_on_its_golden_windows_alone_is_refused(tmp_path):
    graph = onnx.load_from_string(model_files.graph())
    graph.graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros(2, np.float32), "table")
    )  # for steps below 2 s
    graph.graph.node.insert(0, onnx.helper.make_node("Cast", ["step_s"], ["index"], to=TensorProto.INT64))
    graph.graph.node.insert(1, onnx.helper.make_node("Gather", ["table", "index"], ["found"]))
    next(node for node in graph.graph.node if "step_s" in node.input and node.op_type != "Cast").input[0] = "found"
    assert "it fails on its golden windows" in refusal(model_files.write(tmp_path, graph.SerializeToString()))
