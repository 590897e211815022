"""Samples on their way: on disk, and in memory for as long as the disk cannot be written. Threads may share it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING

from pba_client.agent.clock import Clock
from pba_client.agent.ring import Ring, RingBusyError, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pba_client.agent.measurement import Measurement

log = logging.getLogger(__name__)

MOST_IN_MEMORY = 4096


class Depot:
    """Takes samples in, gives the oldest out, forgets them once they are dealt with."""

    def __init__(
        self, path: Path, records: int, clock: Clock | None = None, most_in_memory: int = MOST_IN_MEMORY
    ) -> None:
        """Opens the ring; where that fails, samples stay in memory until it succeeds.

        Args:
            path: The ring's file.
            records: How many samples it holds.
            clock: The clocks.
            most_in_memory: How many are held while the disk cannot be written; the oldest go first.

        Raises:
            RingBusyError: Another agent uses it.
        """
        self._path, self._records = path, records
        self._clock = clock or Clock()
        self._lock = RLock()
        self._ring: Ring | None = None
        self._memory: deque[Waiting] = deque()
        self._most_in_memory = most_in_memory
        self._dropped = self._refused = 0
        self.disk_failures = 0
        self._failing = False
        self._open()

    def close(self) -> None:
        """Closes the file; what is in memory is tried to be saved first."""
        with self._lock:
            self._save()
            if self._ring is not None:
                self._ring.close()

    def add(self, measurements: Sequence[Measurement]) -> None:
        """Takes in samples of now. When it returns they are on the disk, or in memory and the failure is told."""
        with self._lock:
            moment = self._clock.moment()
            for one in measurements:
                self._memory.append(Waiting(0, moment, self._at_a_free_time(one)))
            self._save()
            while len(self._memory) > self._most_in_memory:
                self._memory.popleft()
                self._dropped += 1

    def oldest(self, most: int) -> list[Waiting]:
        """The oldest samples."""
        with self._lock:
            if self._ring is not None and self._ring.waiting:
                return self._ring.read(most)
            return [self._memory[i] for i in range(min(most, len(self._memory)))]

    def finish(self, handled: Sequence[Waiting], refused: int) -> None:
        """Samples from the beginning of `oldest` are dealt with, some of them refused for good."""
        with self._lock:
            if not handled:
                return
            last = handled[-1]
            if last.number and self._ring is not None:
                try:
                    self._ring.finish(last.number, len(handled) - refused, refused)
                except OSError as error:
                    self._failed(error)
                return
            gone = {id(one) for one in handled}
            self._refused += refused
            while self._memory and id(self._memory[0]) in gone:
                self._memory.popleft()

    def skip_unreadable(self) -> None:
        """Passes over records that no one can read any more; they count as dropped."""
        with self._lock:
            if self._ring is not None and self._ring.waiting and not self._ring.read(self._records):
                self._ring.finish(self._ring.head, 0)

    def restamp(self, waiting: Waiting, measured_at_ms: int) -> None:
        """Gives a sample that was refused another time, by the clock as it is now."""
        with self._lock:
            moved = replace(waiting.measurement, measured_at_ms=measured_at_ms)
            new = replace(waiting, moment=self._clock.moment(), measurement=self._at_a_free_time(moved))
            if new.number and self._ring is not None:
                try:
                    self._ring.restamp(new)
                except OSError as error:
                    self._failed(error)
                return
            for position, one in enumerate(self._memory):
                if one is waiting:
                    self._memory[position] = new

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        with self._lock:
            return len(self._memory) + (self._ring.waiting if self._ring else 0)

    @property
    def dropped(self) -> int:
        """Samples that were given up for newer ones."""
        with self._lock:
            return self._dropped + (self._ring.dropped if self._ring else 0)

    @property
    def refused(self) -> int:
        """Samples that the service refused for good."""
        with self._lock:
            return self._refused + (self._ring.refused if self._ring else 0)

    @property
    def in_memory(self) -> int:
        """Samples that are not on the disk."""
        return len(self._memory)

    def _at_a_free_time(self, one: Measurement) -> Measurement:
        at_ms = one.measured_at_ms
        if self._ring is not None:
            at_ms = self._ring.free_ms(one.link_id, at_ms)
        taken = {w.measurement.measured_at_ms for w in self._memory if w.measurement.link_id == one.link_id}
        while at_ms in taken:
            at_ms += 1
        return replace(one, measured_at_ms=at_ms)

    def _save(self) -> None:
        """Writes what is in memory to the disk, in order."""
        if self._ring is None:
            self._open()
        while self._memory and self._ring is not None:
            moment = self._memory[0].moment
            together: list[Waiting] = []
            for one in self._memory:  # those in front alone: a later one may have the same moment
                if one.moment != moment or len(together) == self._records:
                    break
                together.append(one)
            try:
                self._ring.append([one.measurement for one in together], moment)
            except OSError as error:
                self._failed(error)
                return
            for _ in together:
                self._memory.popleft()
            if self._failing:
                self._failing = False
                log.info("samples are saved again")

    def _open(self) -> None:
        try:
            self._ring = Ring(self._path, self._records)
        except RingBusyError:
            raise
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.disk_failures += 1
        if not self._failing:
            self._failing = True
            log.error(
                "samples cannot be saved and stay in memory", extra={"path": str(self._path), "error": str(error)}
            )
