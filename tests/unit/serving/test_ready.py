"""An answer is serialised once for each prediction."""

from dataclasses import replace

from pba.v1 import prediction_service_pb2 as pb

from pba_service.engine.subscriptions import Update
from pba_service.serving import convert
from pba_service.serving.ready import UPDATES_KEPT, ReadyAnswers
from tests.conformance.tools import prediction


def test_an_answer_says_what_the_message_would():
    made = prediction("a")
    assert pb.PredictResponse.FromString(ReadyAnswers().answer(made)) == pb.PredictResponse(
        prediction=convert.prediction(made)
    )


def test_the_same_prediction_gives_the_same_bytes_and_another_one_others():
    ready, made = ReadyAnswers(), prediction("a")
    first = ready.answer(made)
    assert ready.answer(made) is first
    newer = replace(made, confidence=0.25)
    assert pb.PredictResponse.FromString(ready.answer(newer)).prediction.confidence == 0.25
    assert ready.answer(made) == first


def test_there_is_a_bound_on_what_is_kept():
    ready = ReadyAnswers(max_links=2)
    made = [prediction(link_id) for link_id in "abc"]
    first = [ready.answer(one) for one in made]
    assert ready.answer(made[2]) is first[2]
    assert ready.answer(made[0]) == first[0]


def test_an_update_says_what_the_message_would():
    made = [prediction(link_id) for link_id in "abc"]
    for skipped, complete in ((0, False), (3, True)):
        told = pb.StreamPredictionsResponse.FromString(ReadyAnswers().update(Update(made, skipped, complete)))
        assert told == pb.StreamPredictionsResponse(
            predictions=map(convert.prediction, made), skipped_updates=skipped, snapshot_complete=complete
        )


def update_of(predictions):
    return Update(predictions, skipped_updates=0, snapshot_complete=True)


class Counting(ReadyAnswers):
    """Notes which predictions are put into a message."""

    def __init__(self):
        super().__init__()
        self.written = []

    def answer(self, prediction):
        self.written.append(prediction.link_id)
        return super().answer(prediction)


def test_an_update_is_written_once_for_all_who_get_the_same():
    ready = Counting()
    made = [prediction(link_id) for link_id in "abc"]
    first = ready.update(update_of(made))
    for _ in range(5):
        assert ready.update(update_of(list(made))) == first
    assert ready.written == ["a", "b", "c"]
    ready.update(update_of([made[0], prediction("d")]))
    assert ready.written == ["a", "b", "c", "a", "d"]


def test_there_is_a_bound_on_the_updates_that_are_kept():
    ready = ReadyAnswers()
    updates = [update_of([prediction(str(i))]) for i in range(3 * UPDATES_KEPT)]
    first = [ready.update(update) for update in updates]
    assert [ready.update(update) for update in updates] == first
