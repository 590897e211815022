"""A link's learned state in words that a person can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import combine, early
from pba_service.domain.online.experts import EXPERTS
from pba_service.domain.online.pull import TOWARDS
from pba_service.domain.online.state import FREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.state import States


@dataclass(frozen=True, slots=True, eq=False)
class LinkRecord:
    """What is learnt of one link.

    Attributes:
        settled: int[4], forecasts compared with what happened, per metric.
        mean_absolute_error: float32[4], recent, in the metric's unit; NaN before the first comparison.
        weights: float32[4, experts], what each of `EXPERTS` counted for in the newest forecast, unless a value that
            drew it lay far off and drew it less; zero for those that had none, and for all of a metric that was not
            predicted.
        hit_rate: Share of recent forecasts whose bandwidth and latency came true within the tolerance.
        pending: Forecasts whose target has not come yet.
    """

    settled: NDArray[np.uint32]
    mean_absolute_error: NDArray[np.float32]
    weights: NDArray[np.float32]
    hit_rate: float
    pending: int

    @property
    def experts(self) -> tuple[str, ...]:
        """Names along the expert axis."""
        return EXPERTS


def records(states: States) -> list[LinkRecord]:
    """The record of each link."""
    learnt = states["learnt"]
    heard = states["heard"][..., None] >> np.arange(len(EXPERTS)) & 1
    weights = combine.weights(early.log_weight(learnt), heard.astype(np.bool_))
    drawn = learnt["pull"] * (weights[..., TOWARDS] > 0)
    weights *= 1 - drawn.sum(axis=2)[..., None]
    weights[..., TOWARDS] += drawn
    error = np.where(learnt["settled"] > 0, learnt["scale"], np.float32(np.nan))
    pending = (states["target_ms"] != FREE).sum(axis=1).tolist()
    rates = learnt["hit_rate"].tolist()
    return [LinkRecord(learnt["settled"][i], error[i], weights[i], rates[i], pending[i]) for i in range(len(states))]
