"""What a model's forecast rests on: Shapley values of the slots of its window.

The players are the metrics of the newest slots (of each metric the oldest one stands for itself and all older slots)
and the clock. A player that is out is replaced by a flat window, each metric at its own median. Shapley values are
estimated over random orders in which players come in (Strumbelj and Kononenko 2014, "Explaining prediction models and
individual predictions with feature contributions"), each order used forwards and backwards (antithetic sampling,
Mitchell, Cooper, Frank and Holmes 2022, "Sampling permutations for Shapley value estimation"). Within each order the
moves add up to the difference between the forecasts, so the estimate is complete whatever the number of orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES, MIN_SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CLOCK = "clock"
ORDERS = 4
_SEED = 20
_NOON, _MIDWEEK = 12.0, 3.0


@dataclass(frozen=True, slots=True)
class Player:
    """An input: a metric, or the clock, at a number of slots before the newest."""

    feature: str
    lag: int


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What the forecasts of one window rest on.

    Attributes:
        players: The p inputs.
        forecast: float32[4], NaN for an absent metric.
        baseline: float32[4], the forecasts from the flat window.
        attributions: float64[4, p], in each predicted metric's unit; rows add up to `forecast - baseline`.
    """

    players: tuple[Player, ...]
    forecast: NDArray[np.float32]
    baseline: NDArray[np.float32]
    attributions: NDArray[np.float64]


def explain(window: NDArray[np.float32], forecast: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Explanation:
    """Explains the forecasts of a window.

    Args:
        window: float32[L, 6] as `domain.window` builds it.
        forecast: From float32[m, L, 6] to float32[m, 4]; called once, with `1 + 2 * ORDERS * players` windows at most.
    """
    players = _players(window)
    flat = flat_window(window)
    rng = np.random.default_rng(_SEED)
    orders = [rng.permutation(len(players)) for _ in range(ORDERS)]
    orders += [order[::-1] for order in orders]

    stages = [flat]
    for order in orders:
        stage = flat
        for position in order:
            stage = _let_in(stage, window, players[position])
            stages.append(stage)
    answers = forecast(np.stack(stages)).astype(np.float64)

    baseline, moves = answers[0], answers[1:].reshape(len(orders), len(players), len(METRICS))
    attributions = np.zeros((len(METRICS), len(players)))
    for order, reached in zip(orders, moves, strict=True):
        steps = np.diff(np.vstack([baseline[None], reached]), axis=0)
        attributions[:, order] += steps.T / len(orders)
    return Explanation(players, answers[-1].astype(np.float32), baseline.astype(np.float32), attributions)


def flat_window(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """A window in which nothing ever happened: each metric at its median where known, noon of a Thursday throughout."""
    flat = window.copy()
    for column in range(len(METRICS)):
        known = np.isfinite(window[:, column])
        if known.any():
            flat[known, column] = np.median(window[known, column])
    flat[:, len(METRICS) :] = _NOON, _MIDWEEK
    return flat


def _players(window: NDArray[np.float32]) -> tuple[Player, ...]:
    present = [metric for column, metric in enumerate(METRICS) if np.isfinite(window[-1, column])]
    return (*(Player(metric, lag) for metric in present for lag in range(MIN_SLOTS)), Player(CLOCK, 0))


def _let_in(stage: NDArray[np.float32], window: NDArray[np.float32], player: Player) -> NDArray[np.float32]:
    stage = stage.copy()
    if player.feature == CLOCK:
        stage[:, len(METRICS) :] = window[:, len(METRICS) :]
        return stage
    column, newest = FEATURES.index(player.feature), len(window) - 1 - player.lag
    oldest = 0 if player.lag == MIN_SLOTS - 1 else newest
    stage[oldest : newest + 1, column] = window[oldest : newest + 1, column]
    return stage
