"""The graph builder's LSTMs: the operator, and the same step by step."""

import keras
import numpy as np
import pytest

from pba_service.training.graph import Graph
from pba_service.training.onnx_run import OnnxGraph

STEPS, FEATURES = 5, 3


def layer_of(units, seed=0):
    """A Keras LSTM with random weights, biases too."""
    layer = keras.layers.LSTM(units, return_sequences=True)
    layer.build((None, STEPS, FEATURES))
    random = np.random.default_rng(seed)
    layer.set_weights([random.normal(0, 0.5, weight.shape).astype(np.float32) for weight in layer.get_weights()])
    return layer


def unrolled(weights):
    graph = Graph("unrolled")
    sequence = graph.input("sequence", ["n", STEPS, FEATURES])
    steps = graph.ops("Split", STEPS, graph.reshape(sequence, [-1, STEPS * FEATURES]), axis=1)
    one = steps[0][1, 0, 1] * 0.0 + 1.0
    states = graph.unrolled_lstm(steps, one, weights)
    graph.output(graph.concat([graph.op("Unsqueeze", state, [1]) for state in states], 1), "states", ["n", STEPS, "u"])
    return graph.build({})


def operator(weights):
    graph = Graph("operator")
    steps = graph.op("Transpose", graph.input("sequence", ["n", STEPS, FEATURES]), perm=[1, 0, 2])
    states = graph.lstm(steps, weights, last_only=False)
    graph.output(graph.op("Transpose", states, perm=[1, 0, 2]), "states", ["n", STEPS, "u"])
    return graph.build({})


def sequences(n):
    return np.random.default_rng(1).normal(0, 1, (n, STEPS, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("written", [operator, unrolled])
def test_an_lstm_is_what_keras_computes(written):
    layer = layer_of(units=7)
    states = OnnxGraph(written(layer.get_weights()).SerializeToString())({"sequence": sequences(20)})["states"]
    np.testing.assert_allclose(states, layer(sequences(20)), atol=1e-6)


def test_an_unrolled_row_does_not_depend_on_the_rows_beside_it():
    graph = OnnxGraph(unrolled(layer_of(units=128).get_weights()).SerializeToString())
    values = sequences(64)
    alone = np.concatenate([graph({"sequence": values[i : i + 1]})["states"] for i in range(64)])
    for size in (2, 5, 12, 13, 31, 64):
        np.testing.assert_allclose(graph({"sequence": values[:size]})["states"], alone[:size], atol=1e-6)


def test_an_unrolled_lstm_has_no_products_with_the_first_state():
    """Nor the gate that would pass it on: three products in the first step, four in each other."""
    model = unrolled(layer_of(units=7).get_weights())
    depth = {one.name: one.dims[0] for one in model.graph.initializer if len(one.dims) == 2}
    depths = [depth[node.input[1]] for node in model.graph.node if node.op_type == "Gemm"]
    assert depths == [FEATURES + 1] * 3 + [FEATURES + 1 + 7] * 4 * (STEPS - 1)
