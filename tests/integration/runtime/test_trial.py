"""Models that look harmless and are not: tried out where they can do no harm."""

import resource

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from pba_service.domain.errors import ModelRefusedError
from pba_service.runtime.session import load_model
from pba_service.runtime.trial import MEMORY_BYTES, try_out
from pba_service.runtime.vet import vet
from pba_service.settings import SHIPPED_MODELS
from tests.unit.runtime import model_files


def spoilt(nodes, constants):
    """A model whose answer has the first number of what the nodes make added to it; they begin at `window`."""
    made = ModelProto.FromString(model_files.graph())
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for node in reversed(nodes):
        made.graph.node.insert(0, node)
    cast = made.graph.node[-1]
    made.graph.node.insert(len(made.graph.node) - 1, helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0))
    made.graph.node.insert(len(made.graph.node) - 1, helper.make_node("Add", [cast.input[0], "most"], ["both"]))
    cast.input[0] = "both"
    return made.SerializeToString()


WIDE = np.ones((1, 300_000), np.float32)
OUTER = spoilt([helper.make_node("Mul", ["row", "column"], ["large"])], {"row": WIDE, "column": WIDE.T})
EXPANDED = spoilt(
    [
        helper.make_node("ReduceMax", ["window"], ["one"], keepdims=0),
        helper.make_node("Expand", ["one", "shape"], ["large"]),
    ],
    {"shape": np.array([2**20, 2**20], np.int64)},
)
DOUBLED = spoilt(
    [helper.make_node("Concat", [f"d{i}"] * 64, [f"d{i + 1}"] if i < 5 else ["large"], axis=0) for i in range(6)],
    {"d0": np.ones(64, np.float32)},
)
ENDLESS = spoilt(
    [
        helper.make_node(
            "MatMul", ["square" if not i else f"m{i}", "square"], [f"m{i + 1}"] if i < 9_999 else ["large"]
        )
        for i in range(10_000)
    ],
    {"square": np.eye(512, dtype=np.float32)},
)


@pytest.mark.parametrize(
    "content", [OUTER, EXPANDED, DOUBLED, ENDLESS], ids=["outer", "expanded", "doubled", "endless"]
)
def test_models_that_take_too_much_never_run_here(tmp_path, content):
    vet(content, "here")  # nothing in the file itself gives them away
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelRefusedError) as caught:
        load_model(model_files.write(tmp_path, content))
    assert caught.value.kind in {"limits", "runtime"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < MEMORY_BYTES / 1024 / 4


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED_MODELS.glob("*/model.onnx")))
def test_the_shipped_models_stay_within(name):
    try_out((SHIPPED_MODELS / name / "model.onnx").read_bytes(), model_files.SLOTS, name)
