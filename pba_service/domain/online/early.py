"""What the newest value says of the forecast made a step before, whose target has not come yet.

Where a link is measured more often than every 15 minutes, several samples pass before a forecast meets its own. A link
that has changed its level shows with the first of them which forecasters are near now. So the newest value judges the
newest forecast that waits; what it tells fades within some steps, and is not learnt: the weights follow what came true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online import codes
from pba_service.domain.online.state import FREE, pending_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.online.state import States

RATE = np.float32(0.35)
KEPT = np.float32(0.85)
"""What is left of it a step later."""

LIMIT = np.float32(0.8)
"""One value counts at most as this many mean absolute errors more or less than the combination's."""


_GONE = np.float32(1e-6)


def log_weight(learnt: NDArray[np.void]) -> NDArray[np.float32]:
    """The log weights that a forecast is made with, not normalised: float32[n, 4, experts]."""
    now: NDArray[np.float32] = learnt["log_weight"] - RATE * learnt["early"]
    return now


def judge(states: States, newest: NDArray[np.float32], made_at_ms: NDArray[np.int64]) -> None:
    """Takes the newest value of each link into account, once; where no forecast waits, what was known fades.

    Args:
        states: STATE[n], `learnt` of which is changed in place.
        newest: float32[n, 4], NaN where not measured, which changes nothing: a value that is older than the forecast
            was known to it, and the last value would always be right.
        made_at_ms: int64[n], when it was measured.
    """
    target, made = states["target_ms"], states["made_at_ms"]
    waits = (target > made_at_ms[:, None]) & (target != FREE) & (made < made_at_ms[:, None])
    link, slot = np.arange(len(states)), np.where(waits, made, -1).argmax(axis=1)
    later = states["last_made_at_ms"] < made_at_ms
    waited = waits[link, slot]
    new = waited & later
    idle = later & ~waited
    if np.count_nonzero(idle):
        faded = KEPT * states["learnt"]["early"][idle]
        states["learnt"]["early"][idle] = np.where(np.abs(faded) < _GONE, np.float32(0), faded)
    if not np.count_nonzero(new):
        return
    waiting = pending_of(states, link, slot)
    distance = newest - waiting["predicted"]
    distance /= np.where(new[:, None], waiting["scale"], np.float32(1))
    excess = codes.unpack(waiting["experts"])
    np.subtract(distance[..., None], excess, out=excess)
    np.abs(excess, out=excess)
    excess -= np.abs(distance)[..., None]
    excess.clip(-LIMIT, LIMIT, out=excess)
    np.copyto(excess, 0, where=np.isnan(excess))  # who slept did as well as the combination
    early = states["learnt"]["early"]
    excess += KEPT * early
    told = new[:, None] & ~np.isnan(distance)
    if told.all():
        states["learnt"]["early"] = excess
    else:
        np.copyto(early, excess, where=told[..., None])
