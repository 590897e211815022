"""Answers that are serialised once and sent as often as they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb

from pba_service.serving import convert

if TYPE_CHECKING:
    from pba_service.domain.forecast import Prediction

MAX_LINKS = 100_000
"""Links whose answers are kept, about 500 bytes each."""


class ReadyAnswers:
    """The newest answer of `Predict` for each link, as bytes."""

    def __init__(self, max_links: int = MAX_LINKS) -> None:
        """Keeps answers for so many links."""
        self._max_links = max_links
        self._answers: dict[str, tuple[Prediction, bytes]] = {}

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
