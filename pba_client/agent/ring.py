"""Samples that wait on disk: a ring of fixed records in a file whose whole size is taken at the start.

Nothing is allocated later, so a disk that fills up does not stop it; a record is written in place and synced before it
counts; the oldest is overwritten when the ring is full, and counted. Each record and each of the two places for the
position carries a checksum: what a crash tore is found and left out.

    0      magic, version, record size, number of records, checksum
    512    position, written in turn here ...
    1024   ... and here: the newer valid one counts
    4096   records; number n lies at 4096 + (n mod records) * 208
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pba_client.agent.measurement import Measurement, Source
from pba_client.agent.tally import Share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RECORD_BYTES = 208
_FIRST_RECORD = 4096
_PLACES = (512, 1024)
_MAGIC = b"PBAring1"
_IDENTITY = struct.Struct("<8sIII")
_POSITION = struct.Struct("<QQQQ")
_RECORD = struct.Struct("<QqIqB4f4B3fIff128sB")
_CHECKSUM = struct.Struct("<I")


class RingBusyError(OSError):
    """Another process uses the ring."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How the clocks stood.

    Attributes:
        boot: Tells one start of the machine from another.
        offset_ms: The wall clock less the clock since then: it changes only when the wall clock is set.
    """

    boot: int
    offset_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sample that waits.

    Attributes:
        number: Its place in the order of measuring, from 1.
        moment: The clocks when it was measured: tell whether the wall clock was set since.
        measurement: The sample.
    """

    number: int
    moment: Moment
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class _Position:
    generation: int = 0
    done: int = 0
    dropped: int = 0
    refused: int = 0


