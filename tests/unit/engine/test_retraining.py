"""Retraining, as replicas share it: one run at a time, triggers, offers, and what becomes of runs that die."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.errors import ModelConflictError, ModelUnknownError
from pba_service.domain.experiments import Kind
from pba_service.domain.experiments import Record as Trial
from pba_service.domain.retraining import (
    DRIFT_PAUSE_MS,
    LEASE_MS,
    RETRY_MS,
    LeaseLostError,
    Outcome,
    Phase,
    Record,
    Trigger,
)
from pba_service.domain.retraining import Record as RetrainingRecord
from pba_service.engine.retraining import Retraining
from pba_service.engine.retraining_record import Lease, RetrainingRecords
from tests.fakes import MemoryDocuments

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Clock:
    def __init__(self):
        self.now_ms = 1_800_000_000_000

    def __call__(self):
        return self.now_ms


class FakeTrainer:
    """Starts nothing; a test ends what it was told to start."""

    def __init__(self, absent=""):
        self.absent, self.launched, self.code, self.tidied, self.failure = absent, [], None, 0, None

    def launch(self, run):
        if self.failure:
            raise self.failure
        self.launched.append(run)

    def ended(self):
        code, self.code = self.code, None
        return code

    def tidy(self):
        self.tidied += 1

    async def stop(self):
        self.code = -15


class FakeModels:
    """Prepares and tries versions; `refusal` and `conflict` make it refuse."""

    def __init__(self):
        self.trials, self.refusal, self.conflict = [], None, None

    async def prepare(self, version):
        if self.refusal:
            raise self.refusal

    async def known(self):
        return [(one, None) for one in self.trials]

    async def start(self, challenger, *, champion="", share=0.0):
        if self.conflict:
            raise self.conflict
        assert share == 0
        self.trials.append(Trial(f"trial-{challenger}", Kind.TRIAL, "champion", challenger, share, 0, 0))
        return self.trials[-1]


class FakeMetrics:
    def look(self, record, due_at_ms, interval_ms):
        self.record, self.due_at_ms, self.interval_ms = record, due_at_ms, interval_ms


class World:
    """Replicas that share documents and a clock."""

    def __init__(self):
        self.clock, self.documents, self.shifted_ratio = Clock(), MemoryDocuments(), 0.0
        self.records = RetrainingRecords(self.documents, self.clock)

    def replica(self, name="r1", *, absent="", interval_ms=DAY_MS, drift_ratio=0.2):
        one = Retraining(
            records=self.records,
            models=(models := FakeModels()),
            challenges=models,
            trainer=(trainer := FakeTrainer(absent)),
            shifted_ratio=lambda: self.shifted_ratio,
            metrics=(metrics := FakeMetrics()),
            clock=self.clock,
            replica=name,
            interval_ms=interval_ms,
            drift_ratio=drift_ratio,
        )
        one.models, one.trainer, one.metrics = models, trainer, metrics
        return one

    async def finish(self, outcome=Outcome.TRAINED, version="v2", reason=""):
        """What the launched process does in the end."""
        run = (await self.records.read()).run
        lease = await Lease.resume(self.records, run.token, self.clock)
        await lease.end(outcome, version=version if outcome is Outcome.TRAINED else "", reason=reason)


@pytest.fixture
def world():
    return World()


async def test_nothing_runs_before_an_interval_has_passed_and_then_one_run_for_all_replicas(world):
    first, second = world.replica("r1"), world.replica("r2")
    for one in (first, second):
        await one.turn()
    assert first.metrics.due_at_ms == world.clock() + DAY_MS
    world.clock.now_ms += DAY_MS
    for one in (first, second, first):
        await one.turn()
    assert [len(first.trainer.launched), len(second.trainer.launched)] == [1, 0]
    run = first.trainer.launched[0]
    assert (run.trigger, run.from_scratch, run.holder) == (Trigger.INTERVAL, False, "r1")


async def test_what_was_trained_is_tried_once_and_the_next_is_due_an_interval_later(world):
    first, second = world.replica("r1"), world.replica("r2")
    await first.turn()
    await first.ask()
    await first.turn()
    world.clock.now_ms += 5_000
    await world.finish()
    for one in (second, first, second):
        await one.turn()
    assert len(first.models.trials) + len(second.models.trials) == 1
    assert (await first.status()).run.experiment == "trial-v2"
    assert first.metrics.due_at_ms == world.clock() + DAY_MS
    assert first.metrics.record.trained_at_ms == world.clock()


async def test_an_offer_that_nobody_could_note_is_not_made_again(world):
    one = world.replica()
    await one.ask()
    await one.turn()
    await world.finish()
    one.models.trials.append(Trial("trial-by-another", Kind.TRIAL, "champion", "v2", 0.0, 0, 0))
    await one.turn()
    assert (await one.status()).run.experiment == "trial-by-another"
    assert len(one.models.trials) == 1


async def test_an_offer_waits_while_there_is_no_room_for_one_more_experiment(world):
    one = world.replica()
    await one.ask()
    await one.turn()
    await world.finish()
    one.models.conflict = ModelConflictError("champion is in two experiments already")
    await one.turn()
    assert (await one.status()).run.offered
    one.models.conflict = None
    await one.turn()
    assert (await one.status()).run.experiment == "trial-v2"


@pytest.mark.parametrize("refusal", [ModelConflictError("v2: its golden windows disagree"), ModelUnknownError("v2")])
async def test_a_model_that_cannot_be_loaded_is_told_and_not_tried(world, refusal):
    one = world.replica()
    await one.ask()
    await one.turn()
    await world.finish()
    one.models.refusal = refusal
    await one.turn()
    run = (await one.status()).run
    assert (run.outcome, run.reason) == (Outcome.REFUSED, str(refusal))
    assert one.models.trials == []
    assert dict(one.metrics.record.ended) == {"refused": 1, "trained": 0}


@pytest.mark.parametrize("content", [b"{}", b"[" * 100_000, b'{"since_ms": 1e999}', b'{"run": {"x": 1}}', b"\xff"])
async def test_a_record_that_none_of_us_wrote_counts_as_none(world, content):
    await world.documents.write("retraining", content, read_version=0)
    assert await world.records.read() == RetrainingRecord(since_ms=world.clock())
    one = world.replica()
    await one.turn()
    world.clock.now_ms += DAY_MS
    await one.turn()
    assert len(one.trainer.launched) == 1
    assert (await world.records.read()).run.holder == "r1"


async def test_many_shifted_links_begin_one_run_from_scratch(world):
    one = world.replica()
    await one.turn()
    world.shifted_ratio = 0.19
    await one.turn()
    assert one.trainer.launched == []
    world.shifted_ratio = 0.2
    await one.turn()
    [run] = one.trainer.launched
    assert (run.trigger, run.from_scratch) == (Trigger.DRIFT, True)
    await world.finish()
    world.clock.now_ms += DRIFT_PAUSE_MS - 1
    await one.turn()
    assert len(one.trainer.launched) == 1
    world.clock.now_ms += 1
    await one.turn()
    assert len(one.trainer.launched) == 2


async def test_neither_interval_nor_drift_begin_anything_where_they_are_off(world):
    one = world.replica(interval_ms=0, drift_ratio=0)
    world.shifted_ratio = 1.0
    world.clock.now_ms += 400 * DAY_MS
    await one.turn()
    assert one.trainer.launched == []
    assert one.metrics.due_at_ms == 0


async def test_a_replica_without_the_extra_trains_nothing_but_offers_what_others_trained(world):
    one = world.replica(absent="training needs keras")
    world.clock.now_ms += DAY_MS
    await one.turn()
    assert one.trainer.launched == []
    assert one.metrics.due_at_ms == 0  # nobody trains: nothing can be overdue
    with pytest.raises(ModelConflictError, match="training needs keras"):
        await one.ask()
    await Lease.begin(world.records, "a job", Trigger.HAND, world.clock, from_scratch=False)
    await world.finish()
    await one.turn()
    assert one.models.trials[0].challenger == "v2"
    assert one.metrics.due_at_ms == world.clock() + DAY_MS


async def test_a_run_is_not_asked_for_while_one_goes_on(world):
    one = world.replica()
    await one.ask(from_scratch=True)
    await one.turn()
    assert one.trainer.launched[0].from_scratch
    with pytest.raises(ModelConflictError, match="is going on"):
        await one.ask()


async def test_a_process_that_was_killed_is_told_at_once_and_the_next_run_waits(world):
    one = world.replica(interval_ms=8 * HOUR_MS)
    world.clock.now_ms += 1
    await one.turn()
    world.clock.now_ms += 8 * HOUR_MS
    await one.turn()
    tidied = one.trainer.tidied
    one.trainer.code = -9
    await one.turn()
    run = (await one.status()).run
    assert run.outcome is Outcome.FAILED
    assert "-9" in run.reason
    assert one.trainer.tidied > tidied
    assert one.metrics.due_at_ms <= world.clock()  # overdue: a failure does not move it
    world.clock.now_ms += RETRY_MS - 1
    await one.turn()
    assert len(one.trainer.launched) == 1
    world.clock.now_ms += 1
    await one.turn()
    assert len(one.trainer.launched) == 2


async def test_a_process_that_cannot_be_started_is_told(world):
    one = world.replica()
    one.trainer.failure = OSError(28, "No space left on device")
    await one.ask()
    await one.turn()
    run = (await one.status()).run
    assert (run.outcome, run.reason) == (Outcome.FAILED, "cannot be started: No space left on device")


async def test_a_run_of_a_replica_that_died_is_over_once_its_lease_is(world):
    dead, living = world.replica("dead"), world.replica("living")
    await dead.ask()
    await dead.turn()
    world.clock.now_ms += LEASE_MS
    await living.turn()
    assert (await living.status()).run.running
    world.clock.now_ms += 1
    await living.turn()
    assert (await living.status()).run.outcome is Outcome.FAILED


async def test_too_little_data_is_no_failure(world):
    one = world.replica()
    await one.ask()
    await one.turn()
    await world.finish(Outcome.TOO_LITTLE_DATA, reason="no link has 600 samples")
    await one.turn()
    assert one.metrics.due_at_ms == world.clock() + DAY_MS
    assert one.metrics.record.trained_at_ms == 0


async def test_a_run_that_lost_its_lease_names_no_model(world):
    slow = await Lease.begin(world.records, "slow", Trigger.HAND, world.clock, from_scratch=False)
    with pytest.raises(ModelConflictError):
        await Lease.begin(world.records, "other", Trigger.HAND, world.clock, from_scratch=False)
    world.clock.now_ms += LEASE_MS + 1
    other = await Lease.begin(world.records, "other", Trigger.HAND, world.clock, from_scratch=False)
    assert other.run.token > slow.run.token
    for step in (slow.beat(phase=Phase.TRAINING), slow.end(Outcome.TRAINED, version="late")):
        with pytest.raises(LeaseLostError):
            await step
    with pytest.raises(LeaseLostError):
        await Lease.resume(world.records, slow.run.token, world.clock)
    await other.end(Outcome.TRAINED, version="v3")
    record = await world.records.read()
    assert (record.run.version, dict(record.ended)) == ("v3", {"failed": 1, "trained": 1})


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "beat", "end", "later"]), st.integers(0, 2), st.integers(0, 2 * LEASE_MS))
    )
)
def test_whatever_happens_one_run_at_most_holds_the_lease(steps):
    record, now_ms, tokens, named = Record(since_ms=1), 1, [0, 0, 0], []
    for what, who, wait_ms in steps:
        before = record.run.token if record.run else 0
        try:
            if what == "begin":
                record = record.begun(f"r{who}", Trigger.HAND, now_ms, from_scratch=False)
                tokens[who] = record.run.token
                assert tokens[who] == before + 1
            elif what == "beat":
                record = record.heard(tokens[who], now_ms)
            elif what == "end":
                record = record.finished(tokens[who], Outcome.TRAINED, now_ms, version=f"m{tokens[who]}")
                named.append(tokens[who])
            else:
                now_ms += wait_ms
        except LeaseLostError:
            assert not record.run or tokens[who] != before or not record.run.running
        except ModelConflictError:
            assert record.run.running
            assert not record.run.dead(now_ms)
    assert named == sorted(set(named))  # each run names one model at most, and never after a later one
    assert Record.decode(record.encode()) == record


async def test_after_a_refused_model_the_next_run_is_due_an_hour_later(world):
    one = world.replica()
    await one.turn()
    world.clock.now_ms += DAY_MS
    await one.turn()
    await world.finish()
    one.models.refusal = ModelConflictError("v2: its golden windows disagree")
    await one.turn()
    assert (await one.status()).run.outcome is Outcome.REFUSED
    one.models.refusal = None
    world.clock.now_ms += RETRY_MS
    await one.turn()
    assert len(one.trainer.launched) == 2


@pytest.mark.parametrize(("by_hand", "begins_again"), [(True, True), (False, False)])
async def test_a_run_that_somebody_asked_for_begins_anew_elsewhere_when_its_replica_stops(world, by_hand, begins_again):
    one, two = world.replica("r1"), world.replica("r2")
    await one.turn()
    if by_hand:
        await one.ask(from_scratch=True)
    else:
        world.clock.now_ms += DAY_MS
    await one.turn()
    assert len(one.trainer.launched) == 1
    await world.finish(Outcome.STOPPED)  # which its process says of itself
    await one.stop()
    assert (await two.status()).asked == begins_again
    await two.turn()
    assert [run.from_scratch for run in two.trainer.launched] == ([True] if by_hand else [False])


async def test_a_store_that_is_away_does_not_keep_a_replica_from_ending(world):
    one = world.replica()
    await one.ask()
    await one.turn()
    world.documents.away = True
    await one.stop()
    assert one.trainer.code == -15
