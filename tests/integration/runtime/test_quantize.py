"""Quantised variants of the shipped models: made and loaded as any model, and refused where they do not hold up."""

import json

import pytest

from pba_service.cli.app import run
from pba_service.cli.told import ExitCode
from pba_service.runtime import files, quantize
from pba_service.runtime.session import load_bundle, load_model
from tests.process import ROOT

MODELS = ROOT / "models"


@pytest.mark.parametrize("name", ["pba_lstm", "bandwidth_lstm"])
def test_a_variant_is_a_model_with_its_original_as_parent(tmp_path, name):
    bundle = files.read(files.preferred(MODELS / name))
    variant = quantize.quantise(bundle)
    assert len(variant.onnx) < 0.7 * len(bundle.onnx)
    info = load_bundle(variant).info
    assert info.parent == load_bundle(bundle).info.version
    assert info.version.startswith(f"{name[:14]}-int8-")
    assert info.scores == ()
    assert json.loads(variant.manifest)["coverage_90"] is None, "nobody measured the variant's"
    quantize.write(variant, tmp_path / "v")
    assert load_model(tmp_path / "v").info == info


def test_a_variant_that_does_not_hold_up_is_refused_and_not_written(tmp_path, capfd):
    code = run(["quantize", "--model", str(MODELS / "bandwidth_lstm"), "--output", str(tmp_path / "v"), "--json"])
    out, err = capfd.readouterr()
    assert code == ExitCode.FAILED
    assert "is refused: " in err
    measured = json.loads(out)
    assert measured["batch_drift"] > 0.01, "dynamic quantisation scales by what is in the batch"
    assert not (tmp_path / "v").exists()
