"""From two models' forecasts of the same targets to one observation a period.

Scale-free and bounded: an error is measured in what the last value used to err on that link before the period began
(`scales`), and one target says at most `LIMIT` such errors. A link's targets are averaged over its metrics and weigh as
much time as they stand for, so each link counts alike whatever its cadence.

Dependence: forecasts that look 15 minutes ahead overlap, so their errors share what happened; links share a network.
So an observation is the mean over all links and over a period of `PERIOD_MS`, and of each period the first 15 minutes
are left out: every forecast that counts was made after the last target of the period before. Given all that was known
then, a challenger that is no better has no advantage to be expected, which is all that the test asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERIOD_MS = 4 * PRODUCT_HORIZON_MS
"""An hour, of which three quarters count."""

LIMIT = 2.0
"""One target says at most this many usual errors for or against."""


def period_of(target_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the period a target lies in."""
    return target_ms // PERIOD_MS


def counts(made_at_ms: NDArray[np.int64], target_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a forecast was made in the period of its target, hence after the last target of the one before."""
    same: NDArray[np.bool_] = period_of(made_at_ms) == period_of(target_ms)
    return same


def advantage(
    challenger: NDArray[np.float32],
    incumbent: NDArray[np.float32],
    actual: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """By how many usual errors the challenger was nearer: float32[n, 4] within +-`LIMIT`, from float32[n, 4] each.

    NaN where the metric was not measured. A model that says nothing, or nothing finite, where the other does say
    something, is wrong by `LIMIT` more.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        errors = [np.abs(said - actual) / scale for said in (challenger, incumbent)]
    silent = [~np.isfinite(error) for error in errors]
    difference = np.clip(np.where(silent[1], 0, errors[1]) - np.where(silent[0], 0, errors[0]), -LIMIT, LIMIT)
    difference = np.where(silent[0] & ~silent[1], -LIMIT, np.where(silent[1] & ~silent[0], LIMIT, difference))
    result: NDArray[np.float32] = np.where(np.isfinite(actual) & ~(silent[0] & silent[1]), difference, np.nan)
    return result.astype(np.float32)


@dataclass(slots=True)
class Tally:
    """What was compared in one period, by whoever compared it. Adding two gives that of both.

    Attributes:
        weight: Time that the targets stand for, in ms.
        sum: Advantage times weight.
        targets: Forecasts compared.
        by_metric: float64[4, 3]: per metric the targets, and the sums of the incumbent's and of the challenger's errors
            in usual ones, each at most `LIMIT` times three.
    """

    weight: float = 0.0
    sum: float = 0.0
    targets: int = 0
    by_metric: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(METRICS), 3)))

    def add(self, other: Tally) -> None:
        """Takes in another's."""
        self.weight += other.weight
        self.sum += other.sum
        self.targets += other.targets
        self.by_metric += other.by_metric

    @property
    def value(self) -> float:
        """The mean advantage; 0 where nothing was compared."""
        return self.sum / self.weight if self.weight else 0.0


def tally(
    *,
    challenger: NDArray[np.float32],
    incumbent: NDArray[np.float32],
    actual: NDArray[np.float32],
    scale: NDArray[np.float32],
    made_at_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
) -> dict[int, Tally]:
    """Compares forecasts of targets that have come, by period; forecasts that do not count are left out.

    Args:
        challenger: float32[n, 4], what the one said.
        incumbent: float32[n, 4], what the other said.
        actual: float32[n, 4], what came.
        scale: float32[n, 4], usual errors, see `scales`; NaN where none is known yet, and then nothing counts.
        made_at_ms: int64[n], when the forecasts were made.
        target_ms: int64[n], what they speak of.
        step_ms: int64[n], the links' cadences.
    """
    better = advantage(challenger, incumbent, actual, scale)
    known = np.isfinite(better)
    usable = known.any(axis=1) & counts(made_at_ms, target_ms)
    of_target = np.where(known, better, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = [
            np.where(known, np.nan_to_num(np.minimum(np.abs(said - actual) / scale, 3 * LIMIT), nan=3 * LIMIT), 0)
            for said in (incumbent, challenger)
        ]
    found: dict[int, Tally] = {}
    periods = period_of(target_ms)
    for period in np.unique(periods[usable]).tolist():
        rows = usable & (periods == period)
        columns = [known[rows].sum(axis=0), *(error[rows].sum(axis=0) for error in errors)]
        weight = step_ms[rows].astype(np.float64)
        found[period] = Tally(
            float(weight.sum()),
            float((of_target[rows] * weight).sum()),
            int(rows.sum()),
            np.stack(columns, axis=1).astype(np.float64),
        )
    return found
