"""What is wrong with a link right now: a shifted level, an outage, a sensor that lies.

Levels of bandwidth and latency. The samples of a quarter of an hour are a block, its level the median's logarithm. The
median of the newest `NEW` blocks is compared with that of the `OLD` ones before, as a moving sum chart does with means
(MOSUM: Chu, Hornik and Kuan 1995; Eichinger and Kirch 2018, Bernoulli 24(1)). How much change is usual is not assumed
but taken from the link: the largest such change of the past days, fading by half in three. A change `LIMIT` times as
large is a shift. It is told when more than half of the newer blocks lie on the new level, hence within `SHIFT_SAMPLES`
samples, and until all of them and those before do, so that an hour's congestion which ends is told for as long.
(A CUSUM over whitened residuals was tried first: on links that wander as real ones do it told a shift every few hours.)

Faults, sample by sample. Outage: no bandwidth, or nothing but loss, in two samples running. Stuck: the same positive
value again and again, longer than chance and the link's own habit of repeating itself explain. Jump: a change by such a
factor as only a change of units makes. Silence cannot be told by samples: whoever knows the time asks `silence`.

A link's record is a few hundred bytes beside its learned state and changes once a block, unless something is wrong.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.drift_runs import ALL_LOST, NOTHING_GOES_ON, RUNS_BYTES, Runs, single
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.columns import Columns
    from pba_service.domain.samples import Series

BLOCK_SAMPLES = 15
OLD, NEW = 12, 7
WARM_UP_BLOCKS = 96
"""Blocks before anything is told of levels: about a day at a cadence of 60 s."""

LIMIT = 1.6
FADING = 0.5 ** (1 / 288)
LEAST_CHANGE = 0.05
"""Changes of a level by less than 5 % are none."""

SHIFT_SAMPLES = BLOCK_SAMPLES * (NEW // 2 + 2)
"""A shift that is large enough is told after at most so many samples."""

HOLD_BLOCKS = OLD + NEW
STUCK_CHANCE = 1e-7
STUCK_LEAST, STUCK_MOST = 12, 400
HABIT_LEAST = 30
_JUMP_RATIO = 300.0
JUMP = math.log(_JUMP_RATIO)
JUMP_HOLD = 5
SILENT_SAMPLES = 5

_BANDWIDTH, _LATENCY, _LOSS = (METRICS.index(name) for name in ("bandwidth_mbps", "latency_ms", "packet_loss_ratio"))
_LEVELLED = (_BANDWIDTH, _LATENCY)
_LOOKED_AT = 4
_FLOOR = 1e-3


class ConditionKind(IntEnum):
    """What is wrong; where several things are, the highest is told."""

    LEVEL_SHIFT = 1
    SENSOR_STUCK = 2
    SENSOR_JUMP = 3
    OUTAGE = 4
    SILENT = 5


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong with a link.

    Attributes:
        kind: What.
        since_ms: When it began, as far as can be told.
        strength: Of a shift the change over the largest usual one; of an outage and of stuck values the samples they
            have lasted, of silence the steps; of a jump the factor; at least 1.
        metrics: Names of the metrics that show it.
    """

    kind: ConditionKind
    since_ms: int
    strength: float
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a link.

    Attributes:
        block_ms: The newest sample of the newest block.
        blocks: Blocks taken in so far.
        levels: Of bandwidth and latency: the newest blocks' levels, oldest first; NaN for a block without.
        usual: Of both: the largest change, fading.
        runs: What went on up to the end of the newest block.
        shift: A shift that is told, and `shift_until_ms`.
        fault: What else is told, and until when (0: for as long as it lasts).
    """

    block_ms: int = 0
    blocks: int = 0
    levels: tuple[tuple[float, ...], ...] = ((), ())
    usual: tuple[float, ...] = (0.0, 0.0)
    runs: Runs = NOTHING_GOES_ON
    shift: Condition | None = None
    shift_until_ms: int = 0
    fault: Condition | None = None
    fault_until_ms: int = 0

    @property
    def condition(self) -> Condition | None:
        """What is told now."""
        return self.fault or self.shift


def follow(
    blobs: Sequence[bytes], columns: Columns, step_ms: Sequence[int]
) -> tuple[list[bytes], list[Condition | None]]:
    """Brings the records of some links up to their newest samples, and says what is wrong with each.

    Args:
        blobs: Encoded records; empty ones for links that have none.
        columns: Their recent samples, at least as far back as the newest block of the record.
        step_ms: Their cadences.
    """
    heads = [_HEAD.unpack_from(blob) if len(blob) >= _HEAD.size else (0, 0, 0) for blob in blobs]
    suspects = _suspects(columns)
    newest = columns.newest_ms.tolist()
    told: list[Condition | None] = [None] * len(blobs)
    kept = list(blobs)
    for i, (head, suspect, newest_ms, step) in enumerate(zip(heads, suspects, newest, step_ms, strict=True)):
        if newest_ms - head[1] < BLOCK_SAMPLES * step and not head[2] and not suspect:
            continue
        series = columns.series(i)
        record = _levelled(decode(blobs[i]), series, step)
        if suspect or head[2]:
            record = _judged(record, series, step)
        kept[i], told[i] = encode(record), record.condition
    return kept, told


def _suspects(columns: Columns) -> list[bool]:
    """Of which links the newest samples want a second look: no bandwidth, all lost, equal values, a great change."""
    places = columns.last[:, None] - np.arange(JUMP_HOLD + 1)[::-1]
    last = columns.values_at(np.maximum(places, columns.first[:, None]))
    newest = last[:, -1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratio = last[:, 1:] / last[:, :-1]  # not of the newest alone: several samples may come at a time
        ratio[..., _LOSS] = 1
        odd = ((ratio > _JUMP_RATIO) | ((ratio < 1 / _JUMP_RATIO) & (last[:, 1:] > 0))).any(axis=1)
    equal = last[:, -_LOOKED_AT:]
    odd |= (equal[:, 1:] == equal[:, :-1]).all(axis=1) & (newest > 0)
    found: list[bool] = (odd.any(axis=1) | (newest[:, _BANDWIDTH] <= 0) | (newest[:, _LOSS] >= ALL_LOST)).tolist()
    return found


def _levelled(record: Record, series: Series, step_ms: int) -> Record:
    """Takes in whole blocks of samples that are newer than the record."""
    times, span = series.times_ms, BLOCK_SAMPLES * step_ms
    start = record.block_ms or int(times[0]) - step_ms
    while int(times[-1]) - start >= span:
        first, last = np.searchsorted(times, [start + 1, start + span + 1])
        if last == first:  # a gap is passed over at once
            start = int(times[first]) - step_ms
            continue
        start += span
        record = replace(record, runs=record.runs.after(times, series.values, slice(int(first), int(last))))
        record = _with_block(record, series.values[first:last], int(times[last - 1]), span)
    return replace(record, block_ms=start)


def _with_block(record: Record, values: NDArray[np.float32], end_ms: int, span_ms: int) -> Record:
    levels = tuple(
        (*known, _level(values[:, metric].tolist()))[-(OLD + NEW) :]
        for known, metric in zip(record.levels, _LEVELLED, strict=True)
    )
    shift = record.shift if record.shift_until_ms > end_ms else None
    record = replace(record, blocks=record.blocks + 1, levels=levels, shift=shift)
    changes = [_change(one) for one in levels]
    if not shift and record.blocks > WARM_UP_BLOCKS:
        times = [abs(change) / max(u, LEAST_CHANGE) for change, u in zip(changes, record.usual, strict=True)]
        shown = tuple(METRICS[metric] for metric, one in zip(_LEVELLED, times, strict=True) if one >= LIMIT)
        if shown:
            since_ms = end_ms - (NEW // 2 + 1) * span_ms
            shift = Condition(ConditionKind.LEVEL_SHIFT, since_ms, max(times), shown)
            return replace(record, shift=shift, shift_until_ms=end_ms + HOLD_BLOCKS * span_ms)
    # a shift that is told is no reason to expect more of its kind
    faded = [single(FADING * u) for u in record.usual]
    usual = tuple(faded if shift else [max(f, single(abs(c))) for f, c in zip(faded, changes, strict=True)])
    return replace(record, usual=usual)


def _level(values: list[float]) -> float:
    known = [value for value in values if value == value]  # noqa: PLR0124 - NaN is not itself
    return single(math.log(max(median(known), 0.0) + _FLOOR)) if known else math.nan


def _change(levels: tuple[float, ...]) -> float:
    """From the median of the older to that of the newer blocks; 0 where too many are missing."""
    old = [one for one in levels[:-NEW] if not math.isnan(one)]
    new = [one for one in levels[-NEW:] if not math.isnan(one)]
    if len(levels) < OLD + NEW or 2 * len(old) < OLD or 2 * len(new) < NEW:
        return 0.0
    return median(new) - median(old)


def _judged(record: Record, series: Series, step_ms: int) -> Record:
    """Looks at the newest samples for faults."""
    times, values = series.times_ms, series.values
    now_ms = int(times[-1])
    since = slice(int(np.searchsorted(times, record.block_ms, side="right")), len(times))
    runs = record.runs.after(times, values, since)
    shift = record.shift if record.shift_until_ms > now_ms else None
    oldest = max(len(times) - JUMP_HOLD, int(np.searchsorted(times, now_ms - JUMP_HOLD * step_ms, side="right")))
    jumps = (_jump(times, values, at) for at in range(len(times) - 1, oldest - 1, -1))
    jump = next(filter(None, jumps), None)
    fault = _outage(runs, values[-1].tolist()) or jump or _stuck(record, runs)
    until = 0
    if fault and fault.kind is ConditionKind.SENSOR_JUMP:
        until = fault.since_ms + JUMP_HOLD * step_ms
    elif not fault and record.fault and record.fault_until_ms > now_ms:
        fault, until = record.fault, record.fault_until_ms
    return replace(record, shift=shift, fault=fault, fault_until_ms=until)


def _outage(runs: Runs, newest: list[float]) -> Condition | None:
    running, since_ms = runs.down
    if running < 2:  # noqa: PLR2004 - one may be chance
        return None
    shows = ((_BANDWIDTH, newest[_BANDWIDTH] <= 0), (_LOSS, newest[_LOSS] >= ALL_LOST))
    shown = tuple(METRICS[metric] for metric, one in shows if one)
    return Condition(ConditionKind.OUTAGE, since_ms, float(running), shown)


def _jump(times: NDArray[np.int64], values: NDArray[np.float32], newest: int) -> Condition | None:
    before = values[max(newest - 2 * _LOOKED_AT, 0) : newest]
    if len(before) < _LOOKED_AT:
        return None
    for metric, value in enumerate(values[newest].tolist()):
        known = [one for one in before[:, metric].tolist() if one > 0]
        if not value > 0 or metric == _LOSS or len(known) < _LOOKED_AT:
            continue
        size = max(abs(math.log(value / known[-1])), 0.0)
        if min(size, abs(math.log(value / median(known)))) > JUMP:
            return Condition(ConditionKind.SENSOR_JUMP, int(times[newest]), math.exp(min(size, 80)), (METRICS[metric],))
    return None


def _stuck(record: Record, runs: Runs) -> Condition | None:
    told = record.fault if record.fault and record.fault.kind is ConditionKind.SENSOR_STUCK else None
    for name, (running, since_ms), repeated, known in zip(METRICS, runs.same, runs.repeated, runs.known, strict=True):
        if told and name in told.metrics and running:
            return replace(told, strength=float(running + 1))  # the first of them repeats nothing
        if running < STUCK_LEAST or known < HABIT_LEAST:
            continue
        habit = min(max(repeated / known, 0.02), 0.98)
        if running >= min(math.log(STUCK_CHANCE) / math.log(habit), STUCK_MOST):
            return Condition(ConditionKind.SENSOR_STUCK, since_ms, float(running + 1), (name,))
    return None


def silence(newest_ms: int, step_ms: int, now_ms: int) -> Condition | None:
    """That a link's samples stopped coming, where the newest is more than `SILENT_SAMPLES` steps old now."""
    missing = (now_ms - newest_ms) / step_ms
    return Condition(ConditionKind.SILENT, newest_ms, missing, METRICS) if missing > SILENT_SAMPLES else None


