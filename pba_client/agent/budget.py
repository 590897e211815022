"""Bounds: bytes within an hour, packets within a second, sequence numbers seen once. Times come from outside."""

from __future__ import annotations

from collections import deque

HOUR_S = 3600.0


class HourBudget:
    """At most so many bytes within any hour."""

    def __init__(self, limit_bytes: int, spent: list[tuple[float, int]] | None = None) -> None:
        """Begins with what was spent before.

        Args:
            limit_bytes: Within any hour.
            spent: What was spent lately, each with its time in seconds.
        """
        self._limit_bytes = limit_bytes
        self._spent = deque(spent or [])
        self._total = sum(count for _, count in self._spent)

    def left_bytes(self, now_s: float) -> int:
        """What may be spent now."""
        while self._spent and self._spent[0][0] <= now_s - HOUR_S:
            self._total -= self._spent.popleft()[1]
        return max(self._limit_bytes - self._total, 0)

    def spend(self, count: int, now_s: float) -> bool:
        """Spends so many bytes; False, and nothing is spent, where the hour's share does not allow it."""
        if count > self.left_bytes(now_s):
            return False
        self._spent.append((now_s, count))
        self._total += count
        return True

    @property
    def spent(self) -> list[tuple[float, int]]:
        """What was spent within the hour, for keeping."""
        return list(self._spent)


class TokenBucket:
    """So many packets a second on average, so many at once."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        """Begins full."""
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = burst, now_s

    def take(self, now_s: float) -> bool:
        """Takes one; False where there is none."""
        self._tokens = min(self._burst, self._tokens + max(now_s - self._at_s, 0.0) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class ReplayWindow:
    """Accepts each sequence number once, and none far behind the newest (as in RFC 4303, section 3.4.3)."""

    SIZE = 1024

    def __init__(self) -> None:
        """Begins with nothing seen."""
        self._newest = -1
        self._seen = 0

    def accept(self, sequence: int) -> bool:
        """Whether this number is new; from then on it is not."""
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << self.SIZE) - 1) if ahead < self.SIZE else 1
            self._newest = sequence
            return True
        behind = 1 << -ahead
        if -ahead >= self.SIZE or self._seen & behind:
            return False
        self._seen |= behind
        return True
