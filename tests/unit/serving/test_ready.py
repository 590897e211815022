"""An answer is serialised once for each prediction."""

from dataclasses import replace

from pba.v1 import prediction_service_pb2 as pb

from pba_service.serving import convert
from pba_service.serving.ready import ReadyAnswers
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
