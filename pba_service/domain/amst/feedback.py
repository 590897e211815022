"""What came of recommendations, and the correction of a link's streams that it teaches.

The correction is a function of the stored outcomes and the time alone: there is no state that could ratchet. Each
outcome says "more" (goodput short of what was expected, little retransmitted), "fewer" (much retransmitted) or "right";
what it says is forgotten with a half-life of an hour. "More" is only believed where more streams have not been tried in
vain: on a policed path, or one whose bandwidth is overstated, goodput stays where it is however many there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.errors import InvalidRequestError, Violation
from pba_service.domain.samples import text_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

HALF_LIFE_MS = 3_600_000
SHORT_RATIO = 0.9
"""Goodput over the expected below which streams may be too few."""

RETRANSMITTED_RATIO = 0.03
"""Retransmissions beyond the path's own loss from which streams are too many."""

STEP = math.log(1.25)
MOST = math.log(2.0)
"""At most twice the model's streams, at least half of them."""

TRIED_SPREAD = math.log(1.2)
GAIN_SLOPE = 0.3
"""Streams must have brought at least this share of what they would bring if each carried as much as the others."""

MAX_GOODPUT_MBPS = 1e8


@dataclass(frozen=True, slots=True)
class TransferOutcome:
    """What a node did with a link for a while, and what came of it. Raises `InvalidRequestError` naming the fields.

    Attributes:
        link_id: The link.
        started_at_ms: From when on.
        ended_at_ms: Until when; with the link, the outcome's identity.
        streams: Streams that were open, at least 1.
        buffer_bytes: Socket buffer of each, 0 or more; 0: the kernel's.
        pacing_mbps: Pace of all together; None: none.
        expected_mbps: Goodput that was expected of them.
        achieved_mbps: Goodput that they had.
        retransmitted_ratio: Share of the segments that were retransmitted.
        path_loss_ratio: Loss that the path itself had meanwhile; 0 where unknown.
    """

    link_id: str
    started_at_ms: int
    ended_at_ms: int
    streams: int
    buffer_bytes: int
    pacing_mbps: float | None
    expected_mbps: float
    achieved_mbps: float
    retransmitted_ratio: float
    path_loss_ratio: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if fault := text_fault(self.link_id, required=True):
            faults.append(Violation("outcome.link_id", fault[1]))
        if self.ended_at_ms <= self.started_at_ms:
            faults.append(Violation("outcome.ended_at", "is not after started_at"))
        pace = 1.0 if self.pacing_mbps is None else self.pacing_mbps
        for field, value, least, most in (
            ("outcome.parameters.streams", self.streams, 1, 2**32 - 1),
            ("outcome.parameters.pacing_mbps", pace, 0.0, MAX_GOODPUT_MBPS),
            ("outcome.expected_goodput_mbps", self.expected_mbps, 0.0, MAX_GOODPUT_MBPS),
            ("outcome.achieved_goodput_mbps", self.achieved_mbps, 0.0, MAX_GOODPUT_MBPS),
            ("outcome.retransmitted_ratio", self.retransmitted_ratio, 0.0, 1.0),
            ("outcome.path_loss_ratio", self.path_loss_ratio, 0.0, 1.0),
        ):
            if not least <= value <= most:
                faults.append(Violation(field, f"is {value}, outside {least:g} to {most:g}"))
        if faults:
            raise InvalidRequestError(*faults)

    @property
    def effectiveness(self) -> float | None:
        """Goodput over the expected, at most 10; None where nothing was expected."""
        return min(self.achieved_mbps / self.expected_mbps, 10.0) if self.expected_mbps > 0 else None


def correction(outcomes: Sequence[TransferOutcome], now_ms: int) -> float:
    """Streams over what the model says, from 1/2 to 2; 1 without outcomes, and long after the last.

    Args:
        outcomes: Of one link, in any order.
        now_ms: The time; outcomes that ended after it count as of now.
    """
    judged = [(outcome, _verdict(outcome)) for outcome in outcomes]
    if _tried_in_vain(outcomes):
        judged = [(outcome, min(verdict, 0.0)) for outcome, verdict in judged]
    total = sum(verdict * 0.5 ** (max(now_ms - outcome.ended_at_ms, 0) / HALF_LIFE_MS) for outcome, verdict in judged)
    return math.exp(min(max(total, -MOST), MOST))


def _verdict(outcome: TransferOutcome) -> float:
    """What an outcome says, as a step of the logarithm of the streams; between its limits it goes over smoothly."""
    own_loss = outcome.retransmitted_ratio - outcome.path_loss_ratio
    too_many = _ramp(own_loss, RETRANSMITTED_RATIO, 2 * RETRANSMITTED_RATIO)
    effect = outcome.effectiveness
    too_few = 0.0 if effect is None else _ramp(SHORT_RATIO - effect, 0.0, 0.2)
    return STEP * (too_few * (1 - too_many) - too_many)


def _tried_in_vain(outcomes: Sequence[TransferOutcome]) -> bool:
    """Whether outcomes with more streams were no better: goodput and its share of the expected grew little with them.

    Both are looked at: the share rises where more came through of the same, goodput where more was expected as well.
    """
    judged = [o for o in outcomes if o.effectiveness is not None]
    streams = np.log([o.streams for o in judged])
    if not judged or np.ptp(streams) < TRIED_SPREAD:
        return False
    centred = streams - streams.mean()
    goodput = np.log([[max(o.effectiveness or 0, 1e-3), max(o.achieved_mbps, 1e-3)] for o in judged])
    return bool(((centred @ goodput) / (centred @ centred) < GAIN_SLOPE).all())


def _ramp(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)
