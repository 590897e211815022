"""Errors of two models on the links of one network, and what the test makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.experiments import PERIOD_MS, Rule, Verdict, counts, judge, period_of
from pba_service.domain.experiments.pairing import LIMIT
from pba_service.domain.forecast import PRODUCT_HORIZON_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP_MS = 300_000
LAG = PRODUCT_HORIZON_MS // STEP_MS
LINKS = 8


@dataclass(frozen=True, slots=True)
class Law:
    """How the errors of both models come about.

    Attributes:
        name: What is special about it.
        tail: Degrees of freedom of Student's law that shocks follow.
        common: Share of a shock's variance that all links of the network have in common.
        shared: Share of an error's variance that both models have in common, since both saw the same window.
        volatility: Standard deviation of the slow logarithm of the shocks' size (over hours).
    """

    name: str
    tail: float
    common: float
    shared: float
    volatility: float


LAWS = (
    Law("mild: nearly normal shocks, links half alike", 8.0, 0.5, 0.8, 0.3),
    Law("usual: heavy tails, links half alike, restless hours", 4.0, 0.5, 0.8, 0.6),
    Law("hard: very heavy tails, links almost alike, wild hours", 2.5, 0.9, 0.6, 1.0),
)


def observations(law: Law, periods: int, improvement: float, random: np.random.Generator) -> NDArray[np.float64]:
    """One experiment's observations: the challenger's errors are the incumbent's law, smaller by `improvement`.

    An error of a forecast of 15 minutes is the sum of the shocks of those 15 minutes, so neighbours overlap.
    """
    count = periods * PERIOD_MS // STEP_MS
    size = np.exp(law.volatility * _slow(count + LAG, random))[:, None]
    own = [_shocks(law, count, random) * size for _ in range(3)]
    both, first, second = (_overlapping(one) for one in own)
    weight = np.sqrt(law.shared), np.sqrt(1 - law.shared)
    incumbent = np.abs(weight[0] * both + weight[1] * first)
    challenger = np.abs(weight[0] * both + weight[1] * second) * (1 - improvement)
    advantage = np.clip(incumbent - challenger, -LIMIT, LIMIT).mean(axis=1)
    target_ms = STEP_MS * np.arange(count, dtype=np.int64)
    used = counts(target_ms - PRODUCT_HORIZON_MS, target_ms)
    period = period_of(target_ms)[used]
    total = np.bincount(period, advantage[used], minlength=periods)
    result: NDArray[np.float64] = total / np.bincount(period, minlength=periods)
    return result


def _shocks(law: Law, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """float64[count + LAG, LINKS], of such a size that a sum over the horizon has a mean size of about one."""
    together = random.standard_t(law.tail, (count + LAG, 1)) * np.sqrt(law.common)
    apart = random.standard_t(law.tail, (count + LAG, LINKS)) * np.sqrt(1 - law.common)
    scaled: NDArray[np.float64] = (together + apart) / np.sqrt(LAG)
    return scaled


def _overlapping(shocks: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.cumsum(shocks, axis=0)
    summed: NDArray[np.float64] = total[LAG:] - total[:-LAG]
    return summed


def _slow(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A wandering of unit variance over two hours."""
    per_period = PERIOD_MS // STEP_MS
    knots = random.normal(size=count // (2 * per_period) + 2)
    at = np.arange(count) / (2 * per_period)
    wandering: NDArray[np.float64] = np.interp(at, np.arange(len(knots)), knots)
    return wandering


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of many experiments: shares, and the periods that those promoted took."""

    promoted: float
    rejected: float
    periods: tuple[float, ...]

    def quantile(self, level: float) -> float:
        """Periods until promotion, infinite for those that were not."""
        total = round(len(self.periods) / self.promoted) if self.promoted else 1
        padded = sorted([*self.periods, *[np.inf] * (total - len(self.periods))])
        return padded[min(int(level * total), total - 1)]


def outcomes(law: Law, *, runs: int, rule: Rule, improvement: float, seed: int) -> Outcomes:
    """Runs experiments to their end, each watched after every observation."""
    promoted, rejected = [], 0
    for run in range(runs):
        x = observations(law, rule.max_periods, improvement, np.random.default_rng([seed, run]))
        evidence = judge(x, rule)
        if evidence.verdict is Verdict.PROMOTE:
            promoted.append(float(evidence.periods))
        rejected += evidence.verdict is Verdict.REJECT
    return Outcomes(len(promoted) / runs, rejected / runs, tuple(promoted))
