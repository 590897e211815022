"""A network with the weights of an ONNX model, so that training can go on where an earlier one ended.

The exporter writes a network's weights into the graph in an order of its own, some of them rearranged. Which constant
holds which weight is found by exporting a probe: a fresh network, whose random weights are looked up in its own graph.
The model's constants of the same names are then the weights. Normalisation is folded into a gain and a shift, so it is
taken over as these and stays fixed while training goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.training.recipes import Recipe

    Array = NDArray[np.float32]

FINE_TUNED = ("pba_lstm",)
"""Models whose weights can be read back; others are trained from scratch."""

_PLAIN = ("summary", "query", "key", "base", "ahead", "out")


class NotRestorableError(ValueError):
    """A model's weights cannot be read back: it was made by another exporter, or is of another kind."""


def restored(recipe: Recipe, model: bytes) -> Any:
    """The Keras network of an ONNX model, its normalisation fixed.

    Raises:
        NotRestorableError: The graph is not as this exporter writes it.
    """
    if recipe.name not in FINE_TUNED:
        raise NotRestorableError(f"{recipe.name} folds what training would need")
    network = recipe.network()
    _scatter(network)
    probe, stored = _constants(recipe.graph(network)), _constants(model)
    if {name: array.shape for name, array in probe.items()} != {name: array.shape for name, array in stored.items()}:
        raise NotRestorableError("the graph's constants are not those that this version writes")
    for layer in _PLAIN:
        weights = [np.asarray(weight) for weight in network.get_layer(layer).get_weights()]
        network.get_layer(layer).set_weights([stored[_name(probe, weight)] for weight in weights])
    _restore_lstm(network.get_layer("lstm"), probe, stored)
    _restore_norm(network.get_layer("norm"), probe, stored)
    return network


def _scatter(network: Any) -> None:
    """Gives every weight random values, so that each can be told from the others; variances stay positive."""
    random = np.random.default_rng(0)
    for layer in network.layers:
        weights = layer.get_weights()
        if weights:
            layer.set_weights([(0.5 + random.random(weight.shape)).astype(np.float32) for weight in weights])


def _constants(model: bytes) -> dict[str, Array]:
    try:
        graph = onnx.load_model_from_string(model).graph
    except Exception as error:  # protobuf's errors have no common base
        raise NotRestorableError(f"it is no ONNX model: {error}") from error
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def _name(probe: dict[str, Array], weight: Array) -> str:
    for name, array in probe.items():
        if array.shape == weight.shape and np.allclose(array, weight, rtol=1e-5, atol=1e-6):
            return name
    raise NotRestorableError(f"the exporter does not write a weight of the shape {weight.shape} as it is")


def _restore_lstm(layer: Any, probe: dict[str, Array], stored: dict[str, Array]) -> None:
    """ONNX has gates i, o, f, c along the first axis after the direction, and a second, empty half of biases."""
    kernel, recurrent, bias = layer.get_weights()
    both = np.concatenate([_reordered(bias), np.zeros_like(bias)])[np.newaxis]
    names = [_name(probe, _reordered(one).T[np.newaxis]) for one in (kernel, recurrent)]
    found = [_ordered_back(stored[name][0].T) for name in names]
    layer.set_weights([*found, _ordered_back(stored[_name(probe, both)][0, : len(bias)])])


def _restore_norm(layer: Any, probe: dict[str, Array], stored: dict[str, Array]) -> None:
    gamma, beta, mean, variance = layer.get_weights()
    gain = gamma / np.sqrt(variance + layer.epsilon)
    shift = beta - mean * gain
    found = [stored[_name(probe, one)] for one in (gain, shift)]
    ones = np.full_like(variance, 1 - layer.epsilon)
    layer.set_weights([*found, np.zeros_like(mean), ones])
    layer.trainable = False


def _reordered(matrix: Array) -> Array:
    """Keras' gates i, f, c, o as ONNX' i, o, f, c."""
    i, f, c, o = np.split(matrix, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _ordered_back(matrix: Array) -> Array:
    i, o, f, c = np.split(matrix, 4, axis=-1)
    return np.concatenate([i, f, c, o], axis=-1)
