"""Answers that are serialised once and sent as often as they are asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb

from pba_service.serving import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_service.domain.forecast import Prediction
    from pba_service.domain.parameters import ParametersAnswer
    from pba_service.engine.subscriptions import Update

MAX_LINKS = 100_000
"""Links whose answers are kept, about 500 bytes each."""

MAX_ASKS = 16
"""Different questions about one link whose answers are kept."""

PLAN_FOR_S = 5.0
"""How long a plan for a prediction is given again to who asks the same. A sample of its link makes a new prediction and
so a new plan at once, wherever it was pushed; an outcome that another replica was told of counts after this time."""

UPDATES_KEPT = 16
"""Messages of streams that are kept, about 150 KB each at most: subscribers that get the same get it at one time."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A `GetOptimalParametersResponse`, the prediction it rests on, and until when it may be given (Unix seconds)."""

    prediction: Prediction
    until_s: float
    answer: bytes


class ReadyAnswers:
    """The newest answers for each link, as bytes, and the messages of streams that are made of them."""

    def __init__(self, max_links: int = MAX_LINKS, clock: Callable[[], float] = time.time) -> None:
        """Keeps answers for so many links; `clock` gives seconds since the epoch."""
        self._max_links = max_links
        self._clock = clock
        self._plans: dict[str, dict[bytes, _Planned]] = {}
        self._answers: dict[str, tuple[Prediction, bytes]] = {}
        self._joined: dict[tuple[int, ...], tuple[list[Prediction], bytes]] = {}

    def answer(self, prediction: Prediction) -> bytes:
        """A `PredictResponse` with this prediction and nothing else."""
        known = self._answers.get(prediction.link_id)
        if known is not None and known[0] is prediction:
            return known[1]
        if known is None and len(self._answers) >= self._max_links:
            self._answers.clear()
        written = pb.PredictResponse(prediction=convert.prediction(prediction)).SerializeToString()
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

    def plan(self, link_id: str, ask: bytes, prediction: Prediction | None) -> bytes | None:
        """What was answered to the same question about the same prediction a moment ago.

        Args:
            link_id: The link.
            ask: The question, serialised.
            prediction: The link's prediction now, if it is known.
        """
        planned = self._plans.get(link_id, {}).get(ask) if prediction is not None else None
        if planned is None or planned.prediction is not prediction or planned.until_s < self._clock():
            return None
        return planned.answer

    def keep_plan(self, link_id: str, ask: bytes, answer: ParametersAnswer) -> bytes:
        """A `GetOptimalParametersResponse`, kept to be given again if it rests on a prediction."""
        written = convert.parameters(answer).SerializeToString()
        if answer.prediction is None or answer.prediction.stale_since_ms is not None:
            return written
        plans = self._plans.setdefault(link_id, {})
        if len(plans) >= MAX_ASKS and ask not in plans:
            plans.clear()
        if len(self._plans) > self._max_links:
            self._plans.clear()
        until_s = min(self._clock() + PLAN_FOR_S, answer.valid_until_ms / 1000)
        plans[ask] = _Planned(answer.prediction, until_s, written)
        return written

    def forget_plans(self, link_id: str) -> None:
        """Plans anew what is asked about a link next."""
        self._plans.pop(link_id, None)
