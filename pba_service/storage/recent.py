"""What has been stored in the last moments, for the case that a failover forgets it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pba_service.engine.ingest import merge

if TYPE_CHECKING:
    from pba_service.domain.samples import SampleBatch

KEPT_MS = 30_000
KEPT_SAMPLES = 200_000


class RecentBatches:
    """The batches of the last 30 seconds, as long as they are not too many."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, SampleBatch]] = deque()
        self._samples = 0

    def add(self, now_ms: int, batch: SampleBatch) -> None:
        """Remembers a batch that is stored now, by a clock that nobody sets."""
        self._batches.append((now_ms, batch))
        self._samples += len(batch)
        while self._batches[0][0] < now_ms - KEPT_MS or (self._samples > KEPT_SAMPLES and len(self._batches) > 1):
            self._samples -= len(self._batches.popleft()[1])

    def together(self) -> SampleBatch | None:
        """Their samples in order, as one batch; None if there are none."""
        return merge([batch for _, batch in self._batches]) if self._batches else None
