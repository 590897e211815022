"""Answers that are serialised once and sent as often as they are asked for."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb

from pba_service.serving import convert, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.parameters import ParametersAnswer
    from pba_service.engine.subscriptions import Update

MAX_LINKS = 100_000
"""Links whose answers are kept, about 500 bytes each."""

MAX_PLANS = 100_000
"""Different questions about transport parameters whose answers are kept, about 1 KB each."""

MAX_ASK_BYTES = 512
"""The longest question whose answer is kept: what a message holds beyond the contract must not fill the memory."""

PLAN_FOR_S = (120.0, 240.0)
"""How long a plan is given again to who asks the same, at most: drawn by lot in between, since plans that were made
together would otherwise end together, and making them takes much longer than giving them again. A sample
of its link makes a new prediction and so a new plan at once, wherever it was pushed, and so does an outcome, wherever
it was reported."""

UPDATES_KEPT = 16
"""Messages of streams that are kept, about 150 KB each at most: subscribers that get the same get it at one time."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A `GetOptimalParametersResponse` that lacks `apply_at`, and what it rests on.

    Attributes:
        prediction: The prediction.
        heard: What `Store.outcomes_heard` said before it was made.
        until_s: Until when it may be given, in Unix seconds.
        apply_at_ms: When to change over; what is past by then means at once.
        answer: The message.
    """

    prediction: Prediction
    heard: int
    until_s: float
    apply_at_ms: int
    answer: bytes

    def as_of(self, now_s: float) -> bytes:
        """The whole message at a time."""
        apply_at = convert.timestamp(max(self.apply_at_ms, int(now_s * 1000)))
        return self.answer + pb.GetOptimalParametersResponse(apply_at=apply_at).SerializeToString()


class ReadyAnswers:
    """The newest answers for each link, as bytes, and the messages of streams that are made of them."""

    def __init__(
        self,
        max_links: int = MAX_LINKS,
        max_plans: int = MAX_PLANS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keeps answers for so many links, and so many plans; `clock` gives seconds since the epoch."""
        self._max_links = max_links
        self._clock = clock
        self._max_plans = max_plans
        self._plans: dict[bytes, _Planned] = {}
        self._answers: dict[str, tuple[Prediction, bytes]] = {}
        self._joined: dict[tuple[int, ...], tuple[list[Prediction], bytes]] = {}

    def answer(self, prediction: Prediction) -> bytes:
        """A `PredictResponse` with this prediction and nothing else."""
        known = self._answers.get(prediction.link_id)
        if known is not None and known[0] is prediction:
            return known[1]
        if known is None and len(self._answers) >= self._max_links:
            self._answers.clear()
        written = wire.predict_response(prediction)
        self._answers[prediction.link_id] = prediction, written
        return written

    def update(self, update: Update) -> bytes:
        """A `StreamPredictionsResponse`.

        `PredictResponse.prediction` and `StreamPredictionsResponse.predictions` have the same number, so that an answer
        is an entry, and messages put one behind the other are the message of both.
        """
        key = tuple(map(id, update.predictions))
        known = self._joined.get(key)
        if known is None:
            if len(self._joined) >= UPDATES_KEPT:
                del self._joined[next(iter(self._joined))]
            # the predictions are kept too: as long as they live no others have their ids
            known = self._joined[key] = update.predictions, b"".join(map(self.answer, update.predictions))
        rest = pb.StreamPredictionsResponse(
            skipped_updates=update.skipped_updates, snapshot_complete=update.snapshot_complete
        )
        return known[1] + rest.SerializeToString()

    def plan(self, ask: bytes, prediction: Prediction | None, heard: int) -> bytes | None:
        """What was answered to the same question about the same prediction before.

        Args:
            ask: The question, serialised, the link included.
            prediction: The link's prediction now, if it is known.
            heard: What `Store.outcomes_heard` says of the link now.
        """
        planned = self._plans.get(ask)
        if planned is None or prediction is None or planned.prediction is not prediction or planned.heard != heard:
            return None
        now_s = self._clock()
        return planned.as_of(now_s) if now_s < planned.until_s else None

    def keep_plan(self, ask: bytes, answer: ParametersAnswer, heard: int) -> bytes:
        """A `GetOptimalParametersResponse`, kept to be given again if it rests on a prediction.

        Args:
            ask: The question, serialised, the link included.
            answer: The answer.
            heard: What `Store.outcomes_heard` said of the link before the answer was looked for.
        """
        message, now_s = convert.parameters(answer), self._clock()
        until_s = min(now_s + random.uniform(*PLAN_FOR_S), answer.holds_until_ms / 1000)  # noqa: S311 - no secret
        if (
            answer.prediction is None
            or answer.prediction.stale_since_ms is not None
            or until_s <= now_s
            or len(ask) > MAX_ASK_BYTES
        ):
            return message.SerializeToString()
        message.ClearField("apply_at")
        planned = _Planned(answer.prediction, heard, until_s, answer.apply_at_ms, message.SerializeToString())
        self._plans.pop(ask, None)
        if len(self._plans) >= self._max_plans:
            del self._plans[next(iter(self._plans))]
        self._plans[ask] = planned
        return planned.as_of(now_s)
