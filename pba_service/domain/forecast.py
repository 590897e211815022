"""Predictions, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.drift import Condition

PRODUCT_HORIZON_MS = 15 * 60_000
"""How far ahead the product looks, before it is fitted to a link's cadence."""

QUANTILES = (0.05, 0.10, 0.50, 0.90, 0.95)
"""The quantile axis of a prediction."""

JUDGED = 2
"""Metrics, the first ones, that a prediction is a hit or a miss by: bandwidth and latency."""

TOLERANCE_RATIO = 0.20
"""A prediction is a hit when the realised bandwidth and latency (those present) are within this share of it."""


class Source(Enum):
    """What produced a prediction."""

    MODEL = 1
    COMBINED = 2
    CALLER_WINDOW = 3


@dataclass(slots=True, eq=False)  # not frozen: made for every link and minute, and freezing takes longer than making
class Prediction:
    """What a link is expected to be at `target_ms`.

    Attributes:
        link_id: The link.
        made_at_ms: When its newest sample was measured; nothing later influenced it.
        step_ms: The link's cadence.
        target_ms: The time it speaks of.
        values: float32[4] in the order of `METRICS`, NaN where the metric cannot be predicted.
        quantiles: float32[4, 5] at `QUANTILES`, non-decreasing; NaN where the model gives none.
        confidence: Probability, 0 to 1, of a hit as `TOLERANCE_RATIO` defines it.
        model_version: The model that took part.
        source: What produced it.
        condition: What is wrong with the link, if anything.
        stale_since_ms: When the store last answered, where it could not be asked and a newer prediction may exist.
    """

    link_id: str
    made_at_ms: int
    step_ms: int
    target_ms: int
    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    confidence: float
    model_version: str
    source: Source
    stale_since_ms: int | None = None
    condition: Condition | None = None

    @property
    def horizon_ms(self) -> int:
        """How far ahead it looks."""
        return self.target_ms - self.made_at_ms

    def same_as(self, other: Prediction) -> bool:
        """Whether both say the same, NaN being equal to NaN."""
        return bool(
            (self.link_id, self.made_at_ms, self.step_ms, self.target_ms, self.model_version, self.source)
            == (other.link_id, other.made_at_ms, other.step_ms, other.target_ms, other.model_version, other.source)
            and self.condition == other.condition
            and np.isclose(self.confidence, other.confidence, rtol=0, atol=1e-6)
            and np.array_equal(self.values, other.values, equal_nan=True)
            and np.array_equal(self.quantiles, other.quantiles, equal_nan=True)
        )


@dataclass(slots=True, eq=False)  # not frozen: made for every link and minute, and freezing takes longer than making
class LedgerEntry:
    """One prediction beside the sample of its target time.

    Attributes:
        made_at_ms: When the prediction was made.
        target_ms: The time it was made for; with the link, the entry's identity.
        measured_at_ms: When the sample was measured: the nearest to the target, at most half a step away.
        predicted: float32[4], NaN where nothing was predicted.
        actual: float32[4], NaN where nothing was measured.
        confidence: The confidence the prediction was given.
        model_version: The model that took part.
        last: float32[4], the newest values when the prediction was made, to a few percent of the usual error. None in
            an entry that was read back: what was just settled is counted, and this is not kept.
        inside: bool[4], whether `actual` lay in the 90 % interval; None as above.
    """

    made_at_ms: int
    target_ms: int
    measured_at_ms: int
    predicted: NDArray[np.float32]
    actual: NDArray[np.float32]
    confidence: float
    model_version: str
    last: NDArray[np.float32] | None = None
    inside: NDArray[np.bool_] | None = None

    @property
    def absolute_error(self) -> NDArray[np.float32]:
        """float32[4], NaN where either side is absent."""
        error: NDArray[np.float32] = np.abs(self.predicted - self.actual)
        return error

    @property
    def hit(self) -> bool:
        """Whether bandwidth and latency, those present, came true within the tolerance."""
        return bool(hits(self.predicted, self.actual))


def hits(predicted: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether realised bandwidth and latency fall within `TOLERANCE_RATIO` of the predicted ones.

    Args:
        predicted: float32[..., 4].
        actual: float32[..., 4].

    Returns:
        bool[...]; metrics absent on either side are left out of account, and no comparable metric at all is no hit.
    """
    error = np.abs(predicted[..., :JUDGED] - actual[..., :JUDGED])
    compared = np.isfinite(error)
    within = error <= TOLERANCE_RATIO * np.abs(predicted[..., :JUDGED])
    result: NDArray[np.bool_] = (within | ~compared).all(axis=-1) & compared.any(axis=-1)
    return result


def relative_error(said: NDArray[np.float32], came: NDArray[np.float32]) -> NDArray[np.float32]:
    """`|said - came| / max(said, came)`: 0 is exact, 1 as wrong as can be, so that links of all sizes count alike.

    Args:
        said: float32 of any shape, 0 or more, NaN where absent.
        came: The same.

    Returns:
        The same shape; NaN where either is absent.
    """
    largest = np.maximum(said, came)
    error: NDArray[np.float32] = np.abs(said - came) / np.where(largest > 0, largest, np.float32(1))
    return error
