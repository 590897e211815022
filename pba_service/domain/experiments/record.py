"""What is kept of an experiment: who is tried, what was observed, and how it ended. Pure; JSON in and out."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pba_service.domain.errors import NOT_OURS
from pba_service.domain.experiments.betting import Verdict, judge
from pba_service.domain.experiments.pairing import PERIOD_MS, Tally
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        started_at_ms: From when on forecasts count; may lie before `begun_at_ms`.
        begun_at_ms: When it began.
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
    begun_at_ms: int
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

    def in_vain(self, rule: Rule, now_ms: int) -> bool:
        """Whether it has gone on for twice as long as it may be observed: too few hours had anything to say."""
        return now_ms - self.begun_at_ms >= 2 * rule.max_periods * PERIOD_MS

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
            said = json.loads(content)
            record = cls(
                name=str(said["name"]),
                kind=Kind(said["kind"]),
                champion=str(said["champion"]),
                challenger=str(said["challenger"]),
                share=float(said["share"]),
                started_at_ms=int(said["started_at_ms"]),
                begun_at_ms=int(said.get("begun_at_ms", said["started_at_ms"])),
                ended_at_ms=int(said["ended_at_ms"]),
                status=Status(said["status"]),
                automatic=bool(said["automatic"]),
                observations=tuple((int(at), float(value), int(count)) for at, value, count in said["observations"]),
                by_metric=tuple((float(count), float(one), float(other)) for count, one, other in said["by_metric"]),
            )
        except NOT_OURS as error:
            raise ValueError(f"no experiment: {error}") from error
        numbers = [record.share, *(value for _, value, _ in record.observations), *itertools.chain(*record.by_metric)]
        if len(record.by_metric) != len(METRICS) or not all(map(math.isfinite, numbers)):
            raise ValueError("no experiment: its numbers are none")
        return record


def encode_tally(tally: Tally) -> bytes:
    """A tally as JSON."""
    parts = [tally.weight, tally.sum, tally.targets, tally.by_metric.tolist()]
    return json.dumps(parts, separators=(",", ":")).encode()


def decode_tally(content: bytes) -> Tally:
    """What `encode_tally` was given. Raises `ValueError` for anything else."""
    try:
        weight, value, targets, by_metric = json.loads(content)
        tally = Tally(float(weight), float(value), int(targets), np.array(by_metric, np.float64))
    except NOT_OURS as error:
        raise ValueError(f"no tally: {error}") from error
    numbers = np.array([tally.weight, tally.sum, *tally.by_metric.ravel()])
    if tally.by_metric.shape != Tally().by_metric.shape or not np.isfinite(numbers).all() or tally.weight < 0:
        raise ValueError("no tally: its numbers are none")
    return tally
