"""What goes on at a link without a break: an outage, a value that repeats; and how often its values repeat anyway.

Kept from block to block, since it may have begun before the samples that are at hand: a process remembers few of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL_LOST = 0.999

_BANDWIDTH, _LOSS = METRICS.index("bandwidth_mbps"), METRICS.index("packet_loss_ratio")
_HABIT_FADING = 0.97
"""A block's, so that a habit is a mean of about 500 samples."""

_STRUCT = struct.Struct(f"<{'Iq' * (1 + len(METRICS))}{2 * len(METRICS)}f")
RUNS_BYTES = _STRUCT.size


@dataclass(frozen=True, slots=True)
class Runs:
    """What has gone on without a break up to the end of the newest block, and how often values repeated before.

    Attributes:
        down: Samples of an outage, and when the first was measured.
        same: Of each metric the repetitions of its newest value, and when it was first measured.
        repeated, known: Of each metric repetitions and values before those, fading.
    """

    down: tuple[int, int] = (0, 0)
    same: tuple[tuple[int, int], ...] = ((0, 0),) * len(METRICS)
    repeated: tuple[float, ...] = (0.0,) * len(METRICS)
    known: tuple[float, ...] = (0.0,) * len(METRICS)

    def after(self, times: NDArray[np.int64], values: NDArray[np.float32], new: slice) -> Runs:
        """After the samples of a slice of those at hand, which follow those that are known."""
        count = new.stop - new.start
        if not count:
            return self
        rows = values[new]
        down = _running((rows[:, _BANDWIDTH] <= 0) | (rows[:, _LOSS] >= ALL_LOST))
        # each sample and the one before it; the oldest at hand has none
        before = values[max(new.start - 1, 0) : new.stop - 1]
        repeats = np.zeros(rows.shape, np.bool_)
        repeats[count - len(before) :] = (rows[count - len(before) :] == before) & (rows[count - len(before) :] > 0)
        known = np.isfinite(rows)
        same, repeated, seen = [], [], []
        for metric in range(len(METRICS)):
            run, (carried, since_ms) = _running(repeats[:, metric]), self.same[metric]
            told_repeats, told_known = self.repeated[metric], self.known[metric]
            if run == count and carried:
                same.append((carried + run, since_ms))
            else:
                same.append((run, int(times[max(new.stop - 1 - run, 0)]) if run else 0))
                over = slice(0, count - run)
                if run < count:  # what had gone on is over, and belongs to the habit
                    told_repeats += carried + int(repeats[over, metric].sum())
                    told_known += carried + int(known[over, metric].sum())
            fading = _HABIT_FADING if run < count else 1.0
            repeated.append(single(fading * told_repeats))
            seen.append(single(fading * told_known))
        whole = (self.down[0] + down, self.down[1] or int(times[new.start]))
        part = (down, int(times[new.stop - down]) if down else 0)
        return Runs(whole if down == count else part, tuple(same), tuple(repeated), tuple(seen))

    def encode(self) -> bytes:
        """As `RUNS_BYTES` bytes."""
        return _STRUCT.pack(*self.down, *(x for one in self.same for x in one), *self.repeated, *self.known)

    @staticmethod
    def decode(content: bytes) -> Runs:
        """What `encode` gave."""
        numbers = _STRUCT.unpack(content)
        counts, shares = numbers[: -2 * len(METRICS)], numbers[-2 * len(METRICS) :]
        down, *same = zip(counts[::2], counts[1::2], strict=True)
        return Runs(down, tuple(same), shares[: len(METRICS)], shares[len(METRICS) :])


NOTHING_GOES_ON = Runs()


def single(value: float) -> float:
    """A number as it will be stored, so that what is read back goes on as if it never had been."""
    return float(np.float32(value))


def _running(flags: NDArray[np.bool_]) -> int:
    """How many of the last ones are set, without a gap."""
    return len(flags) if flags.all() else int(np.argmin(flags[::-1]))
