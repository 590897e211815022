"""Experiments over several replicas: counted once, decided once, acted on once, whoever dies in between."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pba_service.domain import trials
from pba_service.domain.errors import ModelConflictError, ModelUnknownError, StoreUnavailableError
from pba_service.domain.experiments import PERIOD_MS, Kind, Record, Rule, Status, decode_tally
from pba_service.domain.lifecycle import Desired, Pin, Scope
from pba_service.engine.experiments import PREFIX, ExperimentOptions, Experiments
from pba_service.engine.stock import Known
from pba_service.observability.metrics import Metrics
from tests.fakes import Clock, LastValueModel, MemoryDocuments

MINUTE_MS = 60_000
START_MS = 500_000 * PERIOD_MS


class Shared:
    """What all replicas share of models."""

    def __init__(self, desired):
        self.desired, self.loadable, self.fail = desired, {"old", "new", "other"}, False
        self.made = {}


class Models:
    """One replica's view of it (`engine.experiments.ModelChanges`)."""

    def __init__(self, shared):
        self.shared = shared

    @property
    def desired(self):
        return self.shared.desired

    async def change(self, step):
        if self.shared.fail:
            raise StoreUnavailableError
        self.shared.desired = step(self.shared.desired)
        return self.shared.desired

    async def known(self):
        info = LastValueModel().info
        return [
            Known(replace(info, version=version, created_at_ms=made), loaded=True, local="", published=True, refused="")
            for version, made in self.shared.made.items()
        ]

    async def prepare(self, version):
        if version not in self.shared.loadable:
            raise ModelUnknownError(f"model {version!r}")


class World:
    def __init__(self, replicas=1, *, automatic=True, desired=None, rule=None):
        self.shared = Shared(desired or Desired(revision=1, active="old"))
        self.documents, self.clock = MemoryDocuments(), Clock(START_MS)
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, 10)
        self.replicas = [
            Experiments(
                models=Models(self.shared),
                documents=self.documents,
                options=ExperimentOptions(f"r{i}", rule or Rule(), automatic=automatic, settle_s=0.0),
                clock=self.clock,
                metrics=metrics,
            )
            for i in range(replicas)
        ]

    @property
    def first(self):
        return self.replicas[0]

    def hour(self, number, *, better, links=("a", "b"), only=None):
        """Each replica settles the pairs of its links of one hour; `better` is what the challenger errs less."""
        for i, replica in enumerate(self.replicas):
            if only is not None and i != only:
                continue
            mine = [link for j, link in enumerate(links) if only is not None or j % len(self.replicas) == i]
            for one in self.shared.desired.experiments:
                replica.settled([pairs(link, one, number, better) for link in mine])

    async def turns(self, count=2):
        for _ in range(count):
            for replica in self.replicas:
                await replica.turn()

    def record(self, name):
        return Record.decode(self.documents.documents[PREFIX + name][1])


def pairs(link, experiment, number, better):
    target = START_MS + number * PERIOD_MS + MINUTE_MS * np.arange(60, dtype=np.int64)
    met = np.zeros(60, trials.PAIR)
    met["experiment"] = experiment.key
    met["tolerance_ms"] = MINUTE_MS // 2
    met["made_at_ms"], met["target_ms"] = target - 15 * MINUTE_MS, target
    actual = np.full((60, 4), 10.0, np.float32)
    met["last"] = actual + 2
    met["champion"] = actual + 2
    met["challenger"] = actual + 2 * (1 - better)
    return trials.Settled(link, trials.Met(met, actual))


async def test_a_better_challenger_is_promoted_and_then_watched():
    world = World()
    record = await world.first.start("new")
    assert (record.champion, record.challenger, record.kind) == ("old", "new", Kind.TRIAL)
    for number in range(25):
        world.hour(number, better=0.3)
        await world.turns(1)
        if world.shared.desired.active == "new":
            break
    await world.turns(1)
    assert world.record(record.name).status is Status.PROMOTED
    desired = world.shared.desired
    assert (desired.active, desired.previous) == ("new", ("old",))
    [watch] = desired.experiments
    assert (watch.champion, watch.challenger, watch.name.split("-")[0]) == ("new", "old", "watch")
    assert world.registry.get_sample_value("dwcp_pba_experiments_total", {"kind": "trial", "status": "promoted"}) == 1


