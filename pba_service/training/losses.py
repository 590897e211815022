"""Losses that leave absent targets out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Loss = "Callable[[Any, Any], Any]"


def masked_huber(delta: float = 1.0) -> Callable[[Any, Any], Any]:
    """Huber loss over targets that exist.

    Returns:
        A loss of y float32[n, 4, 2] (target and weight; weight 0 where there is no target) and forecast float32[n, 4].
    """

    def loss(y: Any, forecast: Any) -> Any:
        error = ops.abs(y[..., 0] - forecast)
        small = ops.minimum(error, delta)
        each = (0.5 * ops.square(small) + delta * (error - small)) * y[..., 1]
        return ops.sum(each) / ops.maximum(ops.sum(y[..., 1]), 1e-6)

    return loss


def pinball(
    quantiles: Sequence[float], level_weights: Sequence[float], horizon_weights: Sequence[float], cap: float = 1000.0
) -> Callable[[Any, Any], Any]:
    """Weighted pinball loss over targets that exist.

    Args:
        quantiles: The levels, of the last axis of the forecast.
        level_weights: Weight of each level.
        horizon_weights: Weight of each horizon.
        cap: Largest loss one target may contribute, so that one freak value cannot steer a step.

    Returns:
        A loss of y float32[n, H, 2] (target and weight; weight 0 where there is none) and forecast float32[n, H, Q].
    """
    level = ops.convert_to_tensor(list(quantiles), "float32")
    by_level = ops.convert_to_tensor(list(level_weights), "float32")
    by_horizon = ops.convert_to_tensor(list(horizon_weights), "float32")

    def loss(y: Any, forecast: Any) -> Any:
        error = y[..., :1] - forecast
        each = ops.sum(ops.maximum(level * error, (level - 1.0) * error) * by_level, axis=-1)
        return ops.mean(ops.sum(ops.clip(each * y[..., 1], 0.0, cap) * by_horizon, axis=-1))

    return loss
