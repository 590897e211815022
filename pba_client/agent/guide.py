"""Which parameters are in force on each link, and when they change.

The service says whether changing over is worth it and when (`should_adjust`, `apply_at`), reckoning with what is in
force: that is the hysteresis, and the agent adds none of its own. Parameters that the service has not renewed lapse
when their validity is over; then local rules take their place, and that is said.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pba_client.advice import ParameterReason, Parameters
from pba_client.agent.local import RECENT, LocalParameters, local_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pba_client.agent.config import LinkConfig
    from pba_client.agent.measurement import Measurement

log = logging.getLogger(__name__)

_MOST_VALID_S = 3600.0
_LOCAL_CHANGE = 1.5
"""Local rules change streams that they had set only for half as many more, or a third fewer."""


class Origin(Enum):
    """Who decided."""

    SERVICE = "service"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Decision:
    """Parameters that are in force on a link from now on.

    Attributes:
        link_id: The link.
        origin: The service, or the agent's own rules while the service is away.
        streams: Parallel TCP streams.
        buffer_bytes: Socket buffer of each.
        chunk_bytes: Size of the pieces that are striped over them.
        not_sent_bytes: TCP_NOTSENT_LOWAT of each.
        pacing_mbps: Upper bound of the rate of all together; None: no pace.
        explanation: Why, in a sentence.
        parameters: What the service said; None for local rules.
    """

    link_id: str
    origin: Origin
    streams: int
    buffer_bytes: int
    chunk_bytes: int
    not_sent_bytes: int
    pacing_mbps: float | None
    explanation: str
    parameters: Parameters | None = None


@dataclass(slots=True)
class _State:
    """What is known of one link."""

    config: LinkConfig
    recent: deque[Measurement] = field(default_factory=lambda: deque(maxlen=RECENT))
    in_force: Decision | None = None
    valid_until_s: float = 0.0
    coming: Decision | None = None
    coming_at_s: float = 0.0


class Guide:
    """Keeps the parameters in force, by a monotonic clock that is told."""

    def __init__(
        self, links: Sequence[LinkConfig], interval_s: float, on_parameters: Callable[[Decision], None], now_s: float
    ) -> None:
        """Begins with nothing in force; local rules take over when the service says nothing for two intervals.

        Args:
            links: The links.
            interval_s: How often the service is asked.
            on_parameters: Told of each change; what it raises is logged.
            now_s: Seconds of the monotonic clock.
        """
        self._interval_s = interval_s
        self._on_parameters = on_parameters
        self._states = {one.link: _State(one, valid_until_s=now_s + 2 * interval_s) for one in links}
        self.callback_failures = 0

    def measured(self, measurements: Sequence[Measurement]) -> None:
        """Notes samples, for the local rules."""
        for one in measurements:
            if (state := self._states.get(one.link_id)) is not None:
                state.recent.append(one)

    def in_force(self, link_id: str) -> Decision | None:
        """What is in force on a link."""
        return self._states[link_id].in_force

    def newest(self, link_id: str) -> Measurement | None:
        """A link's newest sample."""
        recent = self._states[link_id].recent
        return recent[-1] if recent else None

    @property
    def alone(self) -> list[str]:
        """Links on which local rules are in force."""
        return [
            name
            for name, state in self._states.items()
            if state.in_force is not None and state.in_force.origin is Origin.LOCAL
        ]

    def advised(self, link_id: str, said: Parameters, wall: datetime, now_s: float) -> None:
        """Takes what the service says of a link.

        Args:
            link_id: The link.
            said: Its answer.
            wall: The time now, to reckon its times by.
            now_s: Seconds of the monotonic clock.
        """
        if ParameterReason.STORE_UNAVAILABLE in said.reasons:
            return  # it knows nothing of the link now; what was in force stays until its time is over
        state = self._states[link_id]
        # this node's clock may be wrong: an answer outlives one question that fails, and does not hold for ever
        valid_s = max(min((said.valid_until - wall).total_seconds(), _MOST_VALID_S), 2 * self._interval_s)
        state.valid_until_s = now_s + valid_s
        decision = _of_service(link_id, said)
        local = state.in_force is None or state.in_force.origin is Origin.LOCAL
        present = state.in_force
        # the service does not call it worth while to begin pacing, for it cannot tell no pace from one unsaid
        only_pace = present is not None and present.pacing_mbps is None and said.pacing_mbps is not None
        if not said.should_adjust and not local:
            state.coming = None
            if only_pace:
                self._apply(state, decision)
            return
        wait_s = (said.apply_at - wall).total_seconds() if said.apply_at and not local else 0.0
        if wait_s > 0:
            state.coming, state.coming_at_s = decision, now_s + min(wait_s, _MOST_VALID_S)
        else:
            self._apply(state, decision)

    def pass_time(self, now_s: float) -> None:
        """Changes what is due to change, and lets lapse what was not renewed."""
        for state in self._states.values():
            if state.coming is not None and now_s >= state.coming_at_s:
                self._apply(state, state.coming)
            if now_s >= state.valid_until_s:
                self._go_alone(state)

    def next_s(self) -> float:
        """When `pass_time` should be called next."""
        return min(
            (
                min(one.valid_until_s, one.coming_at_s if one.coming else one.valid_until_s)
                for one in self._states.values()
            ),
            default=float("inf"),
        )

    def _go_alone(self, state: _State) -> None:
        state.valid_until_s += self._interval_s
        state.coming = None
        rules = local_parameters(list(state.recent), state.config)
        present = state.in_force
        alone = present is not None and present.origin is Origin.LOCAL
        if present is not None and alone:
            many, few = max(rules.streams, present.streams), min(rules.streams, present.streams)
            if many < _LOCAL_CHANGE * few:
                return
        else:
            log.warning(
                "parameters were not renewed in time: local rules are in force",
                extra={"link": state.config.link, "explanation": rules.explanation},
            )
        self._apply(state, _of_rules(state.config.link, rules))

    def _apply(self, state: _State, decision: Decision) -> None:
        if decision.origin is Origin.SERVICE and state.in_force and state.in_force.origin is Origin.LOCAL:
            log.info("the service's parameters are in force again", extra={"link": decision.link_id})
        state.in_force, state.coming = decision, None
        try:
            self._on_parameters(decision)
        except Exception:
            # it is not ours, and measuring must go on
            self.callback_failures += 1
            log.exception("on_parameters failed", extra={"link": decision.link_id})


def _of_service(link_id: str, said: Parameters) -> Decision:
    return Decision(
        link_id,
        Origin.SERVICE,
        said.streams,
        said.buffer_bytes,
        said.chunk_bytes,
        said.not_sent_bytes,
        said.pacing_mbps,
        said.explanation,
        said,
    )


def _of_rules(link_id: str, rules: LocalParameters) -> Decision:
    return Decision(
        link_id,
        Origin.LOCAL,
        rules.streams,
        rules.buffer_bytes,
        rules.chunk_bytes,
        rules.not_sent_bytes,
        None,
        rules.explanation,
    )
