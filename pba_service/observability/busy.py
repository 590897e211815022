"""How busy the calling thread is."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_NS = 1e9


def busy_s() -> float:
    """Seconds in which the calling thread has worked or waited for a processor, since it began.

    On Linux from the scheduler (Documentation/scheduler/sched-stats.rst in its source: time on a processor, and time on
    a run queue, both in nanoseconds). Elsewhere only the time on a processor is known.
    """
    try:
        on_processor, waiting, _ = _SCHEDSTAT.read_bytes().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(on_processor) + int(waiting)) / _NS
