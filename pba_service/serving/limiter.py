"""How many calls of a method may be under way: a limit that follows how long they take. Pure: it is told of the time.

Additive increase, multiplicative decrease, as TCP does it (Chiu and Jain, 1989): a window in which nine of ten calls
kept the target, and in which the limit was reached, raises it a little; one in which they did not lowers it by a fifth.
Calls beyond it are refused instead of waiting, so that those within keep their latency, whatever comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_QUANTILE = 0.9
_FALL = 0.8
_RISE = 0.05


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """How a limit is found.

    Attributes:
        target_s: What nine of ten calls should keep. A method whose quickest calls take longer, such as one that
            answers for thousands of links, has `patience` times that as its target.
        patience: See there.
        window_s: How long is looked at before the limit is changed.
        least: The limit never falls below it, or nothing would be learned any more.
        most: Nor rises above it.
        first: Where it begins.
    """

    target_s: float = 0.05
    patience: float = 3.0
    window_s: float = 0.1
    least: int = 16
    most: int = 1_024
    first: int = 64


class Limiter:
    """The limit of one method. Not thread-safe: everything happens on one event loop."""

    def __init__(self, options: LimitOptions, clock: Callable[[], float]) -> None:
        """Begins at `options.first`.

        Args:
            options: How the limit is found.
            clock: Monotonic seconds.
        """
        self._options = options
        self._clock = clock
        self._limit = float(options.first)
        self._quickest_s = float("inf")
        self._window_end_s = clock() + options.window_s
        self._took_s: list[float] = []
        self._reached = False
        self.under_way = 0

    @property
    def limit(self) -> int:
        """Calls that may be under way at a time."""
        return int(self._limit)

    def is_full(self) -> bool:
        """Whether a call that came now would be refused."""
        if self.under_way + 1 <= self._limit:
            return False
        self._reached = True
        return True

    def enter(self) -> bool:
        """Whether a call may begin; one that may must be ended with `leave`."""
        if self.is_full():
            return False
        self.under_way += 1
        return True

    def leave(self, took_s: float | None) -> None:
        """A call ended.

        Args:
            took_s: How long it took; None when that tells nothing, as of a call that was given up or refused within.
        """
        self.under_way -= 1
        if took_s is not None:
            self._took_s.append(took_s)
        if self._clock() >= self._window_end_s:
            self._adapt()

    def _adapt(self) -> None:
        took = sorted(self._took_s)
        if took:
            # Slowly forgotten, so that a method that has become slower for good gets another target.
            self._quickest_s = min(took[0], self._quickest_s * 1.001)
            target_s = max(self._options.target_s, self._options.patience * self._quickest_s)
            if took[int(_QUANTILE * (len(took) - 1))] > target_s:
                self._limit = max(self._limit * _FALL, float(self._options.least))
            elif self._reached:
                self._limit = min(self._limit + max(1.0, _RISE * self._limit), float(self._options.most))
        self._took_s.clear()
        self._reached = False
        self._window_end_s = self._clock() + self._options.window_s
