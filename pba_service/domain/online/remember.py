"""Keeping a forecast until its target comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import codes
from pba_service.domain.online.pending import free_slot
from pba_service.domain.online.state import PENDING, put_pending, version_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.state import States


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Forecasts and what they were made of."""

    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    tails: NDArray[np.float16]
    confidence: NDArray[np.float32]
    experts: NDArray[np.float32]
    others: NDArray[np.float32]
    scale: NDArray[np.float32]
    evidence: NDArray[np.float32]


def remember(
    states: States,
    made: Made,
    *,
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    target_ms: NDArray[np.int64],
    version: str,
) -> None:
    """Puts forecasts into the states' rings, except those that are too close to the one before on a fine cadence."""
    slot, kept = free_slot(states, made_at_ms, target_ms - made_at_ms, step_ms)
    rows = kept.nonzero()[0]
    chosen = slice(None) if len(rows) == len(states) else rows
    new = np.empty(len(rows), PENDING)
    values, scale = made.values[chosen], made.scale[chosen]
    said = np.concatenate([made.experts[chosen], made.others[chosen][..., None]], axis=2)
    said -= values[..., None]
    said /= scale[..., None]
    packed = codes.pack(said)
    new["tolerance_ms"] = step_ms[chosen] // 2
    new["predicted"] = values
    new["scale"] = scale
    new["experts"], new["others"] = packed[..., :-1], packed[..., -1]
    new["tails"] = made.tails[chosen]
    new["confidence"] = made.confidence[chosen]
    new["evidence"] = made.evidence[chosen]
    new["version"] = version_index(states, rows, version)
    slots = slot[chosen]
    states["made_at_ms"][rows, slots] = made_at_ms[chosen]
    states["target_ms"][rows, slots] = target_ms[chosen]
    put_pending(states, rows, slots, new)
