"""The clocks that an agent reads, so that tests can bring their own."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pba_client.agent.ring import Moment

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_number() -> int:
    """Tells this start of the machine from others."""
    try:
        return zlib.crc32(_BOOT_ID.read_bytes())
    except OSError:
        return 0


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """Clocks, in seconds.

    Attributes:
        wall: Since 1970; may be set at any time.
        monotonic: For waiting.
        since_boot: Since the machine started, sleep counted.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    since_boot: Callable[[], float] = _since_boot_s

    def moment(self) -> Moment:
        """How the clocks stand now."""
        return Moment(boot_number(), round((self.wall() - self.since_boot()) * 1000))
