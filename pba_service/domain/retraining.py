"""What replicas know of retraining: one run at a time, what became of the last, and when the next is due.

All of it is one record that is changed by compare-and-set. A run holds the lease that its token and its time of expiry
are: whoever would begin another takes a greater token, and from then on the former holder changes nothing any more,
whatever its clock says.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from pba_service.domain.errors import NOT_OURS, ModelConflictError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE_MS = 30_000
"""A run that was not heard of for so long is taken for dead."""

RETRY_MS = 3_600_000
"""After a run that failed the next is due so long later, or after a quarter of the interval if that is sooner."""

DRIFT_PAUSE_MS = 6 * 3_600_000
"""A shift of many links begins no run so soon after another: a link's shift is told for about five hours."""

REASON_CHARACTERS = 500


class Trigger(Enum):
    """Why a run began."""

    INTERVAL = "interval"
    DRIFT = "drift"
    HAND = "hand"


class Phase(Enum):
    """How far a run is."""

    STARTING = "starting"
    READING = "reading"
    TRAINING = "training"
    REGISTERING = "registering"
    ENDED = "ended"


class Outcome(Enum):
    """What became of a run."""

    NONE = "none"
    """Not ended yet."""
    TRAINED = "trained"
    """It gave a model, which is a challenger or waits to become one."""
    TOO_LITTLE_DATA = "too_little_data"
    """The links have too little history to learn from."""
    FAILED = "failed"
    """The reason says why; what serves goes on."""
    STOPPED = "stopped"
    """Its process was told to end."""
    REFUSED = "refused"
    """It gave a model, and no replica would load it."""


SETTLED = frozenset({Outcome.TRAINED, Outcome.TOO_LITTLE_DATA})
"""Outcomes after which nothing is due until the interval is over."""


