"""The use cases, over a store in memory and a model that repeats the last value."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import fields, replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pba_service.domain.amst.completion import TransferAsk
from pba_service.domain.amst.feedback import TransferOutcome
from pba_service.domain.amst.optimizer import defaults
from pba_service.domain.drift import ConditionKind
from pba_service.domain.errors import (
    HistoryTooShortError,
    LinkUnknownError,
    MetricAbsentError,
    ModelUnavailableError,
    StoreUnavailableError,
)
from pba_service.domain.forecast import Prediction, Source
from pba_service.domain.lifecycle import Desired
from pba_service.domain.parameters import ParameterReason, ParametersAsk, ParametersSource, TransportBounds
from pba_service.domain.samples import Limits, LinkInfo, Series, one_link_batch
from pba_service.engine.advance import Options
from pba_service.engine.ingest import Ingest
from pba_service.engine.lastknown import LastKnown
from pba_service.engine.models import ModelSet
from pba_service.engine.population import Population
from pba_service.engine.refresh import Refresher
from pba_service.engine.service import PbaService, Policy
from pba_service.engine.subscriptions import Selector, Subscriptions
from pba_service.engine.supervisor import Supervisor
from pba_service.engine.upkeep import follow, sweep_once
from pba_service.observability.metrics import Metrics
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, LastValueModel

MINUTE = 60_000
DAY = 86_400_000
STEADY = np.array([100, 20, 0.01, 1], np.float32)
RISE = np.array([1, 1, 0, 1], np.float32)


class FaultyStore(MemoryStore):
    """A store that can be taken away, and that another writer may be faster in."""

    away = False
    slow = False
    """Reads are given up, and nobody has noticed that the store is away."""
    lose_commits = 0
    outcomes_away = False
    links_held = None
    """What lists of links wait for after they were read."""
    pages = None
    """Lists of links that are answered before the store goes away."""
    answered_at_ms = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.refused = asyncio.Event()

    @property
    def announced(self):
        return super().announced and not self.away

    async def snapshots(self, *args):
        if self.away or self.slow:
            self.refused.set()
            raise StoreUnavailableError
        return await super().snapshots(*args)

    async def outcomes(self, link_id):
        if self.outcomes_away:
            raise StoreUnavailableError
        return await super().outcomes(link_id)

    async def links(self, **what):
        if self.pages == 0:
            raise StoreUnavailableError
        self.pages = self.pages and self.pages - 1
        found = await super().links(**what)
        if self.links_held:
            self.refused.set()
            await self.links_held.wait()
        return found

    async def put(self, *args):
        if self.away:
            raise StoreUnavailableError
        return await super().put(*args)

    async def commit(self, commits):
        if self.lose_commits:
            self.lose_commits -= 1
            return [False] * len(commits)
        return await super().commit(commits)


class World:
    """A service with all its parts, and a clock."""

    def __init__(self, worker, confidence_threshold=0.6, max_age_ms=0):
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, 100)
        self.store = FaultyStore(max_samples=10_000, retention_ms=30 * DAY, clock=self.clock)
        self.supervisor = Supervisor()
        options = Options(base_ms=MINUTE, catch_up=480)
        self.refresher = Refresher(self.store, options, worker, self.metrics)
        self.ingest = Ingest(self.store, self.metrics, self.refresher)
        self.last_known = LastKnown(self.store, max_age_ms=max_age_ms)
        self.subscriptions = Subscriptions(self.store)
        self.service = PbaService(
            store=self.store,
            ingest=self.ingest,
            refresher=self.refresher,
            subscriptions=self.subscriptions,
            worker=worker,
            options=options,
            policy=Policy(Limits(120_000, 30 * DAY), TransportBounds(), confidence_threshold),
            clock=self.clock,
            metrics=self.metrics,
            last_known=self.last_known,
        )

    def read(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    async def push(self, link_id="a", minutes=range(30), values=STEADY, **info):
        """Pushes one sample a minute, the last of them now when `minutes` ends at 29."""
        times = [self.clock.now_ms + (minute - 29) * MINUTE for minute in minutes]
        rows = np.tile(np.asarray(values, np.float32), (len(times), 1))
        outcome = await self.service.push(one_link_batch(LinkInfo(link_id, **info), times, rows))
        await asyncio.sleep(0)  # what is shown of links follows the answer
        return outcome


@asynccontextmanager
async def running(**options):
    with ThreadPoolExecutor(1) as worker:
        world = World(worker, **options)
        world.refresher.serve_with(ModelSet.of(LastValueModel()))
        world.supervisor.start("ingest", world.ingest.run)
        world.supervisor.start("refresh", world.refresher.run)
        world.supervisor.start(
            "follow", lambda: follow(world.store, world.subscriptions, world.metrics, world.last_known)
        )
        try:
            yield world
        finally:
            await world.supervisor.stop()


async def first_prediction(subscription):
    async with asyncio.timeout(5):
        async for update in subscription.updates():
            if update.predictions:
                return update.predictions[0]
    raise AssertionError("the stream ended")


async def test_a_pushed_link_is_predicted():
    async with running() as world:
        outcome = await world.push()
        assert (outcome.stored, outcome.replaced, outcome.duplicates, list(outcome.refusals)) == (30, 0, 0, [])
        made = await world.service.predict("a")
        assert made.made_at_ms == world.clock.now_ms
        assert made.target_ms == world.clock.now_ms + 15 * MINUTE
        np.testing.assert_allclose(made.values, STEADY, rtol=1e-3)
        assert made.source is Source.COMBINED
        assert world.read("dwcp_pba_predictions_total", source="combined") == 1


async def test_a_retry_is_counted_as_duplicates_and_costs_no_prediction():
    async with running() as world:
        await world.push()
        await world.service.predict("a")
        outcome = await world.push()
        assert (outcome.stored, outcome.duplicates) == (0, 30)
        await world.service.predict("a")
        assert world.read("dwcp_pba_predictions_total", source="combined") == 1


async def test_a_correction_replaces_and_predicts_again():
    async with running() as world:
        await world.push()
        before = await world.service.predict("a")
        outcome = await world.push(minutes=[29], values=STEADY * 2)
        assert outcome.replaced == 1
        after = await world.service.predict("a")
        assert after.made_at_ms == before.made_at_ms
        assert after.values[0] > before.values[0]


async def test_good_samples_of_a_bad_batch_are_kept():
    async with running() as world:
        rows = np.tile(STEADY, (12, 1))
        rows[3, 1] = -1
        times = [world.clock.now_ms - i * MINUTE for i in range(12)]
        outcome = await world.service.push(one_link_batch(LinkInfo("a"), times, rows))
        assert outcome.stored == 11
        assert [(refusal.index, refusal.field) for refusal in outcome.refusals] == [(3, "latency_ms")]


async def test_what_is_answered_follows_what_was_pushed_just_before():
    async with running() as world:
        await world.push(minutes=range(20))
        for minute in range(20, 30):
            await world.push(minutes=[minute])
            made = await world.service.predict("a") if minute == 29 else None
        assert made.made_at_ms == world.clock.now_ms


async def test_a_prediction_says_that_its_link_fell_silent_also_where_it_is_remembered():
    async with running() as world:
        await world.push()
        await wait_for(world, "a")
        world.clock.now_ms += 5 * MINUTE
        assert (await world.service.predict("a")).condition is None
        world.clock.now_ms += 1
        assert (await world.service.predict("a")).condition.kind is ConditionKind.SILENT


async def test_a_silent_link_is_not_read_from_the_store_each_time_it_is_asked_for():
    async with running() as world:
        await world.push()
        await wait_for(world, "a")
        world.clock.now_ms += 5 * MINUTE + 1
        missed = world.read("dwcp_pba_memory_misses_total")
        told = await world.service.predict("a")
        world.clock.now_ms += MINUTE - 2
        assert await world.service.predict("a") is told
        world.clock.now_ms += 1
        assert (await world.service.predict("a")).condition.strength == 6
        assert world.read("dwcp_pba_memory_misses_total") == missed


async def wait_for(world, link_id):
    """Returns once what was announced of a link is remembered."""
    async with asyncio.timeout(5):
        while world.service.current(link_id) is None:  # noqa: ASYNC110 - the service is asked
            await asyncio.sleep(0.005)


async def test_unknown_short_and_silent_links_say_so():
    async with running() as world:
        with pytest.raises(LinkUnknownError):
            await world.service.predict("nobody")
        await world.push("short", minutes=range(25, 30))
        with pytest.raises(HistoryTooShortError) as short:
            await world.service.predict("short")
        assert (short.value.have, short.value.need, short.value.retry_after_s) == (5, 10, 300)
        await world.push("silent")
        await world.service.predict("silent")
        world.clock.now_ms += 15 * MINUTE
        assert isinstance(await world.service.predict("silent"), Prediction)
        world.clock.now_ms += 1
        with pytest.raises(HistoryTooShortError) as silent:
            await world.service.predict("silent")
        assert silent.value.have == 0


async def test_many_links_in_one_call_each_get_their_own_answer():
    async with running() as world:
        await world.push("a")
        await world.push("b", values=STEADY * 2)
        await world.push("short", minutes=[29])
        results = await world.service.batch_predict(["b", "nobody", "a", "short", "b"])
        assert [type(result) for result in results] == [
            Prediction,
            LinkUnknownError,
            Prediction,
            HistoryTooShortError,
            Prediction,
        ]
        assert [results[i].link_id for i in (0, 2, 4)] == ["b", "a", "b"]


async def test_without_a_model_there_is_no_prediction_but_samples_are_kept():
    async with running() as world:
        world.refresher.serve_with(ModelSet({}, Desired()))
        await world.push()
        with pytest.raises(ModelUnavailableError):
            await world.service.predict("a")
        with pytest.raises(ModelUnavailableError):
            await world.service.predict_window("a", Series.empty())
        answer = await world.service.parameters(ParametersAsk("a"))
        assert answer.source is ParametersSource.MEASUREMENT
        assert ParameterReason.MODEL_UNAVAILABLE in answer.reasons
        assert world.service.models() == []


async def test_a_store_that_is_away_is_said_and_recovered_from():
    async with running() as world:
        await world.push()
        await world.service.predict("a")
        world.store.away = True
        with pytest.raises(StoreUnavailableError):
            await world.service.predict("a")
        with pytest.raises(StoreUnavailableError):
            await world.push("b")
        answer = await world.service.parameters(ParametersAsk("a"))
        assert answer.source is ParametersSource.DEFAULTS
        assert answer.reasons[0] is ParameterReason.STORE_UNAVAILABLE
        assert answer.parameters == defaults(ParametersAsk("a"), TransportBounds())
        world.store.away = False
        await world.push("b")
        assert isinstance(await world.service.predict("b"), Prediction)


async def test_links_marked_while_the_store_is_away_are_predicted_when_it_is_back():
    async with running() as world:
        world.store.away = True
        await MemoryStore.put(
            world.store,
            one_link_batch(
                LinkInfo("a"), [world.clock.now_ms - i * MINUTE for i in range(20)], np.tile(STEADY, (20, 1))
            ),
        )
        world.refresher.mark(["a"])
        with world.subscriptions.subscribe(Selector(link_ids=frozenset({"a"}))) as subscription:
            await world.store.refused.wait()
            world.store.away = False
            assert (await first_prediction(subscription)).link_id == "a"
        assert world.read("dwcp_pba_store_errors_total") == 1


async def test_a_writer_who_was_slower_reads_again():
    async with running() as world:
        world.store.lose_commits = 2
        await world.push()
        made = await world.service.predict("a")
        assert made.made_at_ms == world.clock.now_ms
        assert world.read("dwcp_pba_commit_conflicts_total") == 2
        assert (await world.store.newest(["a"]))[0].same_as(made)


async def test_a_sweep_finds_links_left_behind():
    async with running() as world:
        await world.store.put(
            one_link_batch(
                LinkInfo("a"), [world.clock.now_ms - i * MINUTE for i in range(20)], np.tile(STEADY, (20, 1))
            )
        )
        assert await sweep_once(world.store, world.refresher, world.metrics) == 1
        await world.refresher.settled(["a"], 5)
        assert (await world.store.newest(["a"]))[0] is not None
        assert await sweep_once(world.store, world.refresher, world.metrics) == 0
        assert world.read("dwcp_pba_sample_count", link="a") == 20


async def test_the_sample_count_follows_pushes_between_sweeps():
    async with running() as world:
        await world.push()
        await world.push()
        assert world.read("dwcp_pba_sample_count", link="a") == 30
        await world.push(minutes=[-5])
        assert world.read("dwcp_pba_sample_count", link="a") == 31


async def test_a_push_is_answered_before_its_links_are_shown():
    async with running() as world:
        batch = one_link_batch(LinkInfo("a"), [world.clock.now_ms], np.array([STEADY], np.float32))
        assert (await world.service.push(batch)).stored == 1
        assert world.read("dwcp_pba_sample_count", link="a") is None
        await asyncio.sleep(0)
        assert world.read("dwcp_pba_sample_count", link="a") == 1


async def test_links_that_expired_lose_their_metrics():
    async with running() as world:
        await world.push("a")
        await world.push("b")
        assert world.read("dwcp_pba_current_latency_ms", link="a") == 20
        world.clock.now_ms += 31 * DAY
        await world.push("b")
        await sweep_once(world.store, world.refresher, world.metrics)
        assert world.read("dwcp_pba_current_latency_ms", link="a") is None
        assert world.read("dwcp_pba_current_latency_ms", link="b") == 20


async def test_parameters_come_from_the_best_that_is_known():
    async with running(confidence_threshold=0.0) as world:
        unknown = await world.service.parameters(ParametersAsk("a"))
        assert unknown.source is ParametersSource.DEFAULTS
        assert unknown.reasons[0] is ParameterReason.UNKNOWN_LINK
        assert unknown.prediction is None
        assert unknown.should_adjust

        await world.push(minutes=range(27, 30))
        measured = await world.service.parameters(ParametersAsk("a"))
        assert measured.source is ParametersSource.MEASUREMENT
        assert measured.reasons[0] is ParameterReason.INSUFFICIENT_HISTORY

        await world.push()
        predicted = await world.service.parameters(ParametersAsk("a"))
        assert predicted.source is ParametersSource.PREDICTION
        assert predicted.valid_until_ms == predicted.prediction.target_ms
        assert ParameterReason.LOSS in predicted.reasons
        assert predicted.parameters.streams > unknown.parameters.streams
        assert 0 < predicted.expected_mbps < 100
        assert predicted.apply_at_ms == world.clock.now_ms


async def test_a_clean_link_is_paced_for_as_long_as_its_samples_come():
    async with running(confidence_threshold=0.0) as world:
        await world.push(values=[100, 20, 0, 1])
        ask = ParametersAsk("a", loss_probes=100_000)
        predicted = await world.service.parameters(ask)
        # 95.5 % of the upper end of what is expected, which is 15 % above the last value
        assert 95.5 <= predicted.parameters.pacing_mbps <= 0.955 * 121
        assert predicted.valid_until_ms == predicted.prediction.made_at_ms + 2 * MINUTE
        world.clock.now_ms += 3 * MINUTE
        later = await world.service.parameters(ask)
        assert later.parameters.pacing_mbps is None
        assert later.valid_until_ms == later.prediction.target_ms


async def test_defaults_tell_the_present_parameters_and_let_no_pace_outlive_what_is_known():
    """Who has the default streams already needs no others, but the pace rests on nothing any more."""
    async with running() as world:
        had = defaults(ParametersAsk("a"), TransportBounds())
        ask = ParametersAsk("a", current_streams=had.streams, current_buffer_bytes=had.buffer_bytes)
        unpaced = await world.service.parameters(ask)
        assert unpaced.source is ParametersSource.DEFAULTS
        assert unpaced.current == had
        assert not unpaced.should_adjust
        paced = await world.service.parameters(replace(ask, current_pacing_mbps=5.0))
        assert paced.current == replace(had, pacing_mbps=5.0)
        assert paced.parameters.pacing_mbps is None
        assert paced.should_adjust
        large = await world.service.parameters(replace(ask, memory_budget_bytes=had.window_bytes // 2))
        assert large.parameters.streams == had.streams
        assert large.should_adjust


@pytest.mark.parametrize("cadence", [2, 4])
async def test_parameters_follow_a_prediction_for_as_long_as_it_says_something(cadence):
    """The horizon is a multiple of the cadence, which may be more than 15 minutes."""
    async with running(confidence_threshold=0.0) as world:
        await world.push(minutes=range(29 - 29 * cadence, 30, cadence))
        ask = ParametersAsk("a")
        world.clock.now_ms = (await world.service.predict("a")).target_ms
        answer = await world.service.parameters(ask)
        assert answer.source is ParametersSource.PREDICTION
        assert ParameterReason.METRIC_ABSENT not in answer.reasons


async def test_outcomes_are_remembered_and_correct_the_streams():
    async with running(confidence_threshold=0.0) as world:
        with pytest.raises(LinkUnknownError):
            await world.service.transfers.report(outcome(world, 50))
        await world.push()
        before = await world.service.parameters(ParametersAsk("a"))
        learned = await world.service.transfers.report(outcome(world, 50))
        assert learned.effectiveness == pytest.approx(0.5)
        assert learned.correction == pytest.approx(1.25)
        after = await world.service.parameters(ParametersAsk("a"))
        assert ParameterReason.OUTCOMES in after.reasons
        assert after.parameters.streams == pytest.approx(1.25 * before.parameters.streams, abs=1.5)
        assert await world.service.transfers.outcomes("a") == [outcome(world, 50)]
        assert world.read("dwcp_pba_amst_effectiveness_ratio_sum") == pytest.approx(0.5)


async def test_an_answer_holds_until_time_alone_changes_it():
    async with running(confidence_threshold=0.0) as world:
        await world.push(values=[100, 20, 0, 1])
        paced = await world.service.parameters(ParametersAsk("a", loss_probes=100_000))
        assert world.clock.now_ms < paced.holds_until_ms <= paced.valid_until_ms
        world.clock.now_ms = paced.holds_until_ms - 1
        again = await world.service.parameters(ParametersAsk("a", loss_probes=100_000))
        said = [replace(one, apply_at_ms=0, prediction=None) for one in (paced, again)]
        for field in fields(said[0]):
            assert getattr(said[0], field.name) == getattr(said[1], field.name)


async def test_an_answer_that_lacks_what_the_store_could_not_tell_does_not_hold():
    async with running(confidence_threshold=0.0) as world:
        await world.push()
        world.store.outcomes_away = True
        assert (await world.service.parameters(ParametersAsk("a"))).holds_until_ms == 0
        world.store.outcomes_away = False
        assert (await world.service.parameters(ParametersAsk("a"))).holds_until_ms > world.clock.now_ms


def outcome(world, achieved_mbps):
    now = world.clock.now_ms
    return TransferOutcome("a", now - MINUTE, now, 10, 65_536, None, 100.0, achieved_mbps, 0.01, 0.01)


class RisingModel(LastValueModel):
    """Says half as much for the nearer of its horizons."""

    def predict(self, windows, step_ms):
        return super().predict(windows, step_ms) * np.array([0.5, 1], np.float32)[:, None, None]


class LossSoonModel(LastValueModel):
    """Says ten times as much loss for the nearer of its horizons."""

    def predict(self, windows, step_ms):
        return super().predict(windows, step_ms) * np.array([[1, 1, 10, 1], [1, 1, 1, 1]], np.float32)[..., None]


async def test_streams_are_opened_for_what_is_foretold_before_the_horizon_and_no_longer():
    streams = []
    for model in (LastValueModel(), LossSoonModel()):
        async with running(confidence_threshold=0.0) as world:
            world.refresher.serve_with(ModelSet.of(model))
            await world.push(values=[100, 20, 0.001, 1])
            ask = ParametersAsk("a", loss_probes=100_000)
            nearer = (await world.service.insight.path("a"))[0].horizon_ms
            streams.append((await world.service.parameters(ask)).parameters.streams)
            world.clock.now_ms += nearer
            streams.append((await world.service.parameters(ask)).parameters.streams)
    steady, _, soon, over = streams
    assert soon > 2 * steady
    assert over < soon


@pytest.mark.parametrize("cadence", [15, 30])
async def test_horizons_that_a_slow_cadence_makes_one_are_told_once_as_the_products(cadence):
    async with running(confidence_threshold=0.0) as world:
        world.refresher.serve_with(ModelSet.of(RisingModel()))
        await world.push(minutes=range(29 - 29 * cadence, 30, cadence))
        made = await world.service.predict("a")
        [point] = await world.service.insight.path("a")
        assert made.target_ms == made.made_at_ms + point.horizon_ms
        assert point.quantiles[0, 2] == pytest.approx(100)


async def test_a_transfer_is_estimated_on_each_link_that_can_be_predicted():
    async with running(confidence_threshold=0.0) as world:
        await world.push("fast", values=[100, 20, 0, 1])
        await world.push("slow", values=[10, 20, 0, 1])
        await world.push("blind", values=[np.nan, 20, 0, 1])
        deadline_ms = world.clock.now_ms + 200_000
        answer = await world.service.transfers.estimate(
            TransferAsk(10**9, ("slow", "none", "fast", "blind"), deadline_ms=deadline_ms)
        )
        assert [one.link_id for one in answer.estimates] == ["slow", "fast"]
        assert {link: type(error) for link, error in answer.refusals} == {
            "none": LinkUnknownError,
            "blind": MetricAbsentError,
        }
        slow, fast = answer.estimates
        assert answer.best == 1
        assert (slow.deadline_probability, fast.deadline_probability) == (0.0, 1.0)
        assert fast.completion_s[0] <= fast.completion_s[1] <= fast.completion_s[2]
        assert fast.completion_s[1] == pytest.approx(80, rel=0.1)
        assert slow.completion_s[1] == pytest.approx(800, rel=0.1)


async def test_low_confidence_falls_back_to_measurements():
    async with running(confidence_threshold=1.0) as world:
        await world.push()
        answer = await world.service.parameters(ParametersAsk("a"))
        assert answer.source is ParametersSource.MEASUREMENT
        assert answer.reasons[0] is ParameterReason.LOW_CONFIDENCE
        assert answer.prediction is not None


async def test_a_link_without_bandwidth_gets_defaults_and_is_told_why():
    async with running(confidence_threshold=0.0) as world:
        await world.push(values=[np.nan, 20, 0.01, 1])
        answer = await world.service.parameters(ParametersAsk("a"))
        assert answer.source is ParametersSource.DEFAULTS
        assert ParameterReason.METRIC_ABSENT in answer.reasons


async def test_ways_of_measuring_are_counted_once_of_values_that_are_there():
    async with running() as world:
        times = [world.clock.now_ms, world.clock.now_ms - MINUTE]
        values = np.array([[90, 8, np.nan, 1], [91, 8, np.nan, np.nan]], np.float32)
        batch = replace(
            one_link_batch(LinkInfo("a"), times, values),
            sources=np.array([[4, 1, 2, 2], [4, 250, 2, 2]], np.uint8),
        )
        for _ in range(2):  # the second time they are duplicates
            await world.service.push(batch)

        def counted(metric, way):
            return world.read("dwcp_pba_values_total", metric=metric, way=way)

        assert counted("bandwidth_mbps", "packet_train") == 2
        assert (counted("latency_ms", "transport"), counted("latency_ms", "unspecified")) == (1, 1)
        assert counted("packet_loss_ratio", "probe") == 0
        assert counted("jitter_ms", "probe") == 1


async def test_a_callers_window_is_predicted_and_nothing_is_stored():
    async with running() as world:
        times = np.array([world.clock.now_ms - (19 - i) * MINUTE for i in range(20)])
        made = await world.service.predict_window("x", Series(times, np.tile(STEADY, (20, 1))))
        assert made.source is Source.CALLER_WINDOW
        assert await world.service.links(prefix="", region="", after="", limit=10) == []


async def test_subscribers_see_each_prediction():
    async with running() as world:
        with world.subscriptions.subscribe(Selector(all=True)) as subscription:
            await world.push("a")
            assert (await first_prediction(subscription)).link_id == "a"


async def test_the_ledger_is_fed_by_what_comes_true():
    async with running() as world:
        world.clock.now_ms += 100 * MINUTE
        for minute in range(60):
            await world.push(minutes=[minute - 30], values=STEADY + minute * RISE)
            await world.refresher.settled(["a"], 5)
        entries = [entry async for chunk in world.service.ledger("a", None, None) for entry in chunk]
        assert len(entries) == 60 - 9 - 15
        start = world.clock.now_ms - 59 * MINUTE
        for entry in entries:
            minute = (entry.target_ms - start) // MINUTE
            assert entry.target_ms == entry.made_at_ms + 15 * MINUTE
            np.testing.assert_array_equal(entry.actual, (STEADY + minute * RISE).astype(np.float32))


async def test_while_the_store_is_away_what_was_announced_is_given_marked():
    async with running(max_age_ms=5 * MINUTE) as world:
        await world.push()
        asked = await world.service.predict("a")
        assert asked.stale_since_ms is None
        world.store.away, world.store.answered_at_ms = True, world.clock.now_ms
        world.clock.now_ms += MINUTE

        stale = await world.service.predict("a")

        assert stale.stale_since_ms == world.clock.now_ms - MINUTE
        assert stale.made_at_ms == asked.made_at_ms
        assert world.read("dwcp_pba_stale_reads_total") == 1
        with pytest.raises(StoreUnavailableError):
            await world.service.predict("never heard of")
        world.clock.now_ms += 5 * MINUTE
        with pytest.raises(StoreUnavailableError):
            await world.service.predict("a")
        world.store.away = False
        assert (await world.service.predict("a")).stale_since_ms is None


async def test_only_predictions_that_are_given_count_as_given_from_memory():
    async with running(max_age_ms=10 * MINUTE) as world:
        await world.push()
        await world.service.predict("a")
        world.store.away, world.store.answered_at_ms = True, world.clock.now_ms
        [known, unknown] = await world.service.batch_predict(["a", "nobody knows it"])
        assert isinstance(known, Prediction)
        assert isinstance(unknown, StoreUnavailableError)
        assert world.read("dwcp_pba_stale_reads_total") == 1


async def test_parameters_follow_the_last_known_prediction_while_the_store_is_away():
    async with running(max_age_ms=5 * MINUTE, confidence_threshold=0.0) as world:
        await world.push()
        asked = await world.service.parameters(ParametersAsk("a"))
        world.store.away, world.store.answered_at_ms = True, world.clock.now_ms

        answer = await world.service.parameters(ParametersAsk("a"))

        assert answer.source is ParametersSource.PREDICTION
        assert ParameterReason.STORE_UNAVAILABLE in answer.reasons
        assert answer.prediction.stale_since_ms == world.clock.now_ms
        assert answer.parameters.streams == pytest.approx(asked.parameters.streams, rel=0.25)


async def test_parameters_follow_the_prediction_when_the_store_has_just_gone_away():
    async with running(max_age_ms=5 * MINUTE, confidence_threshold=0.0) as world:
        await world.push()
        await wait_for(world, "a")
        asked = await world.service.parameters(ParametersAsk("a"))
        world.store.slow = True  # announcements were read a moment ago: the prediction is not marked

        answer = await world.service.parameters(ParametersAsk("a"))

        assert answer.prediction is asked.prediction
        assert answer.source is ParametersSource.PREDICTION
        assert answer.reasons[0] is ParameterReason.STORE_UNAVAILABLE
        assert ParameterReason.METRIC_ABSENT not in answer.reasons
        assert answer.parameters.streams == pytest.approx(asked.parameters.streams, rel=0.25)
        assert not answer.holds_until_ms  # to be asked anew


async def test_a_replica_that_just_started_learns_all_predictions_from_its_first_sweep():
    async with running(max_age_ms=5 * MINUTE) as world:
        await world.push()
        await world.service.predict("a")
        started = LastKnown(world.store, max_age_ms=5 * MINUTE)
        await sweep_once(world.store, world.refresher, world.metrics, started)
        world.store.answered_at_ms = world.clock.now_ms
        [known] = started.answer(["a"], world.clock.now_ms, StoreUnavailableError())
        assert known.link_id == "a"


async def test_a_sweep_that_read_a_link_before_a_correction_does_not_undo_what_is_known():
    async with running() as world:
        await world.push()
        await world.service.predict("a")
        world.store.links_held = asyncio.Event()
        sweeping = asyncio.create_task(sweep_once(world.store, world.refresher, world.metrics, world.last_known))
        await world.store.refused.wait()
        await world.push(minutes=[28], values=STEADY + RISE)
        await world.refresher.settled(["a"], 5)
        corrected = world.service.current("a")

        world.store.links_held.set()
        await sweeping

        assert corrected.made_at_ms == world.clock.now_ms
        assert world.service.current("a") is corrected


async def test_a_sweep_that_is_broken_off_counts_no_link_twice():
    async with running() as world:
        await world.push()
        await world.service.predict("a")
        population = Population(world.clock, world.metrics)
        world.store.pages = 1
        with pytest.raises(StoreUnavailableError):
            await sweep_once(world.store, world.refresher, world.metrics, population=population)
        world.store.pages = None

        await sweep_once(world.store, world.refresher, world.metrics, population=population)

        assert population.links == 1


async def test_a_known_prediction_is_given_without_asking_the_store():
    async with running() as world:
        assert world.service.current("a") is None
        await world.push()
        made = await world.service.predict("a")
        assert world.service.current("a") is made
        assert await world.service.predict("a") is made
        world.store.away = True  # announcements cannot be relied on
        assert world.service.current("a") is None
        world.store.away = False
        world.clock.now_ms += 20 * MINUTE  # it speaks of the past
        assert world.service.current("a") is None


async def test_a_prediction_is_not_known_while_a_newer_sample_is_taken_into_account():
    async with running() as world:
        await world.push()
        made = await world.service.predict("a")
        world.clock.now_ms += MINUTE
        await world.push(minutes=[29])
        assert world.service.current("a") is None
        newer = await world.service.predict("a")
        assert newer.made_at_ms == made.made_at_ms + MINUTE
        assert world.service.current("a") is newer


async def test_a_prediction_of_another_model_is_not_what_is_known():
    async with running() as world:
        await world.push()
        await world.service.predict("a")
        world.refresher.serve_with(ModelSet.of(LastValueModel("test-2")))
        assert world.service.current("a") is None
        assert (await world.service.predict("a")).model_version == "test-2"