async def test_a_worse_challenger_is_rejected_and_nothing_else_changes():
    world = World()
    record = await world.first.start("new")
    for number in range(25):
        world.hour(number, better=-0.3)
        await world.turns(1)
    assert world.record(record.name).status is Status.REJECTED
    assert (world.shared.desired.active, world.shared.desired.experiments) == ("old", ())


async def test_an_equal_challenger_goes_on_and_expires():
    world = World(rule=Rule(max_periods=6))
    record = await world.first.start("new")
    for number in range(9):
        world.hour(number, better=0.0)
        await world.turns(1)
    assert world.record(record.name).status is Status.EXPIRED
    assert world.shared.desired.experiments == ()


async def test_a_version_activated_by_hand_that_is_worse_is_rolled_back_and_not_watched_again():
    world = World()
    await world.turns(1)
    await world.first._models.change(lambda desired: desired.activated("new"))
    await world.turns(1)
    [watch] = world.shared.desired.experiments
    for number in range(30):
        world.hour(number, better=0.3)  # the predecessor is better
        await world.turns(1)
    assert world.record(watch.name).status is Status.PROMOTED
    assert world.shared.desired.active == "old"
    assert world.shared.desired.experiments == ()


async def test_a_new_version_is_watched_though_the_replica_that_began_to_dies_on_the_way():
    world = World(replicas=2)
    await world.turns(1)
    await world.first._models.change(lambda desired: desired.activated("new"))
    written, noted = world.documents.write, []

    async def dies(name, content, *, read_version):
        if not name.startswith(PREFIX) and not noted:
            noted.append(name)
            raise StoreUnavailableError
        return await written(name, content, read_version=read_version)

    world.documents.write = dies
    with pytest.raises(StoreUnavailableError):
        await world.first.turn()
    world.replicas.pop(0)
    await world.turns(2)
    [watch] = world.shared.desired.experiments
    assert (watch.champion, watch.challenger) == ("new", "old")
    # the note was made in the end: a watch that is stopped does not begin again
    await world.first.stop(watch.name)
    await world.turns(2)
    assert world.shared.desired.experiments == ()


async def test_a_watch_that_was_stopped_while_another_replica_got_ready_for_it_does_not_begin_again():
    world = World(replicas=2)
    first, second = world.replicas
    await world.turns(1)
    await first._models.change(lambda desired: desired.activated("new"))

    async def slowly(_version):
        await first.turn()
        [watch] = world.shared.desired.experiments
        await first.stop(watch.name)

    second._models.prepare = slowly
    await second.turn()
    assert world.shared.desired.experiments == ()


async def test_a_replica_that_has_not_heard_of_the_newest_version_does_not_watch_the_one_before():
    world = World(replicas=2)
    await world.turns(1)
    await world.first._models.change(lambda desired: desired.activated("new"))
    late = world.shared.desired
    await world.first._models.change(lambda desired: desired.activated("other"))

    class Behind(Models):
        """Hears of what is desired only when it changes something itself."""

        heard = late

        @property
        def desired(self):
            return self.heard

        async def change(self, step):
            self.heard = await super().change(step)
            return self.heard

    world.replicas[1]._models = Behind(world.shared)
    noted = dict(world.documents.documents)
    await world.replicas[1].turn()
    assert world.shared.desired.experiments == ()
    assert world.documents.documents == noted
    await world.first.turn()
    [watch] = world.shared.desired.experiments
    assert (watch.champion, watch.challenger) == ("other", "new")


async def test_replicas_count_every_pair_once_however_often_they_write():
    world = World(replicas=3)
    record = await world.first.start("new")
    for number in range(4):
        world.hour(number, better=0.1, links=[str(i) for i in range(9)])
        await world.turns(3)
    closed = world.record(record.name).observations
    # the first hour teaches what an error is measured in, the last is not over; 45 targets of each link count
    assert [(period, targets) for period, _, targets in closed] == [
        (500_001, 9 * 45), (500_002, 9 * 45),
    ]  # fmt: skip
    assert [value for _, value, _ in closed] == pytest.approx([0.1, 0.1], abs=1e-6)


