"""An ONNX file is a program: what is refused before anything opens it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, ModelProto, StringStringEntryProto, TensorProto, helper

from pba_service.domain.errors import ModelRefusedError
from pba_service.runtime.graph_scan import MAX_NODES, GraphFaultError, scan_graph
from pba_service.runtime.vet import vet
from pba_service.settings import SHIPPED_MODELS
from tests.unit.runtime import model_files

SHIPPED = {path.parent.name: path.read_bytes() for path in sorted(SHIPPED_MODELS.glob("*/model.onnx"))}


def model():
    return ModelProto.FromString(model_files.graph())


def refusal(changed):
    data = changed if isinstance(changed, bytes) else changed.SerializeToString()
    with pytest.raises(ModelRefusedError) as caught:
        vet(data, "here")
    assert caught.value.kind == "limits"
    return caught.value.reason


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_models_may_be_opened(name):
    vet(SHIPPED[name], name)
    parsed = ModelProto.FromString(SHIPPED[name])
    found = scan_graph(SHIPPED[name])
    assert found.nodes == len(parsed.graph.node)
    assert found.operators == {node.op_type for node in parsed.graph.node}
    assert found.opsets == {entry.domain: entry.version for entry in parsed.opset_import}
    assert found.tensors >= len(parsed.graph.initializer)


def test_weights_elsewhere(tmp_path):
    secret = tmp_path / "secret"
    for path in ("/etc/passwd", "../../secret", str(secret)):
        changed = model()
        weights = changed.graph.initializer[0]
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.append(StringStringEntryProto(key="location", value=path))
        assert refusal(changed) == "its weights are in other files"
        weights.data_location = TensorProto.DEFAULT  # the list of files alone is enough
        assert refusal(changed) == "its weights are in other files"
    changed = model()
    constant = TensorProto(data_location=TensorProto.EXTERNAL)
    changed.graph.node.append(helper.make_node("Constant", [], ["c"], value=constant))
    assert refusal(changed) == "its weights are in other files"


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("Loop", ""),
        ("If", ""),
        ("Scan", ""),
        ("RandomNormal", ""),
        ("StringConcat", ""),
        ("ImageDecoder", ""),
        ("", ""),
        ("x" * 41, "ai.onnx"),
        ("PyOp", "ai.onnx.contrib"),
        ("LSTM", "evil"),
        ("FusedConv", "com.microsoft"),
    ],
)
def test_operators_that_no_forecaster_needs(operator, domain):
    changed = model()
    changed.graph.node.append(helper.make_node(operator, [], ["o"], domain=domain))
    assert "which no forecaster needs" in refusal(changed)


@pytest.mark.parametrize("kind", ["g", "graphs", "sparse_tensor", "sparse_tensors"])
def test_graphs_and_sparse_tensors_within_attributes(kind):
    changed = model()
    attribute = AttributeProto(name="a")
    part = getattr(attribute, kind)
    part.add() if kind.endswith("s") else part.SetInParent()
    changed.graph.node[0].attribute.append(attribute)
    assert "it has" in refusal(changed)


def test_functions_training_graphs_and_sparse_weights():
    changed = model()
    changed.functions.append(FunctionProto(name="Relu"))
    assert "functions" in refusal(changed)
    changed = model()
    changed.training_info.add()
    assert "training" in refusal(changed)
    changed = model()
    changed.graph.sparse_initializer.add()
    assert "sparse" in refusal(changed)


@pytest.mark.parametrize(("domain", "version"), [("", 12), ("", 27), ("ai.onnx.ml", 3), ("com.microsoft", 2), ("", -1)])
def test_operators_of_other_versions_and_domains(domain, version):
    changed = model()
    changed.opset_import.add(domain=domain, version=version)
    assert "it is written for version" in refusal(changed)


def test_no_graph_two_graphs_no_operators():
    graph = model().SerializeToString()
    assert "several graphs" in refusal(graph + graph)  # a parser would make one of them
    changed = model()
    changed.ClearField("graph")
    assert "no graph" in refusal(changed)
    changed = model()
    changed.ClearField("opset_import")
    assert "which operators" in refusal(changed)


def test_a_great_many_nodes_take_no_time():
    relu = [helper.make_node("Relu", ["a"], ["b"])]
    nodes = helper.make_model(helper.make_graph(relu * (MAX_NODES + 1), "g", [], []))
    assert "more than 20,000 nodes" in refusal(nodes)
    empty = b"\x2a\x00" * (16 * 1024 * 1024)  # 16 million weights, which parsed would take gigabytes
    began = time.process_time()
    assert "more than 20,000 tensors" in refusal(b"\x3a\x80\x80\x80\x10" + empty)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x3a\xff",
        b"\x3a\x05ab",
        b"\x3b\x3c",  # a group
        b"\x38\x01",  # the graph as a number
        b"\xba\x80\x80\x80\x80\x01\x00",  # a key of more than 32 bits, which some cut to the graph's
        b"\xff" * 20,
        b"\x98\x06\x01",  # a field that no model has
    ],
)
def test_what_is_malformed(data):
    assert "it is no" in refusal(data) or "no model has" in refusal(data)


def fault_of(data):
    try:
        assert scan_graph(data).nodes <= MAX_NODES
    except GraphFaultError as fault:
        return str(fault)
    return ""


@given(data=st.binary(max_size=300))
def test_no_bytes_are_more_than_a_fault(data):
    assert len(fault_of(data)) < 200


@given(
    where=st.integers(0, len(SHIPPED["bandwidth_lstm"]) - 1), what=st.binary(min_size=1, max_size=4), cut=st.booleans()
)
def test_no_change_to_a_model_is_more_than_a_fault(where, what, cut):
    data = SHIPPED["bandwidth_lstm"]
    assert len(fault_of(data[:where] + what + (b"" if cut else data[where + len(what) :]))) < 200


def grown(*nodes):
    """The model with nodes that the answer does not need, before its own."""
    changed = model()
    for i, node in enumerate(nodes):
        changed.graph.node.insert(i, node)
    return changed


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("Cast", ["step_s"], ["i"], to=TensorProto.INT64),
            helper.make_node("Expand", ["end", "i"], ["o"]),
        ],
        [helper.make_node("ConstantOfShape", ["anything"], ["o"])],
        [helper.make_node("Range", ["start", "step_s", "end"], ["o"])],
        [
            helper.make_node("NonZero", ["window"], ["where"]),
            helper.make_node("Shape", ["where"], ["i"]),
            helper.make_node("Mul", ["i", "i"], ["o"]),
            helper.make_node("ConstantOfShape", ["o"], ["p"]),
        ],
        [
            helper.make_node("Reshape", ["window", "anything"], ["r"]),
            helper.make_node("Shape", ["r"], ["i"]),
            helper.make_node("ConstantOfShape", ["i"], ["o"]),
        ],
        [
            helper.make_node("Shape", ["window"], ["i"]),
            helper.make_node("Add", ["i", "step_s"], ["j"]),
            helper.make_node("Expand", ["end", "j"], ["o"]),
        ],
    ],
    ids=["expand", "constant", "range", "counted", "reshaped", "added"],
)
def test_sizes_that_follow_from_what_comes_in(nodes):
    assert "what comes in says how large" in refusal(grown(*nodes))


def test_sizes_that_follow_from_the_number_of_windows():
    nodes = [
        helper.make_node("Shape", ["window"], ["i"]),
        helper.make_node("Expand", ["end", "i"], ["o"]),
        helper.make_node("ConstantOfShape", ["start"], ["p"]),
        helper.make_node("NonZero", ["window"], ["q"]),
        helper.make_node("Expand", ["window", "i"], ["r"]),
    ]
    vet(grown(*nodes).SerializeToString(), "here")