class LeaseLostError(Exception):
    """Another run has begun, or this one was declared dead: whatever it made does not count."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        token: Greater than that of every run before.
        holder: Who runs it.
        trigger: Why it began.
        from_scratch: Whether it begins with a fresh network instead of the serving model's weights.
        started_at_ms: When it began.
        expires_at_ms: When it is taken for dead unless it is heard of.
        phase: How far it is.
        done_ratio: How much of the phase is done, 0 to 1.
        ended_at_ms: When it ended; 0 while it runs.
        outcome: What became of it.
        reason: Why, where it gave no model; for operators.
        links: Links it learned from.
        samples: Their samples.
        parent: The version it went on from; empty from scratch.
        version: What it made.
        experiment: In which that is tried; empty while it waits for that.
    """

    token: int
    holder: str
    trigger: Trigger
    from_scratch: bool
    started_at_ms: int
    expires_at_ms: int
    phase: Phase = Phase.STARTING
    done_ratio: float = 0.0
    ended_at_ms: int = 0
    outcome: Outcome = Outcome.NONE
    reason: str = ""
    links: int = 0
    samples: int = 0
    parent: str = ""
    version: str = ""
    experiment: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.phase is not Phase.ENDED

    def dead(self, now_ms: int) -> bool:
        """Whether it should be heard of and is not."""
        return self.running and now_ms > self.expires_at_ms

    @property
    def offered(self) -> bool:
        """Whether its model waits to be tried."""
        return self.outcome is Outcome.TRAINED and not self.experiment


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of retraining.

    Attributes:
        since_ms: When it was first thought of: the first run is due an interval later.
        run: The run that is going on, or the last one.
        asked: Whether somebody asks for a run; `asked_from_scratch` with a fresh network.
        settled_at_ms: When a run last ended as it should; 0: never.
        trained_at_ms: When a run last gave a model; 0: never.
        ended: Runs that ended, by outcome.
    """

    since_ms: int = 0
    run: Run | None = None
    asked: bool = False
    asked_from_scratch: bool = False
    settled_at_ms: int = 0
    trained_at_ms: int = 0
    ended: tuple[tuple[str, int], ...] = ()

    def due_at_ms(self, interval_ms: int) -> int:
        """When the next run is due, going by the interval alone and not by failures; 0 where there is no interval."""
        return max(self.since_ms, self.settled_at_ms) + interval_ms if interval_ms else 0

    def wanted(
        self, now_ms: int, *, interval_ms: int, shifted_ratio: float, drift_ratio: float
    ) -> tuple[Trigger, bool] | None:
        """Why a run should begin now and whether from scratch; None if none should.

        Args:
            now_ms: The time.
            interval_ms: Between runs; 0: never for its sake.
            shifted_ratio: The share of links whose level has shifted.
            drift_ratio: The share from which on a fresh network is trained; 0: never.
        """
        run = self.run
        if run and run.running and not run.dead(now_ms):
            return None
        if self.asked:
            return Trigger.HAND, self.asked_from_scratch
        ended_at_ms = run.ended_at_ms if run else 0
        if drift_ratio and shifted_ratio >= drift_ratio and now_ms - ended_at_ms >= DRIFT_PAUSE_MS:
            return Trigger.DRIFT, True
        failed = run is not None and run.outcome in {Outcome.FAILED, Outcome.REFUSED}
        not_before_ms = ended_at_ms + min(RETRY_MS, interval_ms // 4) if failed else 0
        if interval_ms and now_ms >= max(self.due_at_ms(interval_ms), not_before_ms):
            return Trigger.INTERVAL, False
        return None

    def begun(self, holder: str, trigger: Trigger, now_ms: int, *, from_scratch: bool) -> Record:
        """With a new run.

        Raises:
            ModelConflictError: One is going on.
        """
        if self.run and self.run.running and not self.run.dead(now_ms):
            raise ModelConflictError(f"a retraining is going on, begun by {self.run.holder}")
        before = self.buried(now_ms)
        token = before.run.token + 1 if before.run else 1
        run = Run(token, holder, trigger, from_scratch, now_ms, now_ms + LEASE_MS)
        return replace(before, run=run, asked=False, asked_from_scratch=False)

    def buried(self, now_ms: int) -> Record:
        """With a run that is dead counted as failed."""
        if self.run is None or not self.run.dead(now_ms):
            return self
        reason = f"nothing was heard of it for {LEASE_MS // 1000} s: its process or its machine has ended"
        return self.finished(self.run.token, Outcome.FAILED, now_ms, reason=reason)

    def heard(self, token: int, now_ms: int, **changes: Any) -> Record:
        """With the run's lease renewed, and more known of it. Raises `LeaseLostError`."""
        run = self.own(token)
        return replace(self, run=replace(run, expires_at_ms=now_ms + LEASE_MS, **changes))

    def finished(self, token: int, outcome: Outcome, now_ms: int, *, reason: str = "", version: str = "") -> Record:
        """With the run ended. Raises `LeaseLostError`."""
        run = self.own(token)
        ended = replace(
            run, phase=Phase.ENDED, outcome=outcome, ended_at_ms=now_ms, reason=reason[:REASON_CHARACTERS],
            version=version,
        )  # fmt: skip
        return replace(
            self,
            run=ended,
            settled_at_ms=now_ms if outcome in SETTLED else self.settled_at_ms,
            trained_at_ms=now_ms if outcome is Outcome.TRAINED else self.trained_at_ms,
            ended=_counted(self.ended, outcome, 1),
        )

    def tried(self, token: int, experiment: str) -> Record:
        """With the run's model in an experiment; a newer run's record stays as it is."""
        if self.run is None or self.run.token != token or not self.run.offered:
            return self
        return replace(self, run=replace(self.run, experiment=experiment))

    def refused(self, token: int, reason: str) -> Record:
        """With the run's model refused by who should have tried it."""
        if self.run is None or self.run.token != token or not self.run.offered:
            return self
        run = replace(self.run, outcome=Outcome.REFUSED, reason=reason[:REASON_CHARACTERS])
        ended = _counted(_counted(self.ended, Outcome.TRAINED, -1), Outcome.REFUSED, 1)
        # it did not end as it should after all: the next is due as after any run that failed
        return replace(self, run=run, ended=ended, settled_at_ms=0)

    def requested(self, *, from_scratch: bool) -> Record:
        """With a run asked for."""
        return replace(self, asked=True, asked_from_scratch=from_scratch)

    def again(self, token: int) -> Record:
        """With the run asked for again, where somebody had asked for it and its process was told to end."""
        run = self.run
        if run is None or run.token != token or run.outcome is not Outcome.STOPPED or run.trigger is not Trigger.HAND:
            return self
        return self.requested(from_scratch=run.from_scratch)

    def own(self, token: int) -> Run:
        """The run of a token, while it has not ended. Raises `LeaseLostError`."""
        if self.run is None or self.run.token != token or not self.run.running:
            raise LeaseLostError("another retraining has begun, or this one was declared dead")
        return self.run

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), default=lambda one: one.value, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """What `encode` gave. Raises `ValueError` for anything else."""
        try:
            said = json.loads(content)
            return cls(
                since_ms=int(said["since_ms"]),
                run=_run(said["run"]) if said["run"] else None,
                asked=bool(said["asked"]),
                asked_from_scratch=bool(said["asked_from_scratch"]),
                settled_at_ms=int(said["settled_at_ms"]),
                trained_at_ms=int(said["trained_at_ms"]),
                ended=tuple((str(name), int(count)) for name, count in said["ended"]),
            )
        except NOT_OURS as error:
            raise ValueError(f"no record of retraining: {error}") from error


def _run(said: Mapping[str, Any]) -> Run:
    """A run out of JSON. Raises `ValueError`, `TypeError` or `KeyError` where it is none."""
    run = Run(
        token=int(said["token"]),
        holder=str(said["holder"]),
        trigger=Trigger(said["trigger"]),
        from_scratch=bool(said["from_scratch"]),
        started_at_ms=int(said["started_at_ms"]),
        expires_at_ms=int(said["expires_at_ms"]),
        phase=Phase(said["phase"]),
        done_ratio=float(said["done_ratio"]),
        ended_at_ms=int(said["ended_at_ms"]),
        outcome=Outcome(said["outcome"]),
        reason=str(said["reason"]),
        links=int(said["links"]),
        samples=int(said["samples"]),
        parent=str(said["parent"]),
        version=str(said["version"]),
        experiment=str(said["experiment"]),
    )
    if not math.isfinite(run.done_ratio):
        raise ValueError("done_ratio is no number")
    return run


def _counted(ended: tuple[tuple[str, int], ...], outcome: Outcome, more: int) -> tuple[tuple[str, int], ...]:
    counts = dict(ended)
    counts[outcome.value] = counts.get(outcome.value, 0) + more
    return tuple(sorted(counts.items()))
