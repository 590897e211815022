"""A test that stays valid while it is watched: wealth from betting that the challenger is better.

One observation x a period (`pairing`): by how much the challenger was better, clipped to [-CLIP, CLIP]. Somebody who
holds that it is not better on average, E[x_t | all before] <= 0, must offer fair odds on it: with a stake lambda >= 0
wealth grows by the factor 1 + lambda x_t, and cannot grow on average. By Ville's inequality such wealth, begun at 1,
ever reaches 1 / alpha with a probability of at most alpha, whenever and however often one looks (Waudby-Smith and
Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86(1); Ville 1939). The wealth here is
the mean over a fixed grid of stakes, which is a fair game as well and needs no tuning: it loses at most log(stakes) to
the best of them, and with the right stake its growth adapts to the variance that is met.

Two such games run: one against "not better" (wealth enough: promote), one against "not worse" (wealth enough: reject).
Either decides only while the mean of what was seen, not clipped, is on its side: that makes neither verdict likelier.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CLIP = 0.2
"""An observation counts as at most a fifth of a usual error: one strange hour must not decide.

So it is the mean of hours so bounded that is bet on: a few in which a challenger is far worse weigh little there.
"""

_STAKES = 24
_BETS = np.geomspace(0.02, 0.96, _STAKES) / CLIP
_HALVINGS = 24


class Verdict(Enum):
    """What the evidence says."""

    KEEP_ON = 1
    PROMOTE = 2
    REJECT = 3
    EXPIRED = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """When an experiment ends.

    Attributes:
        false_promotion: The chance, at most, that a challenger which is no better is ever promoted.
        false_rejection: The chance, at most, that a challenger which is no worse is ever rejected for being worse.
        max_periods: After so many observations without either it ends undecided.
    """

    false_promotion: float = 0.05
    false_rejection: float = 0.05
    max_periods: int = 336

    def __post_init__(self) -> None:
        """Refuses what is no error rate."""
        if not (0 < self.false_promotion < 1 and 0 < self.false_rejection < 1 and self.max_periods >= 1):
            raise ValueError("error rates lie between 0 and 1, and an experiment lasts at least a period")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been seen.

    Attributes:
        verdict: The first that was reached.
        periods: Observations until then, or all of them.
        promote_wealth: Of the game against "not better"; `1 / false_promotion` promotes.
        reject_wealth: Of the game against "not worse"; `1 / false_rejection` rejects.
        advantage: Mean observation, clipped: how much less the challenger erred, in usual errors; 0 before the first.
        low, high: A confidence sequence for it: at all times together the truth lies within with a probability of at
            least 1 - (false_promotion + false_rejection).
    """

    verdict: Verdict
    periods: int
    promote_wealth: float
    reject_wealth: float
    advantage: float
    low: float
    high: float


def judge(observations: Sequence[float] | NDArray[np.float64], rule: Rule) -> Evidence:
    """What the observations say, in the order in which they came.

    Looking after each observation and looking once at the end come to the same: what counts is the first time that a
    wealth was enough, and the mean on its side.
    """
    whole = np.asarray(observations, np.float64)
    x, so_far = np.clip(whole, -CLIP, CLIP), np.cumsum(whole)
    promote, reject = _log_wealth(x), _log_wealth(-x)
    enough = (-np.log(rule.false_promotion), -np.log(rule.false_rejection))
    crossed = [_first((promote >= enough[0]) & (so_far > 0)), _first((reject >= enough[1]) & (so_far < 0))]
    end, verdict = min(zip(crossed, (Verdict.PROMOTE, Verdict.REJECT), strict=True), key=lambda one: one[0])
    if end > min(len(x), rule.max_periods):
        end = min(len(x), rule.max_periods)
        verdict = Verdict.EXPIRED if len(x) >= rule.max_periods else Verdict.KEEP_ON
    seen = x[:end]
    return Evidence(
        verdict,
        end,
        float(np.exp(promote[end - 1])) if end else 1.0,
        float(np.exp(reject[end - 1])) if end else 1.0,
        float(seen.mean()) if end else 0.0,
        _bound(seen, rule.false_promotion),
        -_bound(-seen, rule.false_rejection),
    )


def _first(crossed: NDArray[np.bool_]) -> int:
    """How many observations it took; one more than there are where it did not come to it."""
    return int(np.argmax(crossed)) + 1 if crossed.any() else len(crossed) + 1


def _log_wealth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the wealth after each observation: float64[n]."""
    gains = np.cumsum(np.log1p(x[:, None] * _BETS), axis=0)
    most = gains.max(axis=1, initial=-np.inf, keepdims=True)
    wealth: NDArray[np.float64] = most[:, 0] + np.log(np.exp(gains - most).mean(axis=1))
    return wealth


def _bound(x: NDArray[np.float64], error_rate: float) -> float:
    """The least mean that wealth against it does not rule out, by halving: wealth falls as the mean tested rises.

    So it is above 0 just when the wealth of the game against "not better" is enough.
    """
    low, high = -CLIP, CLIP
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # stakes as in the game against 0, as far as none can lose more than all it has
        gains = np.log1p((x[:, None] - middle) * _BETS * (CLIP / (CLIP + middle))).sum(axis=0)
        most = gains.max()
        ruled_out = most + np.log(np.exp(gains - most).mean()) >= -np.log(error_rate)
        low, high = (middle, high) if ruled_out else (low, middle)
    return low
