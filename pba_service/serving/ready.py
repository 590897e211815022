"""Answers that are serialised once and sent as often as they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb

from pba_service.serving import convert

if TYPE_CHECKING:
    from pba_service.domain.forecast import Prediction
    from pba_service.engine.subscriptions import Update

MAX_LINKS = 100_000
"""Links whose answers are kept, about 500 bytes each."""


UPDATES_KEPT = 16
"""Messages of streams that are kept, about 150 KB each at most: subscribers that get the same get it at one time."""


class ReadyAnswers:
    """The newest answer of `Predict` for each link, as bytes, and the messages of streams that are made of them."""

    def __init__(self, max_links: int = MAX_LINKS) -> None:
        """Keeps answers for so many links."""
        self._max_links = max_links
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
