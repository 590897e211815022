"""ONNX graphs of the trained networks, written by hand: raw windows in, raw forecasts out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES
from pba_service.training.features import ANCHORS, NEAR, OFFSET, SLOPES, Features, channel_features, present_channels
from pba_service.training.graph import Graph, Value
from pba_service.training.network import ATTENTION_UNITS, FARTHEST_DRIFT, QUANTILES, WINDOW_SLOTS, steps_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

UPPER = np.array([np.inf, np.inf, 1.0, np.inf], np.float32)
"""Largest physical value of each metric; the smallest is 0."""

FINITE_UPPER = np.where(np.isfinite(UPPER), UPPER, np.finfo(np.float32).max).astype(np.float32)


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
    """Limits float32[n, 4] to what can be; NaN where bool[n, 4] says a metric is absent."""
    return graph.where(present, graph.op("Min", graph.op("Max", forecast, 0.0), FINITE_UPPER), np.float32(np.nan))


def bandwidth_lstm_graph(network: Any, mean: NDArray[np.float32], std: NDArray[np.float32]) -> bytes:
    """The documented model: `window` float32[n, 10, 6] to `forecast` float32[n, 1, 4, 1].

    Args:
        network: Of `network.bandwidth_lstm`.
        mean: float32[6], of the features; stands in for absent values.
        std: float32[6].
    """
    graph = Graph("bandwidth_lstm")
    features, m = len(FEATURES), len(METRICS)
    window = graph.input("window", ["n", WINDOW_SLOTS, features])
    slots = graph.reshape(window, [-1, WINDOW_SLOTS * features])  # short inner axes are slow to broadcast over
    absent = graph.op("IsNaN", slots)
    standard = (slots - np.tile(mean, WINDOW_SLOTS)) / np.tile(std, WINDOW_SLOTS)
    steps = graph.ops("Split", WINDOW_SLOTS, graph.where(absent, 0.0, standard), axis=1)
    one = graph.op("Cast", graph.op("Or", absent[1, 0, 1], np.ones((), np.bool_)), to=1)
    states = graph.unrolled_lstm(steps, one, weights_of(network, "lstm_1"))
    states = graph.unrolled_lstm(states, one, weights_of(network, "lstm_2"))
    hidden = graph.op("Relu", graph.dense(states[-1], weights_of(network, "dense")))
    kernel, bias = fold_norm(network, "norm", "forecast")
    values = graph.dense(hidden, [kernel * std[:m], bias * std[:m] + mean[:m]])
    known = graph.op("Cast", graph.op("Not", absent), to=1) @ np.tile(np.eye(features, m), (WINDOW_SLOTS, 1))
    answer = physical(graph, values, graph.op("Greater", known, 0.0))
    graph.output(graph.reshape(answer, [-1, 1, m, 1]), "forecast", ["n", 1, m, 1])
    serialised: bytes = graph.build({"name": "bandwidth_lstm"}).SerializeToString()
    return serialised


def horizon_features(graph: Graph, step_s: Value, horizons_s: tuple[int, ...]) -> Value:
    """Log of the steps ahead and of the nominal minutes over 15: float32[R, 1] to float32[R, H, 2]."""
    nominal = np.array(horizons_s, np.float32)
    ahead = graph.op("Log", graph.op("Max", graph.op("Round", graph.op("Div", nominal, step_s)), 1.0))
    minutes = graph.op("Mul", graph.op("Identity", ahead) * 0.0 + 1.0, np.log(nominal / 900).astype(np.float32))
    return graph.concat([graph.op("Unsqueeze", value, [2]) for value in (ahead, minutes)], 2)


def quantiles_of(graph: Graph, network: Any, features: Features, horizon: Value) -> Value:
    """The network itself: float32[R, H, Q], transformed."""
    gamma, beta, mean, variance = weights_of(network, "norm")
    gain = gamma / np.sqrt(variance + network.get_layer("norm").epsilon)
    normal = features.context * gain + (beta - mean * gain)
    summary = graph.dense(normal, weights_of(network, "summary"))
    repeated = graph.op("Expand", graph.op("Unsqueeze", summary, [0]), [WINDOW_SLOTS, 1, 1])
    steps = graph.op("Unsqueeze", graph.op("Transpose", features.steps, perm=[1, 0]), [2])
    lags = graph.lstm(graph.concat([steps, repeated], 2), weights_of(network, "lstm"), last_only=False)
    newest = lags[0, WINDOW_SLOTS - 1, WINDOW_SLOTS]
    query = graph.dense(newest, weights_of(network, "query"))
    alike = graph.op("ReduceSum", graph.dense(lags, weights_of(network, "key")) * query, [2], keepdims=1)
    attention = graph.op("Softmax", alike * ATTENTION_UNITS**-0.5, axis=0)
    attended = graph.op("ReduceSum", attention * lags, [0], keepdims=0)
    hidden = graph.concat([graph.op("Squeeze", newest, [0]), attended, normal], 1)
    base = graph.dense(hidden, weights_of(network, "base"))
    ahead = horizon @ weights_of(network, "ahead")[0]
    out = graph.dense(graph.op("Relu", graph.op("Unsqueeze", base, [1]) + ahead), weights_of(network, "out"))

    a = len(ANCHORS)
    b = a + len(SLOPES)
    size = b + len(QUANTILES)
    distance = graph.op("Unsqueeze", graph.op("Abs", features.context[1, NEAR, NEAR + a]), [1])
    gates = graph.op("Softmax", out[2, 0, a] + out[2, size, size + a] * distance, axis=-1)
    robust = graph.op("Unsqueeze", features.anchors, [1])
    middle = graph.op("ReduceSum", gates * robust, [2], keepdims=1)
    slopes = graph.op("Exp", horizon[2, 0, 1]) * graph.op("Unsqueeze", features.slopes, [1])
    drifts = graph.clip(slopes, -FARTHEST_DRIFT, FARTHEST_DRIFT)
    trust = graph.op("Sigmoid", out[2, a, b] - 2.0) * 2.0
    drift = graph.op("ReduceSum", trust * drifts, [2], keepdims=1)
    increments: Value = graph.op("Softplus", out[2, b + 1, b + len(QUANTILES)]) @ steps_between()
    return middle + graph.op("Unsqueeze", features.spread, [2]) * (drift + out[2, b, b + 1] + increments)


def raw_values(graph: Graph, quantiles: Value, features: Features) -> Value:
    """Undoes the transform: float32[R, H, Q], raw units."""
    root = graph.op("Max", quantiles, 0.0)
    power = graph.op("Exp", graph.op("Min", quantiles, 30.0))
    scale, is_loss = (graph.op("Unsqueeze", value, [2]) for value in (features.scale, features.is_loss))
    return graph.where(is_loss, root * root, (power - OFFSET) * scale)


def pba_lstm_graph(network: Any, horizons_s: tuple[int, ...]) -> bytes:
    """The product's model: `window` float32[n, 100, 6], `step_s` float32[n] to `forecast` float32[n, H, 4, 7]."""
    graph = Graph("pba_lstm")
    channels = present_channels(graph)
    features = channel_features(graph, channels.rows, channels.step_s, channels.metric)
    horizon = horizon_features(graph, channels.step_s, horizons_s)
    rows = raw_values(graph, quantiles_of(graph, network, features, horizon), features)
    upper = graph.op("ReduceMax", graph.op("Unsqueeze", channels.metric * FINITE_UPPER, [2]), axes=[1], keepdims=1)
    limited = graph.where(channels.nothing, np.float32(np.nan), graph.op("Min", graph.op("Max", rows, 0.0), upper))
    shape = [len(METRICS), len(horizons_s), len(QUANTILES)]
    batch = graph.op("Shape", channels.window_step_s)
    blank = graph.op("Expand", np.float32(np.nan), graph.concat([batch, graph.constant(shape)], 0))
    answer = graph.op("ScatterND", blank, channels.index, limited)
    graph.output(
        graph.op("Transpose", answer, perm=[0, 2, 1, 3]),
        "forecast",
        ["n", len(horizons_s), len(METRICS), len(QUANTILES)],
    )
    serialised: bytes = graph.build({"name": "pba_lstm"}).SerializeToString()
    return serialised