_HEAD = struct.Struct("<Iq?")  # checksum, newest sample of the newest block, whether anything is told
_BODY = struct.Struct(f"<IBB2f{2 * (OLD + NEW)}f")
_TOLD = struct.Struct("<BqfBq")
_KINDS = frozenset(ConditionKind)


def encode(record: Record) -> bytes:
    """A record as bytes."""
    bodies = [
        _BODY.pack(
            record.blocks,
            *(len(levels) for levels in record.levels),
            *record.usual,
            *(x for levels in record.levels for x in (*levels, *[math.nan] * (OLD + NEW - len(levels)))),
        ),
        record.runs.encode(),
    ]
    for told, until_ms in ((record.shift, record.shift_until_ms), (record.fault, record.fault_until_ms)):
        if told:
            shown = sum(1 << METRICS.index(name) for name in told.metrics)
            bodies.append(_TOLD.pack(told.kind, told.since_ms, told.strength, shown, until_ms))
    body = b"".join(bodies)
    head = _HEAD.pack(0, record.block_ms, record.condition is not None)
    return zlib.crc32(head[4:] + body).to_bytes(4, "little") + head[4:] + body


def decode(blob: bytes) -> Record:
    """The record that `encode` was given; a fresh one for anything else."""
    runs_at = _HEAD.size + _BODY.size
    fixed_bytes = runs_at + RUNS_BYTES
    told_bytes = len(blob) - fixed_bytes
    if told_bytes < 0 or told_bytes % _TOLD.size or zlib.crc32(blob[4:]) != int.from_bytes(blob[:4], "little"):
        return Record()
    _, block_ms, _ = _HEAD.unpack_from(blob)
    blocks, first, second, *numbers = _BODY.unpack_from(blob, _HEAD.size)
    if max(first, second) > OLD + NEW:
        return Record()
    levels = (tuple(numbers[2 : 2 + first]), tuple(numbers[2 + OLD + NEW : 2 + OLD + NEW + second]))
    record = Record(block_ms, blocks, levels, tuple(numbers[:2]), Runs.decode(blob[runs_at:fixed_bytes]))
    for kind, since_ms, strength, shown, until_ms in _TOLD.iter_unpack(blob[fixed_bytes:]):
        if kind not in _KINDS:
            continue
        names = tuple(name for metric, name in enumerate(METRICS) if shown >> metric & 1)
        told = Condition(ConditionKind(kind), since_ms, strength, names)
        if told.kind is ConditionKind.LEVEL_SHIFT:
            record = replace(record, shift=told, shift_until_ms=until_ms)
        else:
            record = replace(record, fault=told, fault_until_ms=until_ms)
    return record
