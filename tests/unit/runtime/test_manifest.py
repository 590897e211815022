"""Manifests that promise what cannot be are refused."""

import json

import pytest

from pba_service.domain.errors import ModelRefusedError
from pba_service.engine.ports import TrainingData
from pba_service.runtime.manifest import parse
from tests.unit.runtime import model_files


def read(folder):
    return parse((folder / "manifest.json").read_bytes(), str(folder))


def test_a_manifest_tells_all_of_its_model(tmp_path):
    said = read(model_files.write(tmp_path / "m"))
    assert said.onnx_name == "model.onnx"
    assert said.info.name == "tiny"
    assert said.info.created_at_ms == 1_767_323_045_000
    assert said.info.horizons_ms == (300_000, 900_000)
    assert said.info.quantile_levels == (0.1, 0.5, 0.9)
    assert said.info.parameter_count == 3
    assert said.info.scores == (("latency_ms", "tiny", 0.8), ("latency_ms", "last", 1.0))
    assert [golden.name for golden in said.goldens] == ["steady", "partly absent"]
    assert (said.info.parent, said.info.training) == ("", None)


def test_a_manifest_may_tell_where_a_model_comes_from(tmp_path):
    training = {
        "rows": 5,
        "links": 2,
        "fingerprint_sha256": "ab",
        "first_measured_at": "2026-01-01T00:00:00Z",
        "last_measured_at": "2026-01-02T00:00:00Z",
    }
    info = read(model_files.write(tmp_path, parent="tiny-0", training=training)).info
    assert info.parent == "tiny-0"
    assert info.training == TrainingData(5, 2, "ab", 1_767_225_600_000, 1_767_312_000_000)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": 2}, "schema 2 is not 1"),
        ({"features": ["bandwidth_mbps"]}, "it reads"),
        ({"metrics": ["latency_ms"]}, "it answers"),
        ({"window_slots": 9}, "window_slots 9 is outside"),
        ({"min_slots": 11}, "it needs 11 known slots"),
        ({"horizons_s": [300, 600]}, "900 s is not among"),
        ({"horizons_s": [1e300, 900]}, "horizons lie between"),
        ({"horizons_s": [-300, 900]}, "horizons lie between"),
        ({"parameters": 10**30}, "lie between 0 and 4294967295"),
        ({"training": {"rows": -1, "links": 1, "fingerprint_sha256": ""}}, "parameters, rows and links lie between"),
        ({"scores": {"test": {"tiny": {"latency_ms": float("nan")}}}}, "malformed"),
        ({"scores": {"test": {"tiny": {"latency_ms": float("inf")}}}}, "malformed"),
        ({"parent": "\ud800"}, "malformed"),
        ({"quantiles": [0.5, 0.1, 0.9]}, "do not increase"),
        ({"quantiles": [0.1, 0.9]}, "hold the median"),
        ({"quantiles": [0.5, 1.5]}, "between 0 and 1"),
        ({"inputs": [{"name": "window", "shape": ["n", 60, 6]}]}, "its inputs are"),
        ({"inputs": [{"name": "x", "shape": ["n"]}]}, "its inputs are"),
        ({"outputs": []}, "its outputs are"),
        ({"goldens": []}, "no golden window"),
        ({"goldens": [{"name": "g", "window": [[1.0]], "step_s": 60, "forecast": [[[1.0]]]}]}, "not of its shape"),
        ({"version": "a b"}, "not one: at most 32 letters"),
        ({"version": "v" * 33}, "not one: at most 32 letters"),
        ({"name": "../x"}, "not one: at most 32 letters"),
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


@pytest.mark.parametrize("step_s", [0, -60, 1e300])
def test_a_golden_window_of_no_possible_cadence_is_refused(tmp_path, step_s):
    fields = model_files.manifest(model_files.graph())
    fields["goldens"][0]["step_s"] = step_s
    with pytest.raises(ModelRefusedError, match="not all cadences"):
        read(model_files.write(tmp_path, fields=fields))
