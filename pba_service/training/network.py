"""The Keras networks. All pre- and post-processing is the exported graph's (`export.py`)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

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


def trainable_parameters(model: Any) -> int:
    """Number of trainable weights."""
    return int(sum(weight.shape.num_elements() for weight in model.trainable_weights))
