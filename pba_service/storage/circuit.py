"""A circuit breaker: whether the store may be asked now. Pure: it is told of the time and of what happened.

    CLOSED ──`failures` in a row──► OPEN ──`open_s` over──► HALF OPEN ──success──► CLOSED
                                      ▲                        │
                                      └──────── failure, wait twice as long ───────┘

After the pattern in M. Nygard, Release It!, 2nd edition, 2018, chapter 5, "Circuit Breaker".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class State(Enum):
    """What is done with calls."""

    CLOSED = "closed"
    """All go through."""

    OPEN = "open"
    """None goes through."""

    HALF_OPEN = "half_open"
    """One goes through at a time: the probe that shows whether the store is back."""


@dataclass(frozen=True, slots=True)
class CircuitOptions:
    """When it opens, and for how long.

    Attributes:
        failures: Failures in a row that open it. One is not enough: a primary that changes over drops connections once.
        open_s: How long it stays open before the first probe.
        max_open_s: The longest that it stays open after probes that failed; each doubles the time before.
    """

    failures: int = 5
    open_s: float = 0.25
    max_open_s: float = 2.0


class Circuit:
    """The state machine. Not thread-safe: everything happens on one event loop."""

    def __init__(self, options: CircuitOptions, clock: Callable[[], float]) -> None:
        """Begins closed.

        Args:
            options: When it opens, and for how long.
            clock: Monotonic seconds.
        """
        self._options = options
        self._clock = clock
        self._failures = 0
        self._state = State.CLOSED
        self._open_s = options.open_s
        self._until_s = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """What would be done with a call now."""
        if self._state is State.OPEN and self._clock() >= self._until_s:
            return State.HALF_OPEN
        return self._state

    @property
    def retry_after_s(self) -> float:
        """How long until a call may go through again."""
        if self._state is State.CLOSED:
            return 0.0
        left_s = max(self._until_s - self._clock(), self._options.open_s)
        return min(left_s, self._options.max_open_s)  # a sum of floats may lie a little above

    def enter(self) -> bool:
        """Whether a call may go through; a probe must be ended with `succeeded`, `failed` or `abandoned`."""
        state = self.state
        if state is State.CLOSED:
            return True
        if state is State.OPEN or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The store answered, whether as a call that went through or otherwise."""
        self._failures = 0
        self._probing = False
        self._state = State.CLOSED
        self._open_s = self._options.open_s

    def failed(self, *, probe: bool = True) -> None:
        """The store was away or too slow; `probe` is whether it was the probe that found out, where it is half open."""
        self._failures += 1
        state = self.state
        if state is State.HALF_OPEN and probe:
            self._probing = False
            self._open_s = min(2 * self._open_s, self._options.max_open_s)
            self._open()
        elif state is State.CLOSED and self._failures >= self._options.failures:
            self._open()
        # Until it is closed again, calls that went through before it opened come back: they tell nothing new.

    def abandoned(self) -> None:
        """The probe ended without an answer either way: its caller gave it up."""
        self._probing = False

    def _open(self) -> None:
        self._state = State.OPEN
        self._until_s = self._clock() + self._open_s
