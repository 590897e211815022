"""ONNX graphs of the trained networks, written by hand: raw windows in, raw forecasts out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES
from pba_service.training.graph import Graph, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

UPPER = np.array([np.inf, np.inf, 1.0, np.inf], np.float32)
"""Largest physical value of each metric; the smallest is 0."""


def weights_of(network: Any, layer: str) -> list[NDArray[np.float32]]:
    """A layer's weights, float32."""
    return [np.asarray(weight, np.float32) for weight in network.get_layer(layer).get_weights()]


def fold_norm(network: Any, norm: str, dense: str) -> list[NDArray[np.float32]]:
    """Kernel and bias of a Dense layer with the BatchNormalization before it folded in."""
    layer = network.get_layer(norm)
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in weights_of(network, norm))
    kernel, bias = (weight.astype(np.float64) for weight in weights_of(network, dense))
    scale = gamma / np.sqrt(variance + layer.epsilon)
    folded = (scale[:, None] * kernel, (beta - mean * scale) @ kernel + bias)
    return [array.astype(np.float32) for array in folded]


def physical(graph: Graph, forecast: Value, present: Value) -> Value:
    """Limits float32[n, H, 4, Q] to what can be; NaN where bool[n, 1, 4, 1] says a metric is absent."""
    upper = np.where(np.isfinite(UPPER), UPPER, np.finfo(np.float32).max).reshape(1, 1, -1, 1)
    limited = graph.op("Min", graph.op("Max", forecast, 0.0), upper)
    return graph.where(present, limited, np.float32(np.nan))


def bandwidth_lstm_graph(network: Any, mean: NDArray[np.float32], std: NDArray[np.float32]) -> bytes:
    """The documented model: `window` float32[n, 10, 6] to `forecast` float32[n, 1, 4, 1].

    Args:
        network: Of `network.bandwidth_lstm`.
        mean: float32[6], of the features; stands in for absent values.
        std: float32[6].
    """
    graph = Graph("bandwidth_lstm")
    window = graph.input("window", ["n", 10, len(FEATURES)])
    absent = graph.op("IsNaN", window)
    standard = graph.where(absent, 0.0, (window - mean) / std)
    steps = graph.op("Transpose", standard, perm=[1, 0, 2])
    hidden = graph.lstm(steps, weights_of(network, "lstm_1"), last_only=False)
    hidden = graph.lstm(hidden, weights_of(network, "lstm_2"), last_only=True)
    hidden = graph.op("Relu", graph.dense(hidden, weights_of(network, "dense")))
    values = graph.dense(hidden, fold_norm(network, "norm", "forecast"))
    m = len(METRICS)
    raw = graph.reshape(values * std[:m] + mean[:m], [-1, 1, m, 1])
    known = graph.op("Cast", graph.op("Not", absent[2, 0, m]), to=1)
    present = graph.op("Greater", graph.op("ReduceMax", known, axes=[1], keepdims=0), 0.0)
    graph.output(
        physical(graph, raw, graph.reshape(present, [-1, 1, m, 1])), "forecast", ["n", 1, m, 1]
    )
    serialised: bytes = graph.build({"name": "bandwidth_lstm"}).SerializeToString()
    return serialised
