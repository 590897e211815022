"""When to measure: spread over the nodes, steady over restarts, unmoved when a clock is set."""

from __future__ import annotations

import hashlib


def phase_s(node: str, interval_s: float) -> float:
    """Where in the interval a node's turn is: the same after a restart, evenly spread over many nodes."""
    digest = hashlib.sha256(node.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * interval_s


class Schedule:
    """Turns an interval apart on the monotonic clock.

    The wall clock is looked at once, at the start, so that a restarted agent goes on in step with its samples before.
    """

    def __init__(self, node: str, interval_s: float, wall_s: float, monotonic_s: float) -> None:
        """Sets the first turn: the next time that the wall clock comes by this node's place in the interval."""
        self._interval_s = interval_s
        self._next_s = monotonic_s + (phase_s(node, interval_s) - wall_s) % interval_s
        self.missed = 0

    @property
    def next_s(self) -> float:
        """The next turn, in seconds of the monotonic clock."""
        return self._next_s

    def done(self, monotonic_s: float) -> None:
        """The turn is over; turns that passed meanwhile are counted and left out."""
        self._next_s += self._interval_s
        if self._next_s <= monotonic_s:
            behind = int((monotonic_s - self._next_s) // self._interval_s) + 1
            self.missed += behind
            self._next_s += behind * self._interval_s
