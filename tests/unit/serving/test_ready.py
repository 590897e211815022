"""An answer is serialised once for each prediction."""

import itertools
from dataclasses import replace

import pytest
from pba.v1 import prediction_service_pb2 as pb

from pba_service.domain.amst.optimizer import defaults
from pba_service.domain.parameters import ParameterReason, ParametersAsk, ParametersSource, TransportBounds, answer
from pba_service.engine.subscriptions import Update
from pba_service.serving import convert
from pba_service.serving.ready import MAX_ASK_BYTES, PLAN_FOR_S, UPDATES_KEPT, ReadyAnswers
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
    """The same question about the same prediction is answered once, as long as nothing else changes the answer."""

    NOW_S = 1_000.0
    HEARD = 3

    @pytest.fixture
    def ready(self):
        self.now_s = self.NOW_S
        return ReadyAnswers(max_plans=4, clock=lambda: self.now_s)

    def planned(self, made, holds_s=900.0, apply_in_s=0.0):
        return answer(
            defaults(ParametersAsk("a"), TransportBounds()),
            (ParameterReason.BANDWIDTH,),
            source=ParametersSource.PREDICTION,
            should_adjust=True,
            apply_at_ms=int((self.NOW_S + apply_in_s) * 1000),
            valid_until_ms=int((self.NOW_S + 900) * 1000),
            prediction=made,
            holds_until_ms=int((self.NOW_S + holds_s) * 1000),
        )

    def read(self, written):
        return pb.GetOptimalParametersResponse.FromString(written)

    def test_it_is_given_again_while_it_holds(self, ready):
        made = prediction("a")
        written = ready.keep_plan(b"ask", self.planned(made), self.HEARD)
        assert self.read(written) == convert.parameters(self.planned(made))
        assert ready.plan(b"ask", made, self.HEARD) == written
        self.now_s += PLAN_FOR_S[1]
        assert ready.plan(b"ask", made, self.HEARD) is None

    def test_what_is_to_be_changed_at_once_is_so_whenever_it_is_given(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", self.planned(made), self.HEARD)
        self.now_s += 25.25
        given = self.read(ready.plan(b"ask", made, self.HEARD))
        assert given.apply_at == convert.timestamp(int((self.NOW_S + 25.25) * 1000))
        expected = convert.parameters(self.planned(made))
        expected.apply_at.CopyFrom(given.apply_at)
        assert given == expected

    def test_what_is_to_be_changed_later_stays_so_until_it_is_time(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", self.planned(made, apply_in_s=20), self.HEARD)
        for passed_s, apply_in_s in ((10, 20), (21, 21)):
            self.now_s = self.NOW_S + passed_s
            given = self.read(ready.plan(b"ask", made, self.HEARD))
            assert given.apply_at == convert.timestamp(int((self.NOW_S + apply_in_s) * 1000))

    def test_plans_made_at_one_time_do_not_end_at_one_time(self):
        self.now_s = self.NOW_S
        ready, made = ReadyAnswers(clock=lambda: self.now_s), prediction("a")
        asks = [str(i).encode() for i in range(100)]
        for ask in asks:
            ready.keep_plan(ask, self.planned(made), self.HEARD)
        left = []
        for _ in range(10):
            left.append(sum(ready.plan(ask, made, self.HEARD) is not None for ask in asks))
            self.now_s += PLAN_FOR_S[1] / 10
        assert left[:5] == [100] * 5
        assert all(most - least <= 40 for most, least in itertools.pairwise(left))

    def test_it_is_not_given_to_another_question_or_for_another_prediction(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", self.planned(made), self.HEARD)
        assert ready.plan(b"another", made, self.HEARD) is None
        assert ready.plan(b"ask", prediction("a"), self.HEARD) is None
        assert ready.plan(b"ask", None, self.HEARD) is None

    def test_a_question_full_of_what_nobody_knows_is_answered_and_not_kept(self, ready):
        made = prediction("a")
        longest = pb.GetOptimalParametersRequest(link_id="x" * 128, current_streams=2**32 - 1).SerializeToString()
        for ask, is_kept in ((longest, True), (bytes(MAX_ASK_BYTES + 1), False)):
            assert self.read(ready.keep_plan(ask, self.planned(made), self.HEARD)).prediction
            assert (ready.plan(ask, made, self.HEARD) is not None) == is_kept

    def test_it_is_not_given_beyond_its_own_time(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", self.planned(made, holds_s=1.0), self.HEARD)
        self.now_s += 0.5
        assert ready.plan(b"ask", made, self.HEARD) is not None
        self.now_s += 0.5
        assert ready.plan(b"ask", made, self.HEARD) is None

    def test_an_outcome_makes_a_new_plan(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", self.planned(made), self.HEARD)
        assert ready.plan(b"ask", made, self.HEARD + 1) is None

    @pytest.mark.parametrize("made", [None, replace(prediction("a"), stale_since_ms=1)], ids=["none", "stale"])
    def test_what_rests_on_no_fresh_prediction_is_planned_anew(self, ready, made):
        written = ready.keep_plan(b"ask", self.planned(made), self.HEARD)
        assert self.read(written) == convert.parameters(self.planned(made))
        assert ready.plan(b"ask", made, self.HEARD) is None

    def test_what_could_not_be_asked_in_full_is_planned_anew(self, ready):
        made = prediction("a")
        ready.keep_plan(b"ask", replace(self.planned(made), holds_until_ms=0), self.HEARD)
        assert ready.plan(b"ask", made, self.HEARD) is None

    def test_the_oldest_make_room(self, ready):
        made = prediction("a")
        for number in range(6):
            ready.keep_plan(b"%d" % (number % 5), self.planned(made), self.HEARD)
        given = [ready.plan(b"%d" % number, made, self.HEARD) is not None for number in range(5)]
        assert given == [True, False, True, True, True]
