"""What is learnt of one link: a record of fixed layout, and its bytes.

n links are an array of n records. Bytes carry a format number and a checksum; anything else decodes to the prior, so
that a foreign or damaged blob costs a link its history but never an error. The pending forecasts come last and unused
ones are left off, so a link on a slow cadence is stored in fewer bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import priors
from pba_service.domain.online.cycle import COURSE
from pba_service.domain.online.experts import EXPERTS
from pba_service.domain.online.hours import HOURS
from pba_service.domain.online.pull import COUNT as PULLS
from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    States = NDArray[np.void]

PENDING_SLOTS = 18
"""Forecasts that wait for their target: 15 minutes at a cadence of 60 s, and slack for missing samples."""

VERSIONS = 3
"""Model versions that pending forecasts may be of at a time."""

TAILS = 4
"""Quantiles besides the median: 0.05, 0.10, 0.90, 0.95."""

FREE = np.iinfo(np.int64).max
"""Target of a slot that holds no forecast: it never comes."""

_METRICS = len(METRICS)
_FORMAT = 0x5042410C  # "PBA", layout 12

PENDING = np.dtype(
    [
        ("tolerance_ms", "<i4"),
        ("predicted", "<f4", (_METRICS,)),
        ("scale", "<f4", (_METRICS,)),
        ("tails", "<f2", (_METRICS, TAILS)),  # distance from `predicted` in units of `scale`
        ("confidence", "<f4"),
        ("evidence", "<f2", (2,)),  # what the confidence was computed from
        ("experts", "i1", (_METRICS, len(EXPERTS))),  # distance from `predicted`, as `codes` packs it
        ("others", "i1", (_METRICS,)),  # likewise, of what the hourly forecaster corrects
        ("version", "<u4"),  # position in the state's `versions`
    ]
)

LEARNT = np.dtype(
    [
        ("settled", "<u4", (_METRICS,)),  # forecasts compared with what happened
        ("judged", "<u4"),  # forecasts that were a hit or a miss
        ("hit_rate", "<f4"),
        ("confidence", "<f4", (3,)),
        ("log_weight", "<f4", (_METRICS, len(EXPERTS))),
        ("habit", "<f4", (_METRICS, len(EXPERTS))),  # the weights' long mean
        ("early", "<f4", (_METRICS, len(EXPERTS))),  # what the newest values say of forecasts that wait
        ("pull", "<f4", (_METRICS, PULLS)),  # share of the way to single values
        ("scale", "<f4", (_METRICS,)),  # running mean absolute error
        ("hourly", "<f4", (HOURS, _METRICS)),  # mean error by the target's hour of day
        ("course", COURSE),  # the daily course
        ("tail_offset", "<f4", (_METRICS, TAILS)),
        ("tail_excess", "<f4", (_METRICS, TAILS // 2)),  # of values outside each interval
        ("tail_burst", "<f2", (_METRICS, 2)),  # of values beyond each outermost tail
    ]
)

STATE = np.dtype(
    [
        ("format", "<u4"),
        ("checksum", "<u4"),
        ("last_made_at_ms", "<i8"),
        ("last_kept_ms", "<i8"),  # the place of the newest forecast in `pending`, see `free_slot`
        ("heard", "<u2", (_METRICS,)),  # a bit for each forecaster that took part in the newest forecast
        ("versions", "S32", (VERSIONS,)),
        ("learnt", LEARNT),
        # of each slot of `pending`, beside each other since every step looks at all of them
        ("made_at_ms", "<i8", (PENDING_SLOTS,)),
        ("target_ms", "<i8", (PENDING_SLOTS,)),  # `FREE` marks a slot that holds nothing
        ("pending", PENDING, (PENDING_SLOTS,)),
    ]
)

_PENDING_WORDS = PENDING.itemsize // 4
_HEAD_BYTES = STATE.fields["pending"][1] if STATE.fields else 0
_WORDS = STATE.itemsize // 4
# any single damaged word changes the sum, since odd numbers have an inverse modulo 2^32
_ODD = (np.arange(_WORDS, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)).astype(np.uint32) | np.uint32(1)
_CHECKSUM_WORD = 1
_LEARNT_START = STATE.fields["learnt"][1] // 4 if STATE.fields else 0
_LEARNT_WORDS = slice(_LEARNT_START, _LEARNT_START + LEARNT.itemsize // 4)


def fresh(n: int) -> States:
    """The prior state of n links: STATE[n]."""
    states = np.zeros(n, STATE)
    states["format"] = _FORMAT
    states["target_ms"] = FREE
    learnt = states["learnt"]
    learnt["habit"] = priors.weights()
    learnt["log_weight"] = np.log(learnt["habit"])
    learnt["confidence"] = priors.CONFIDENCE
    learnt["hit_rate"] = priors.HIT_RATE
    return states


def take(states: States, rows: NDArray[np.intp]) -> States:
    """A copy of some states. Numpy copies records field by field, which takes many times as long as their words."""
    return _words(states).take(rows, axis=0).view(STATE)[:, 0]


def put(states: States, rows: NDArray[np.intp], new: States) -> None:
    """Writes states in place of some others; see `take`."""
    _words(states)[rows] = _words(new)


def pending_of(states: States, rows: NDArray[np.intp], slots: NDArray[np.intp]) -> NDArray[np.void]:
    """A copy of what some slots hold, PENDING[k]; see `take`."""
    return _pending_words(states)[rows, slots].view(PENDING)[:, 0]


def put_pending(
    states: States, rows: NDArray[np.intp], slots: NDArray[np.intp], new: NDArray[np.void] | None = None
) -> None:
    """Writes PENDING[k] into some slots, zeros where None; see `take`."""
    _pending_words(states)[rows, slots] = 0 if new is None else new.view(np.uint32).reshape(-1, _PENDING_WORDS)


def take_learnt(states: States, rows: NDArray[np.intp]) -> NDArray[np.void]:
    """A copy of what was learnt of some links, LEARNT[k]; see `take`."""
    return _words(states)[rows, _LEARNT_WORDS].view(LEARNT)[:, 0]


def put_learnt(states: States, rows: NDArray[np.intp], learnt: NDArray[np.void]) -> None:
    """Writes LEARNT[k] in place of what was learnt of some links; see `take`."""
    _words(states)[rows, _LEARNT_WORDS] = learnt.view(np.uint32).reshape(len(rows), -1)


def decode(blobs: Sequence[bytes]) -> States:
    """Reads states; an empty, foreign or damaged blob becomes the prior state of a new link."""
    size = STATE.itemsize
    padded = b"".join([blob.ljust(size, b"\0") if len(blob) <= size else bytes(size) for blob in blobs])
    states = np.frombuffer(bytearray(padded), STATE)
    bad = np.flatnonzero((states["format"] != _FORMAT) | (states["checksum"] != _checksums(states)))
    states[bad] = fresh(len(bad))
    return states


def encode(states: States) -> list[bytes]:
    """The bytes of each state; writes their checksums into the states too."""
    states["checksum"] = _checksums(states)
    used = states["target_ms"] != FREE
    slots = np.where(used.any(axis=1), PENDING_SLOTS - np.argmax(used[:, ::-1], axis=1), 0)
    lengths = (_HEAD_BYTES + slots * PENDING.itemsize).tolist()
    data = np.ascontiguousarray(states).view(np.uint8).data if len(states) else memoryview(b"")
    starts = range(0, len(data), STATE.itemsize)
    return [bytes(data[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def last_made_at_ms(states: States) -> NDArray[np.int64]:
    """When the newest sample that each state has seen was measured; 0 for a fresh one."""
    result: NDArray[np.int64] = states["last_made_at_ms"]
    return result


def version_index(states: States, rows: NDArray[np.intp], version: str) -> NDArray[np.intp]:
    """Where each of some states keeps a model version; a new one takes a place no pending forecast refers to."""
    name = np.array(version.encode()[:32], "S32")
    same = states["versions"][rows] == name
    index: NDArray[np.intp] = same.argmax(axis=1)
    for i in (~same.any(axis=1)).nonzero()[0].tolist():
        state = states[rows[i]]
        used = set(state["pending"]["version"][state["target_ms"] != FREE].tolist())
        # models change far less often than forecasts come true: should all places be taken, the first one's few
        # pending forecasts are entered under the new name
        index[i] = next((k for k in range(VERSIONS) if k not in used), 0)
        states["versions"][rows[i], index[i]] = name
    return index


def _checksums(states: States) -> NDArray[np.uint32]:
    words = _words(np.ascontiguousarray(states))
    total = np.einsum("nw,w->n", words, _ODD)
    result: NDArray[np.uint32] = total - words[:, _CHECKSUM_WORD] * _ODD[_CHECKSUM_WORD]
    return result


def _words(states: States) -> NDArray[np.uint32]:
    """Contiguous states as uint32[n, words], the same memory."""
    return states.view(np.uint32).reshape(len(states), _WORDS)


def _pending_words(states: States) -> NDArray[np.uint32]:
    """The slots of states as uint32[n, PENDING_SLOTS, words], the same memory."""
    return states["pending"].view(np.uint32).reshape(len(states), PENDING_SLOTS, _PENDING_WORDS)
