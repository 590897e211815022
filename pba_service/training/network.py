"""The Keras networks. All pre- and post-processing is the exported graph's (`export.py`)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

WINDOW_SLOTS = 10
"""Slots that the LSTM of either model reads."""


def bandwidth_lstm() -> Any:
    """The documented topology: standardised float32[n, 10, 6] to standardised float32[n, 4]; 120,804 weights."""
    return keras.Sequential(
        [
            layers.Input((WINDOW_SLOTS, 6)),
            layers.LSTM(128, return_sequences=True, name="lstm_1"),
            layers.LSTM(64, name="lstm_2"),
            layers.Dense(32, activation="relu", name="dense"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(4, name="forecast"),
        ],
        name="bandwidth_lstm",
    )


QUANTILES = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
MEDIAN = QUANTILES.index(0.5)
LSTM_UNITS = 48
SUMMARY_UNITS = 8
HEAD_UNITS = 64
ATTENTION_UNITS = 16
DROPOUT = 0.1


def steps_between() -> Any:
    """float32[Q - 1, Q]: what each positive increment adds to each quantile, outward from the median.

    Increment k lies between quantiles k and k + 1: below the median it lowers every quantile up to k, above it raises
    every quantile from k + 1. So quantiles cannot cross.
    """
    matrix = np.zeros((len(QUANTILES) - 1, len(QUANTILES)), np.float32)
    for k in range(len(QUANTILES) - 1):
        if k < MEDIAN:
            matrix[k, : k + 1] = -1
        else:
            matrix[k, k + 1 :] = 1
    return matrix


FARTHEST_DRIFT = 4.0
"""Largest drift by a trend, in spreads."""


def gated_lstm(context: int, near: int, anchors: int, slopes: int, horizons: int) -> Any:
    """The product's network: an LSTM with attention over its lags, which chooses among anchors and adds a residual.

    Works on one metric of one link (a channel row) in the transformed space of `features.py`; the four metrics share
    the weights.

    Inputs:
        steps: float32[R, 10].
        context: float32[R, context].
        anchors: float32[R, anchors].
        spread: float32[R, 1].
        slopes: float32[R, slopes], spreads per step.
        horizon: float32[R, horizons, 2], log of the steps ahead, log of the nominal minutes over 15.

    Each anchor's gate also falls or rises with the anchor's distance from the median of 3 in units of the noise (in the
    context from position `near` on), as the head decides: after a level shift what lies far off is given up at once.

    Output:
        float32[R, horizons, Q]: softmax(gates) over the anchors, plus spread times (gated drifts along the slopes, a
        residual, and positive increments up or down).
    """
    steps = keras.Input((WINDOW_SLOTS,), name="steps")
    about = keras.Input((context,), name="context")
    robust = keras.Input((anchors,), name="anchors")
    spread = keras.Input((1,), name="spread")
    trend = keras.Input((slopes,), name="slopes")
    horizon = keras.Input((horizons, 2), name="horizon")

    normal = layers.BatchNormalization(momentum=0.95, name="norm")(about)
    summary = layers.RepeatVector(WINDOW_SLOTS)(layers.Dense(SUMMARY_UNITS, name="summary")(normal))
    sequence = layers.Concatenate()([layers.Reshape((WINDOW_SLOTS, 1))(steps), summary])
    lags = layers.LSTM(LSTM_UNITS, return_sequences=True, name="lstm")(sequence)
    newest = lags[:, -1]
    query = ops.expand_dims(layers.Dense(ATTENTION_UNITS, name="query")(newest), 1)
    alike = ops.sum(layers.Dense(ATTENTION_UNITS, name="key")(lags) * query, axis=-1, keepdims=True)
    attended = ops.sum(ops.softmax(alike / ATTENTION_UNITS**0.5, axis=1) * lags, axis=1)
    hidden = layers.Concatenate()([newest, attended, normal])
    base = layers.Reshape((1, HEAD_UNITS))(layers.Dense(HEAD_UNITS, name="base")(hidden))
    ahead = layers.Dense(HEAD_UNITS, use_bias=False, name="ahead")(horizon)
    head = layers.Dropout(DROPOUT)(layers.ReLU()(layers.Add()([base, ahead])))
    small = keras.initializers.RandomNormal(stddev=0.02)
    size = anchors + slopes + len(QUANTILES)
    out = layers.Dense(size + anchors, kernel_initializer=small, name="out")(head)

    distance = ops.expand_dims(ops.abs(about[:, near : near + anchors]), 1)
    gates = ops.softmax(out[..., :anchors] + out[..., size:] * distance, axis=-1)
    middle = ops.sum(gates * ops.expand_dims(robust, 1), axis=-1, keepdims=True)
    drifts = ops.clip(ops.exp(horizon[..., :1]) * ops.expand_dims(trend, 1), -FARTHEST_DRIFT, FARTHEST_DRIFT)
    trust = 2 * ops.sigmoid(out[..., anchors : anchors + slopes] - 2)
    rest = out[..., anchors + slopes : size]
    offsets = ops.sum(trust * drifts, axis=-1, keepdims=True) + rest[..., :1]
    offsets = offsets + ops.softplus(rest[..., 1:]) @ steps_between()
    quantiles = middle + ops.expand_dims(spread, 1) * offsets
    return keras.Model([steps, about, robust, spread, trend, horizon], quantiles, name="pba_lstm")


def trainable_parameters(model: Any) -> int:
    """Number of trainable weights."""
    return int(sum(weight.shape.num_elements() for weight in model.trainable_weights))