class Ring:
    """The ring. Calls must not overlap.

    Attributes:
        head: The newest sample's number.
    """

    def __init__(self, path: Path, records: int) -> None:
        """Opens or makes the file; one of another size, or something else, is put aside as `.old`.

        Args:
            path: The file.
            records: How many samples fit.

        Raises:
            RingBusyError: Another process uses it.
            OSError: It cannot be made, for want of space above all.
        """
        self._records = records
        self._descriptor = -1
        self._position = _Position()
        self._newest_ms: dict[str, int] = {}
        self._taken_ms: dict[str, set[int]] = {}
        self.head = 0
        try:
            self._open(path)
            self._recover()
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = _IDENTITY.pack(_MAGIC, 1, RECORD_BYTES, self._records)
        identity += _CHECKSUM.pack(zlib.crc32(identity))
        self._take(path)
        if os.fstat(self._descriptor).st_size and os.pread(self._descriptor, len(identity), 0) != identity:
            os.close(self._descriptor)
            path.rename(path.with_suffix(".old"))
            self._take(path)
        os.posix_fallocate(self._descriptor, 0, _FIRST_RECORD + self._records * RECORD_BYTES)
        os.pwrite(self._descriptor, identity, 0)
        os.fsync(self._descriptor)

    def _take(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RingBusyError("another agent uses this state_dir") from None

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def done(self) -> int:
        """All samples up to this number are dealt with: delivered, refused, or dropped."""
        return max(self._position.done, self.head - self._records)

    @property
    def dropped(self) -> int:
        """Samples overwritten or torn before they were delivered, ever."""
        return self._position.dropped + max(self.head - self._records - self._position.done, 0)

    @property
    def refused(self) -> int:
        """Samples that the service refused for good, ever."""
        return self._position.refused

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        return self.head - self.done

    def append(self, measurements: Sequence[Measurement], moment: Moment) -> None:
        """Adds samples and makes sure that they are on the disk.

        Raises:
            OSError: They are not.
        """
        number = self.head
        for one in measurements:
            number += 1
            self._write(Waiting(number, moment, one))
        os.fdatasync(self._descriptor)
        self.head = number
        for one in measurements:
            self._seen(one)

    def read(self, most: int) -> list[Waiting]:
        """The oldest samples that wait, at most so many places of the ring."""
        first = self.done + 1
        found = (self._record(number) for number in range(first, min(self.head, first + most - 1) + 1))
        return [one for one in found if one is not None]

    def finish(self, number: int, delivered: int, refused: int = 0) -> None:
        """All samples up to a number are dealt with: so many delivered, so many refused for good, others unreadable.

        It is not synced: what a crash forgets is delivered again, which stores nothing twice.

        Raises:
            OSError: It cannot be written.
        """
        position = replace(
            self._position,
            generation=self._position.generation + 1,
            done=max(number, self.done),
            dropped=self.dropped + max(number - self.done - delivered - refused, 0),
            refused=self._position.refused + refused,
        )
        data = _POSITION.pack(position.generation, position.done, position.dropped, position.refused)
        where = _PLACES[position.generation % len(_PLACES)]
        os.pwrite(self._descriptor, data + _CHECKSUM.pack(zlib.crc32(data)), where)
        self._position = position

    def restamp(self, waiting: Waiting) -> None:
        """Writes a sample that waits anew, with another time.

        One that does not wait any more has left its place to a newer one, and is let be.

        Raises:
            OSError: It cannot be written.
        """
        if waiting.number <= self.done:
            return
        self._write(waiting)
        os.fdatasync(self._descriptor)
        self._seen(waiting.measurement)

    def free_ms(self, link_id: str, measured_at_ms: int) -> int:
        """The first millisecond from then on at which no sample of the link lies in the ring.

        A clock that was set back comes by times a second time, and the service takes a second sample of one time for a
        correction of the first.
        """
        if measured_at_ms > self._newest_ms.get(link_id, -1):
            self._taken_ms.pop(link_id, None)
            return measured_at_ms
        if link_id not in self._taken_ms:
            # of all links at once: their clock is the same, and reading the ring takes long
            self._taken_ms = {name: set() for name in self._newest_ms}
            for one in self._all():
                self._taken_ms.setdefault(one.measurement.link_id, set()).add(one.measurement.measured_at_ms)
        taken = self._taken_ms.setdefault(link_id, set())
        while measured_at_ms in taken:
            measured_at_ms += 1
        return measured_at_ms

    def _seen(self, one: Measurement) -> None:
        self._newest_ms[one.link_id] = max(self._newest_ms.get(one.link_id, -1), one.measured_at_ms)
        if (taken := self._taken_ms.get(one.link_id)) is not None:
            taken.add(one.measured_at_ms)

    def _all(self) -> Iterator[Waiting]:
        for slot in range(self._records):
            found = _unpack(os.pread(self._descriptor, RECORD_BYTES, _FIRST_RECORD + slot * RECORD_BYTES))
            if found is not None and found.number % self._records == slot:
                yield found

    def _recover(self) -> None:
        """Finds the newest position and the newest record."""
        for place in _PLACES:
            data = os.pread(self._descriptor, _POSITION.size + _CHECKSUM.size, place)
            if _sound(data, _POSITION.size):
                found = _Position(*_POSITION.unpack_from(data))
                if found.generation >= self._position.generation:
                    self._position = found
        self.head = self._position.done
        for one in self._all():
            self.head = max(self.head, one.number)
            self._seen(one.measurement)

    def _write(self, waiting: Waiting) -> None:
        where = _FIRST_RECORD + waiting.number % self._records * RECORD_BYTES
        if os.pwrite(self._descriptor, _pack(waiting), where) != RECORD_BYTES:
            raise OSError("a record was written in part")

    def _record(self, number: int) -> Waiting | None:
        where = _FIRST_RECORD + number % self._records * RECORD_BYTES
        found = _unpack(os.pread(self._descriptor, RECORD_BYTES, where))
        return found if found is not None and found.number == number else None


def _sound(data: bytes, size: int) -> bool:
    return len(data) == size + _CHECKSUM.size and _CHECKSUM.unpack_from(data, size)[0] == zlib.crc32(data[:size])


def _pack(waiting: Waiting) -> bytes:
    one = waiting.measurement
    present = sum((value is not None) << bit for bit, value in enumerate(one.values))
    loss = one.loss or Share(0.0, 0.0, 0.0, 0)
    link = one.link_id.encode()
    data = _RECORD.pack(
        waiting.number,
        one.measured_at_ms,
        waiting.moment.boot,
        waiting.moment.offset_ms,
        present,
        *(value or 0.0 for value in one.values),
        *one.sources,
        loss.ratio,
        loss.low,
        loss.high,
        loss.trials,
        -1.0 if one.base_latency_ms is None else one.base_latency_ms,
        one.carried_mbps,
        link,
        len(link),
    ).ljust(RECORD_BYTES - _CHECKSUM.size, b"\0")
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _unpack(data: bytes) -> Waiting | None:
    """A record; None for what was never written, or torn."""
    if not _sound(data, RECORD_BYTES - _CHECKSUM.size):
        return None
    number, at_ms, boot, offset_ms, present, *rest = _RECORD.unpack_from(data)
    values = [value if present >> bit & 1 else None for bit, value in enumerate(rest[:4])]
    first, second, third, fourth = (Source(one) for one in rest[4:8])
    ratio, low, high, trials, base, carried, link, length = rest[8:]
    return Waiting(
        number,
        Moment(boot, offset_ms),
        Measurement(
            link_id=link[:length].decode(),
            measured_at_ms=at_ms,
            bandwidth_mbps=values[0],
            latency_ms=values[1],
            packet_loss_ratio=values[2],
            jitter_ms=values[3],
            sources=(first, second, third, fourth),
            loss=Share(ratio, low, high, trials) if trials else None,
            base_latency_ms=None if base < 0 else base,
            carried_mbps=carried,
        ),
    )