@pytest.mark.parametrize("content", [b"{}", b"[" * 100_000, b"\xff", b"null"])
async def test_records_and_counts_that_none_of_us_wrote_are_left_out(content):
    world = World()
    record = await world.first.start("new")
    await world.documents.write(f"{PREFIX}foreign", content, read_version=0)
    await world.documents.set_fields(PREFIX + record.name, {"500001/other": content, "x/y": content, "9" * 99: b"1"})
    for number in range(4):
        world.hour(number, better=0.1)
        await world.turns(3)
    assert [one.name for one, _ in await world.first.known()] == [record.name]
    with pytest.raises(ModelUnknownError):
        await world.first.get("foreign")
    assert [value for _, value, _ in world.record(record.name).observations] == pytest.approx([0.1, 0.1], abs=1e-6)


@pytest.mark.parametrize("field", ["share", "observations", "by_metric", "status"])
def test_an_experiment_whose_numbers_are_none_is_none(field):
    said = json.loads(Record("e", Kind.TRIAL, "a", "b", 0.5, 1, 1, observations=((1, 0.1, 5),)).encode())
    assert Record.decode(json.dumps(said).encode()).observations == ((1, 0.1, 5),)
    nan = {"share": float("nan"), "observations": [[1, 1e999, 5]], "by_metric": [[0, 0, 0]], "status": "x"}
    with pytest.raises(ValueError, match="no experiment"):
        Record.decode(json.dumps(said | {field: nan[field]}).encode())


@pytest.mark.parametrize(
    "parts", [[1, 2], [float("nan"), 0, 1, [[0.0] * 3] * 4], [-1, 0, 1, [[0.0] * 3] * 4], [1, 1, 1, []]]
)
def test_a_tally_whose_numbers_are_none_is_none(parts):
    with pytest.raises(ValueError, match="no tally"):
        decode_tally(json.dumps(parts).encode())


async def test_what_was_observed_survives_every_replica():
    world = World()
    record = await world.first.start("new")
    for number in range(5):
        world.hour(number, better=0.1)
        await world.turns(1)
    before = world.record(record.name).observations
    again = World()
    again.shared, again.documents = world.shared, world.documents
    again.replicas = [
        Experiments(
            models=Models(world.shared), documents=world.documents, clock=world.clock,
            options=ExperimentOptions("r9", Rule(), settle_s=0.0), metrics=Metrics(CollectorRegistry(), 10),
        )
    ]  # fmt: skip
    for number in range(5, 25):
        again.hour(number, better=0.3)
        await again.turns(1)
    after = again.record(record.name)
    assert after.observations[: len(before)] == before
    assert after.status is Status.PROMOTED


async def test_a_verdict_that_was_written_and_not_acted_on_is_acted_on_by_another():
    world = World(replicas=2)
    record = await world.first.start("new")
    for number in range(25):
        world.hour(number, better=0.3)
        world.shared.fail = True  # whoever decides dies before the models change
        for replica in world.replicas:
            try:
                await replica.turn()
            except StoreUnavailableError:
                continue
    assert world.record(record.name).status is Status.PROMOTED
    assert world.shared.desired.active == "old"
    world.shared.fail = False
    await world.replicas[1].turn()
    assert world.shared.desired.active == "new"


async def test_a_verdict_waits_for_a_person_where_nothing_is_automatic():
    world = World(automatic=False)
    record = await world.first.start("new")
    for number in range(25):
        world.hour(number, better=0.3)
        await world.turns(1)
    assert world.record(record.name).status is Status.PROMOTED
    assert world.shared.desired.active == "old"
    await world.first.stop(record.name, promote=True)
    assert world.shared.desired.active == "new"
    assert world.shared.desired.experiments == ()


