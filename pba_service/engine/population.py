"""How many links there are, and with how many of them something is wrong."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pba_service.domain.drift import ConditionKind, silence

if TYPE_CHECKING:
    from pba_service.domain.forecast import Prediction
    from pba_service.engine.ports import Clock
    from pba_service.observability.metrics import Metrics


class Population:
    """Counts links round after round.

    Attributes:
        links: Links with a prediction in the last whole round.
        conditions: Of how many of them what was told.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self.links = 0
        self.conditions: Counter[ConditionKind] = Counter()
        self._clock = clock
        self._metrics = metrics
        self._seen = 0
        self._wrong: Counter[ConditionKind] = Counter()

    def begin_round(self) -> None:
        """All links are looked at, from the first; a round before that was broken off does not count."""
        self._seen, self._wrong = 0, Counter()

    def look(self, prediction: Prediction) -> None:
        """Takes in a link by its newest prediction."""
        self._seen += 1
        told = silence(prediction.made_at_ms, prediction.step_ms, self._clock()) or prediction.condition
        if told:
            self._wrong[told.kind] += 1

    def end_round(self) -> None:
        """All links were looked at."""
        self.links, self.conditions = self._seen, self._wrong
        self.begin_round()
        self._metrics.conditions({kind.name.lower(): self.conditions[kind] for kind in ConditionKind})

    @property
    def shifted_ratio(self) -> float:
        """The share of links whose level has shifted; 0 where there are none."""
        return self.conditions[ConditionKind.LEVEL_SHIFT] / self.links if self.links else 0.0
