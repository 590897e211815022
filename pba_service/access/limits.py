"""How much one caller may ask for. Every memory of callers is bounded."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CALLERS = 10_000
"""Callers remembered; the one that was idle longest is forgotten, which is as if it had been idle for long."""

_HOME_BITS = 64

BURST_S = 2.0
"""A caller may use what it did not use in this time."""


class Rate:
    """A bucket of tokens for each caller.

    A caller is let through while its balance is above 0 and then pays the whole cost, so a batch larger than the
    bucket passes as well, and is paid for by waiting afterwards.
    """

    def __init__(self, per_s: float, clock: Callable[[], float], max_callers: int = MAX_CALLERS) -> None:
        """Makes the buckets.

        Args:
            per_s: What a bucket gains in a second.
            clock: Monotonic seconds.
            max_callers: See `MAX_CALLERS`.
        """
        self.per_s = per_s
        self._clock = clock
        self._max_callers = max_callers
        self._balances: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (balance, when)

    def __len__(self) -> int:
        """Callers remembered."""
        return len(self._balances)

    def take(self, caller: str, cost: float = 1.0) -> float:
        """Takes `cost` from a caller's bucket; returns 0, or the seconds to wait, and then nothing is taken."""
        full, now = self.per_s * BURST_S, self._clock()
        balance, then = self._balances.get(caller, (full, now))
        balance = min(balance + (now - then) * self.per_s, full)
        wait_s = 0.0 if balance > 0 else (1.0 - balance) / self.per_s
        self._balances[caller] = (balance if wait_s else balance - cost), now
        self._balances.move_to_end(caller)
        if len(self._balances) > self._max_callers:
            self._balances.popitem(last=False)
        return wait_s


class Places:
    """How many things of a kind each caller has open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Callers that have something open."""
        return len(self._open)

    def enter(self, caller: str) -> bool:
        """Takes a place; False when the caller has as many as it may."""
        taken = self._open.get(caller, 0)
        if taken >= self.most:
            return False
        self._open[caller] = taken + 1
        return True

    def leave(self, caller: str) -> None:
        """Gives a place back."""
        left = self._open[caller] - 1
        if left:
            self._open[caller] = left
        else:
            del self._open[caller]


def peer_key(peer: str) -> str:
    """Who an unknown caller is taken to be: its address without the port; of IPv6 the network, which is one home.

    Args:
        peer: As gRPC says it: `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000` or `unix:`.
    """
    kind, _, rest = peer.partition(":")
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    if kind == "ipv6":
        try:
            return str(ipaddress.ip_network((host, _HOME_BITS), strict=False))
        except ValueError:
            return kind
    return host if kind == "ipv4" else kind