async def test_an_experiment_stops_by_hand_and_only_once():
    world = World()
    record = await world.first.start("new")
    stopped = await world.first.stop(record.name)
    assert stopped.status is Status.STOPPED
    assert world.shared.desired.experiments == ()
    with pytest.raises(ModelConflictError, match="has ended"):
        await world.first.stop(record.name)
    with pytest.raises(ModelUnknownError):
        await world.first.stop("none")


async def test_an_experiment_whose_champion_serves_no_more_is_superseded():
    world = World()
    record = await world.first.start("new")
    await world.first._models.change(lambda desired: desired.activated("other"))
    await world.turns(1)
    assert world.record(record.name).status is Status.SUPERSEDED


async def test_what_cannot_be_tried_is_refused():
    world = World()
    with pytest.raises(ModelUnknownError):
        await world.first.start("none")
    with pytest.raises(ModelConflictError):
        await world.first.start("old")
    with pytest.raises(ModelConflictError, match="serves no links"):
        await world.first.start("new", champion="other")
    await world.first.start("new")
    with pytest.raises(ModelConflictError):
        await world.first.start("new")


async def test_the_store_may_go_away_and_come_back():
    world = World()
    record = await world.first.start("new")
    world.hour(0, better=0.1)
    world.documents.away = True
    with pytest.raises(StoreUnavailableError):
        await world.first.turn()
    world.documents.away = False
    for number in (1, 2, 3):
        world.hour(number, better=0.1)
        await world.turns(1)
    assert [targets for _, _, targets in world.record(record.name).observations] == [90, 90]


async def test_the_loop_goes_on_after_faults():
    world = World()
    world.documents.away = True
    world.first._options = replace(world.first._options, interval_s=0.0)
    task = asyncio.create_task(world.first.run())
    await asyncio.sleep(0.01)
    world.documents.away = False
    await world.first._models.change(lambda desired: desired.activated("new"))
    async with asyncio.timeout(10):
        while not world.shared.desired.experiments:  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0)
    task.cancel()


async def test_known_experiments_come_with_their_evidence():
    world = World()
    record = await world.first.start("new")
    for number in range(4):
        world.hour(number, better=0.1)
        await world.turns(1)
    [(known, evidence)] = await world.first.known()
    assert known.name == record.name
    assert evidence.periods == 2
    assert evidence.low < 0.1 < evidence.high
    assert known.by_metric[0] == pytest.approx((180, 180, 162), rel=1e-5)


@pytest.mark.parametrize(
    ("made", "since"),
    [
        ({"old": START_MS - 9, "new": START_MS - 5}, START_MS - 5),
        ({"old": START_MS - 5, "new": START_MS + 5}, START_MS),
        ({"old": START_MS - 5, "new": 0}, START_MS),
        ({"old": START_MS - 5}, START_MS),
    ],
)
async def test_only_what_neither_model_can_have_seen_counts(made, since):
    world = World()
    world.shared.made = made
    assert (await world.first.start("new")).started_at_ms == since


async def test_a_promotion_that_a_held_version_does_not_let_happen_holds_up_no_other_experiment():
    world = World(desired=Desired(revision=1, active="old", pins=(Pin(Scope.REGION, "eu", ("other",)),)))
    first = await world.first.start("new")
    second = await world.first.start("new", champion="other")
    world.shared.desired = world.shared.desired.hold()
    for number in range(60):
        world.hour(number, better=0.3)
        await world.turns(1)
    assert world.record(first.name).status is Status.PROMOTED
    assert world.record(second.name).status is Status.PROMOTED
    assert world.shared.desired.pins[0].versions == ("new",)
    assert world.shared.desired.active == "old"


async def test_an_experiment_that_nothing_is_seen_of_ends_undecided():
    world = World(rule=Rule(max_periods=24))
    record = await world.first.start("new")
    world.clock.now_ms += 47 * PERIOD_MS
    await world.turns()
    assert world.record(record.name).status is Status.RUNNING
    world.clock.now_ms += PERIOD_MS
    await world.turns()
    assert world.record(record.name).status is Status.EXPIRED
    assert world.shared.desired.experiments == ()
