"""Finding a model by its path, and refusing manifests that promise what cannot be."""

import json

import pytest

from pba_service.runtime.errors import ModelRefusedError
from pba_service.runtime.manifest import find, read
from tests.unit.runtime import model_files


def test_a_manifest_tells_all_of_its_model(tmp_path):
    files = read(model_files.write(tmp_path / "m"))
    assert files.onnx == tmp_path / "m" / "model.onnx"
    assert files.info.name == "tiny"
    assert files.info.created_at_ms == 1_767_323_045_000
    assert files.info.horizons_ms == (300_000, 900_000)
    assert files.info.quantile_levels == (0.1, 0.5, 0.9)
    assert files.info.parameter_count == 3
    assert files.info.scores == (("latency_ms", "tiny", 0.8), ("latency_ms", "last", 1.0))
    assert [golden.name for golden in files.goldens] == ["steady", "partly absent"]


@pytest.mark.parametrize("inside", ["", "model.onnx"])
def test_a_folder_and_its_onnx_file_mean_the_same(tmp_path, inside):
    folder = model_files.write(tmp_path / "m")
    assert find(folder / inside if inside else folder) == folder / "manifest.json"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pba_lstm", "bandwidth_lstm", "other"], "pba_lstm"),
        (["bandwidth_lstm", "aaa"], "bandwidth_lstm"),
        (["only_one"], "only_one"),
    ],
)
def test_of_several_models_the_preferred_is_taken(tmp_path, names, chosen):
    for name in names:
        model_files.write(tmp_path / name)
    assert find(tmp_path).parent.name == chosen


@pytest.mark.parametrize(("names", "told"), [([], "no model"), (["a", "b"], "only a, b")])
def test_no_model_to_choose_is_said(tmp_path, names, told):
    for name in names:
        model_files.write(tmp_path / name)
    with pytest.raises(ModelRefusedError, match=told):
        find(tmp_path)


def test_a_path_to_nothing_is_said(tmp_path):
    with pytest.raises(ModelRefusedError, match="no model"):
        find(tmp_path / "nowhere")
    with pytest.raises(ModelRefusedError, match=r"no manifest\.json beside it"):
        find(tmp_path / "model.onnx")


def test_an_onnx_file_that_the_manifest_is_not_of_is_refused(tmp_path):
    folder = model_files.write(tmp_path)
    (folder / "other.onnx").write_bytes(b"")
    with pytest.raises(ModelRefusedError, match=r"is of model\.onnx"):
        read(folder / "other.onnx")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": 2}, "schema 2 is not 1"),
        ({"features": ["bandwidth_mbps"]}, "it reads"),
        ({"metrics": ["latency_ms"]}, "it answers"),
        ({"window_slots": 9}, "window_slots 9 is outside"),
        ({"min_slots": 11}, "it needs 11 known slots"),
        ({"horizons_s": [300, 600]}, "900 s is not among"),
        ({"quantiles": [0.5, 0.1, 0.9]}, "do not increase"),
        ({"quantiles": [0.1, 0.9]}, "hold the median"),
        ({"quantiles": [0.5, 1.5]}, "between 0 and 1"),
        ({"inputs": [{"name": "window", "shape": ["n", 60, 6]}]}, "its inputs are"),
        ({"inputs": [{"name": "x", "shape": ["n"]}]}, "its inputs are"),
        ({"outputs": []}, "its outputs are"),
        ({"goldens": []}, "no golden window"),
        ({"goldens": [{"name": "g", "window": [[1.0]], "step_s": 60, "forecast": [[[1.0]]]}]}, "not of its shape"),
        ({"model_file": "../model.onnx"}, "not the name of a file beside it"),
        ({"created_at": "yesterday"}, "malformed"),
        ({"horizons_s": None}, "malformed"),
        ({"scores": []}, "malformed"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_the_reason(tmp_path, changes, told):
    with pytest.raises(ModelRefusedError, match=told):
        read(model_files.write(tmp_path, **changes))


def test_a_manifest_that_lacks_something_is_refused(tmp_path):
    folder = model_files.write(tmp_path)
    fields = json.loads((folder / "manifest.json").read_text())
    for field in fields.keys() - {"opset"}:
        rest = {key: value for key, value in fields.items() if key != field}
        with pytest.raises(ModelRefusedError, match=f"lacks '{field}'"):
            read(model_files.write(tmp_path, fields=rest))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    folder = model_files.write(tmp_path)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelRefusedError, match="malformed"):
        read(folder)
