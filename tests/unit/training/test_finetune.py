"""Training goes on from a model's ONNX file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pba_service.runtime.session import load_model
from pba_service.settings import SHIPPED_MODELS
from pba_service.training import train
from pba_service.training.finetune import NotRestorableError, restored
from pba_service.training.simulated import simulated_traces
from pba_service.training.trainer import begun_network, check_parity, recipe_of, training_examples
from tests.unit.training.conftest import tiny

SHIPPED = SHIPPED_MODELS / "pba_lstm"


def test_the_shipped_model_comes_back_and_answers_as_its_graph_does():
    recipe = recipe_of("pba_lstm")
    options = replace(tiny(Path(), "pba_lstm"), parent=SHIPPED)
    examples = training_examples(recipe, [], simulated_traces(2, 1), options)
    network = begun_network(recipe, examples, options)
    check_parity(recipe, network, recipe.graph(network), examples)


def test_training_goes_on_from_its_parent_and_says_so(tmp_path):
    lines = []
    train(replace(tiny(tmp_path, "pba_lstm", learning_rate=1e-6), parent=SHIPPED), lines.append)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    parent = load_model(SHIPPED)
    assert fields["parent"] == parent.info.version
    assert fields["version"] != parent.info.version
    assert fields["parameters"] == parent.info.parameter_count
    assert "parent" not in fields["training"]["options"]
    # a step as small as that leaves it about where it was
    windows = np.abs(np.random.default_rng(3).normal(50, 5, (16, 100, 6))).astype(np.float32)
    windows[..., 2] /= 1000
    steps = np.full(16, 60_000)
    np.testing.assert_allclose(
        load_model(tmp_path).predict(windows, steps), parent.predict(windows, steps), rtol=0.02, atol=1e-4
    )


@pytest.mark.parametrize("model", ["bandwidth_lstm", "damaged", "other"])
def test_what_cannot_be_gone_on_from_is_refused(model, folders):
    content = (SHIPPED / "model.onnx").read_bytes()
    if model == "bandwidth_lstm":
        with pytest.raises(NotRestorableError, match="folds"):
            restored(recipe_of(model), content)
        return
    content = (
        b"\xff" + content[1:1000]
        if model == "damaged"
        else (SHIPPED_MODELS / "bandwidth_lstm" / "model.onnx").read_bytes()
    )
    with pytest.raises(NotRestorableError):
        restored(recipe_of("pba_lstm"), content)


def test_a_parent_without_its_file_is_refused(tmp_path):
    options = replace(tiny(tmp_path / "out", "pba_lstm"), parent=tmp_path)
    recipe = recipe_of("pba_lstm")
    examples = training_examples(recipe, [], simulated_traces(2, 1), options)
    with pytest.raises(NotRestorableError, match=r"model\.onnx: No such file"):
        begun_network(recipe, examples, options)
