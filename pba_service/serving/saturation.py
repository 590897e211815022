"""How many calls in all may begin in a second, from how busy the event loop is. Pure: it is told of both.

Calls that come faster than the loop can take them wait inside gRPC, where nothing can refuse them and no handler sees
how long they waited. What shows is that the loop never rests. So when it was busy for several windows fewer calls are
let in than in the last, and the rest are refused, which costs a fraction; when it rests again, more are. The queue
inside gRPC is empty then, and a refusal is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class SaturationOptions:
    """When the loop counts as saturated.

    Attributes:
        busy: Share of a window in which it worked or waited for a processor, from which on it is.
        rested: Share below which it is not any more.
        patience: Busy windows in a row before anything is bounded: a single large request keeps the loop busy as well.
        fall: What is let in after a saturated window, of what was let in during it.
        rise: What may be let in after one in which it rested, of what was let in before.
        least_per_s: So many are always let in.
        free_after: Windows in a row in which nobody had to be refused, after which nothing is bounded any more.
    """

    busy: float = 0.95
    rested: float = 0.85
    fall: float = 0.85
    rise: float = 1.1
    least_per_s: float = 50.0
    patience: int = 10
    free_after: int = 20


class Saturation:
    """The bound. Not thread-safe: everything happens on one event loop."""

    def __init__(self, options: SaturationOptions, clock: Callable[[], float]) -> None:
        """Begins without a bound.

        Args:
            options: When the loop counts as saturated.
            clock: Monotonic seconds.
        """
        self._options = options
        self._clock = clock
        self._let_in = self._refused = 0
        self._busy = self._free = 0
        self._tokens = 0.0
        self._filled_at_s = clock()
        self.per_s = UNBOUNDED

    def admit(self) -> bool:
        """Whether a call may begin."""
        if self.per_s != UNBOUNDED:
            now_s = self._clock()
            # What was not used is kept for a moment only: bursts are what makes others wait.
            most = max(0.01 * self.per_s, 1.0)
            self._tokens = min(self._tokens + (now_s - self._filled_at_s) * self.per_s, most)
            self._filled_at_s = now_s
            if self._tokens < 1.0:
                self._refused += 1
                return False
            self._tokens -= 1.0
        self._let_in += 1
        return True

    def observe(self, busy: float, window_s: float) -> None:
        """A window is over.

        Args:
            busy: The share of it in which the loop worked or waited for a processor.
            window_s: How long it was.
        """
        options, let_in_per_s = self._options, self._let_in / window_s
        self._free = 0 if self._refused else self._free + 1
        self._let_in = self._refused = 0
        if busy < options.busy:
            self._busy = 0
            if self._free >= options.free_after:
                self.per_s = UNBOUNDED
            elif busy < options.rested:
                self.per_s *= options.rise
            return
        self._busy += 1
        if self.per_s == UNBOUNDED and (self._busy < options.patience or not let_in_per_s):
            return
        self.per_s = max(options.fall * min(self.per_s, let_in_per_s), options.least_per_s)
