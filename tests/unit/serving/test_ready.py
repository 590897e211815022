"""An answer is serialised once for each prediction."""

from dataclasses import replace

import pytest
from pba.v1 import prediction_service_pb2 as pb

from pba_service.domain.amst.optimizer import defaults
from pba_service.domain.parameters import ParameterReason, ParametersAsk, ParametersSource, TransportBounds, answer
from pba_service.engine.subscriptions import Update
from pba_service.serving import convert
from pba_service.serving.ready import MAX_ASKS, PLAN_FOR_S, UPDATES_KEPT, ReadyAnswers
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


class TestPlans:
    """The same question about the same prediction is answered once, for a few seconds."""

    NOW_S = 1_000.0

    @pytest.fixture
    def ready(self):
        self.now_s = self.NOW_S
        return ReadyAnswers(clock=lambda: self.now_s)

    def planned(self, made, valid_s=900.0):
        return answer(
            defaults(ParametersAsk("a"), TransportBounds()),
            (ParameterReason.BANDWIDTH,),
            source=ParametersSource.PREDICTION,
            should_adjust=True,
            apply_at_ms=int(self.NOW_S * 1000),
            valid_until_ms=int((self.NOW_S + valid_s) * 1000),
            prediction=made,
        )

    def test_it_is_given_again_while_it_holds(self, ready):
        made = prediction("a")
        written = ready.keep_plan("a", b"ask", self.planned(made))
        assert pb.GetOptimalParametersResponse.FromString(written) == convert.parameters(self.planned(made))
        assert ready.plan("a", b"ask", made) is written
        self.now_s += PLAN_FOR_S + 0.001
        assert ready.plan("a", b"ask", made) is None

    def test_it_is_not_given_to_another_question_or_for_another_prediction(self, ready):
        made = prediction("a")
        ready.keep_plan("a", b"ask", self.planned(made))
        assert ready.plan("a", b"another", made) is None
        assert ready.plan("b", b"ask", made) is None
        assert ready.plan("a", b"ask", prediction("a")) is None
        assert ready.plan("a", b"ask", None) is None

    def test_it_is_not_given_beyond_its_own_time(self, ready):
        made = prediction("a")
        ready.keep_plan("a", b"ask", self.planned(made, valid_s=1.0))
        self.now_s += 1.5
        assert ready.plan("a", b"ask", made) is None

    def test_an_outcome_makes_a_new_plan(self, ready):
        made = prediction("a")
        ready.keep_plan("a", b"ask", self.planned(made))
        ready.forget_plans("a")
        assert ready.plan("a", b"ask", made) is None

    @pytest.mark.parametrize("made", [None, replace(prediction("a"), stale_since_ms=1)], ids=["none", "stale"])
    def test_what_rests_on_no_fresh_prediction_is_planned_anew(self, ready, made):
        ready.keep_plan("a", b"ask", self.planned(made))
        assert ready.plan("a", b"ask", made) is None

    def test_there_is_a_bound_on_the_questions_of_a_link(self, ready):
        made = prediction("a")
        for number in range(MAX_ASKS + 1):
            ready.keep_plan("a", b"%d" % number, self.planned(made))
        assert ready.plan("a", b"0", made) is None
        assert ready.plan("a", b"%d" % MAX_ASKS, made) is not None
