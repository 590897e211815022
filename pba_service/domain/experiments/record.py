"""What is kept of an experiment: who is tried, what was observed, and how it ended. Pure; JSON in and out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pba_service.domain.experiments.betting import Verdict, judge
from pba_service.domain.experiments.pairing import Tally
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pba_service.domain.experiments.betting import Evidence, Rule


class Kind(Enum):
    """Why two models are compared."""

    TRIAL = "trial"
    WATCH = "watch"


class Status(Enum):
    """Where an experiment is."""

    RUNNING = "running"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    STOPPED = "stopped"
    SUPERSEDED = "superseded"


OUTCOMES = {
    Verdict.PROMOTE: Status.PROMOTED,
    Verdict.REJECT: Status.REJECTED,
    Verdict.EXPIRED: Status.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Record:
    """An experiment.

    Attributes:
        name: Its identity.
        kind: A trial of a challenger, or the watch over a version just activated, whose challenger is the one before.
        champion: The version that serves.
        challenger: The version beside it.
        share: Of the links the challenger serves.
        started_at_ms: When it began.
        ended_at_ms: When it ended; 0 while it runs.
        status: Where it is.
        automatic: Whether the verdict is acted on.
        observations: One (period, value, targets) for each closed period, in order.
        by_metric: For each metric targets, and the sums of champion's and challenger's errors, in usual errors.
    """

    name: str
    kind: Kind
    champion: str
    challenger: str
    share: float
    started_at_ms: int
    ended_at_ms: int = 0
    status: Status = Status.RUNNING
    automatic: bool = True
    observations: tuple[tuple[int, float, int], ...] = ()
    by_metric: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),) * len(METRICS)

    def evidence(self, rule: Rule) -> Evidence:
        """What the observations say."""
        return judge([value for _, value, _ in self.observations], rule)

    def closed(self, tallies: Mapping[int, Tally]) -> Self:
        """With observations of periods that are over; those not later than the last one known come too late."""
        last = self.observations[-1][0] if self.observations else -1
        new = [(period, tally) for period, tally in sorted(tallies.items()) if period > last and tally.targets]
        if not new:
            return self
        total = np.array(self.by_metric) + sum(tally.by_metric for _, tally in new)
        seen = tuple((period, tally.value, tally.targets) for period, tally in new)
        return replace(
            self, observations=self.observations + seen, by_metric=tuple(tuple(row) for row in total.tolist())
        )

    def ended(self, status: Status, now_ms: int) -> Self:
        """Over, if it is not already."""
        return self if self.ended_at_ms else replace(self, status=status, ended_at_ms=now_ms)

    def encode(self) -> bytes:
        """As JSON."""
        fields: dict[str, Any] = asdict(self) | {"kind": self.kind.value, "status": self.status.value}
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """What `encode` gave. Raises `ValueError` for anything else."""
        try:
            fields = json.loads(content)
            fields["kind"], fields["status"] = Kind(fields["kind"]), Status(fields["status"])
            for name in ("observations", "by_metric"):
                fields[name] = tuple(tuple(row) for row in fields[name])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no experiment: {error}") from error


def encode_tally(tally: Tally) -> bytes:
    """A tally as JSON."""
    parts = [tally.weight, tally.sum, tally.targets, tally.by_metric.tolist()]
    return json.dumps(parts, separators=(",", ":")).encode()


def decode_tallies(contents: Iterable[bytes]) -> Tally:
    """The sum of what several replicas counted."""
    total = Tally()
    for content in contents:
        weight, value, targets, by_metric = json.loads(content)
        total.add(Tally(weight, value, targets, np.array(by_metric, np.float64)))
    return total
