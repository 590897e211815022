"""What holds for a store of which nothing else is said."""

from __future__ import annotations

import time

MAX_LINKS = 1_000_000
"""The most links there may be."""

LEDGER_RETENTION_MS = 7 * 86_400_000
"""How long a ledger entry is kept after its target."""

TIMEOUT_S = 2.0
"""The longest that one round trip to the server may last."""


def system_clock() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
