"""Fields of a hash as Redis answers them."""

from __future__ import annotations

from typing import Any


def pairs(found: Any) -> list[tuple[bytes, bytes]]:
    """RESP2 answers them in turns, and redis-py makes a dictionary of those of some clients."""
    return list(found.items()) if isinstance(found, dict) else list(zip(found[::2], found[1::2], strict=True))
