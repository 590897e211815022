"""Subscribers get the newest value of each link: nothing lost, nothing older after newer, nothing queued."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.errors import CapacityExceededError, StoreUnavailableError
from pba_service.domain.forecast import Prediction, Source
from pba_service.domain.samples import LinkInfo, Series
from pba_service.engine import regions, subscriptions
from pba_service.engine.ports import LinkSummary
from pba_service.engine.subscription import MAX_PREDICTIONS_PER_UPDATE, REGION_RETRY_S
from pba_service.engine.subscriptions import Selector, Subscriptions

ALL = Selector(all=True)


def forecast(link_id, made_at_ms=0):
    return Prediction(
        link_id,
        made_at_ms,
        60_000,
        made_at_ms + 900_000,
        np.ones(4, np.float32),
        np.full((4, 5), np.nan, np.float32),
        0.5,
        "v1",
        Source.COMBINED,
    )


class Time:
    """A clock that moves when told to, and the sleepers that wait for it."""

    def __init__(self):
        self.now_s = 1000.0
        self.sleepers = []

    def __call__(self):
        return self.now_s

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now_s + seconds, woken))
        await woken

    def advance(self, seconds):
        self.now_s += seconds
        for due_s, woken in self.sleepers:
            if due_s <= self.now_s and not woken.done():
                woken.set_result(None)


class FakeDirectory:
    """The store's newest predictions and infos; `pause` is awaited inside each read, after the data was read."""

    def __init__(self):
        self.predictions = {}
        self.regions = {}
        self.failure = None
        self.info_reads = []
        self.pause = None

    def add(self, link_id, made_at_ms=0, region=""):
        self.predictions[link_id] = forecast(link_id, made_at_ms)
        self.regions[link_id] = region
        return self.predictions[link_id]

    async def _read(self, result):
        if self.failure:
            raise self.failure
        if self.pause:
            await self.pause()
        return result

    async def newest(self, link_ids):
        return await self._read([self.predictions.get(link_id) for link_id in link_ids])

    async def links(self, *, prefix, region, after, limit):
        return await self._read(
            [
                LinkSummary(LinkInfo(link_id, region=self.regions[link_id]), 1, Series.empty(), prediction)
                for link_id, prediction in sorted(self.predictions.items())
                if link_id > after and link_id.startswith(prefix) and region in {"", self.regions[link_id]}
            ][:limit]
        )

    async def link_infos(self, link_ids):
        self.info_reads.append(list(link_ids))
        return await self._read(
            [
                LinkInfo(link_id, region=self.regions[link_id]) if link_id in self.regions else None
                for link_id in link_ids
            ]
        )


@pytest.fixture
def directory():
    return FakeDirectory()


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def hub(directory, clock):
    return Subscriptions(directory, max_subscribers=3, clock=clock, sleep=clock.sleep)


@asynccontextmanager
async def following(hub, selector, **options):
    """A subscription's updates, its snapshot left to be read."""
    with hub.subscribe(selector, **options) as subscription:
        updates = subscription.updates()
        try:
            yield updates
        finally:
            await updates.aclose()


async def settle():
    """Lets everything that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_snapshot_comes_first_in_one_complete_message(hub, directory):
    first, second = directory.add("a"), directory.add("b")
    async with following(hub, ALL) as updates:
        update = await anext(updates)
    assert update.predictions == [first, second]
    assert update.snapshot_complete
    assert update.skipped_updates == 0


async def test_an_empty_snapshot_is_said_to_be_complete(hub):
    async with following(hub, Selector(frozenset(["nobody"]))) as updates:
        update = await anext(updates)
    assert (update.predictions, update.snapshot_complete) == ([], True)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(frozenset(["eu-1", "us-1"])), ["eu-1", "us-1"]),
        (Selector(prefix="eu-"), ["eu-1", "eu-2"]),
        (Selector(region="west"), ["eu-2", "us-1"]),
        (Selector(frozenset(["us-1"]), "eu-", "west"), ["eu-1", "eu-2", "us-1"]),
        (Selector(frozenset(["us-1"]), "eu-", "west", all=True), ["eu-1", "eu-2", "us-1", "us-2"]),
    ],
)
async def test_a_selector_chooses_the_same_links_in_snapshot_and_updates(hub, directory, selector, expected):
    for link_id, region in (("eu-1", "east"), ("eu-2", "west"), ("us-1", "west"), ("us-2", "east")):
        directory.add(link_id, region=region)
    async with following(hub, selector) as updates:
        snapshot = await anext(updates)
        hub.publish([forecast(link_id, 1) for link_id in ("eu-1", "eu-2", "us-1", "us-2")])
        update = await anext(updates)
    assert sorted(p.link_id for p in snapshot.predictions) == expected
    assert sorted(p.link_id for p in update.predictions) == expected
    assert update.skipped_updates == 0  # chosen in two ways is still one update


async def test_a_slow_reader_gets_the_newest_and_the_number_skipped(hub):
    async with following(hub, ALL) as updates:
        await anext(updates)
        for made_at_ms in range(1, 101):
            hub.publish([forecast("a", made_at_ms), forecast("b", made_at_ms)])
        update = await anext(updates)
        hub.publish([forecast("a", 101)])
        later = await anext(updates)
    assert [(p.link_id, p.made_at_ms) for p in update.predictions] == [("a", 100), ("b", 100)]
    assert update.skipped_updates == 198
    assert later.skipped_updates == 198


async def test_every_subscriber_gets_the_same_object(hub):
    async with following(hub, ALL) as one, following(hub, Selector(prefix="a")) as other:
        await anext(one)
        await anext(other)
        hub.publish([forecast("a", 1)])
        assert (await anext(one)).predictions[0] is (await anext(other)).predictions[0]


async def test_an_update_during_the_snapshot_wins_over_it(hub, directory):
    directory.add("a", 5)
    directory.add("b", 5)

    async def meanwhile():
        hub.publish([forecast("a", 6)])

    directory.pause = meanwhile
    async with following(hub, ALL) as updates:
        update = await anext(updates)
    assert [(p.link_id, p.made_at_ms) for p in update.predictions] == [("a", 6), ("b", 5)]
    assert update.skipped_updates == 0


async def test_an_announcement_older_than_the_snapshot_is_left_out(hub, directory):
    directory.add("a", 5)
    async with following(hub, ALL) as updates:
        await anext(updates)
        hub.publish([forecast("a", 4)])  # was on its way when the snapshot was read
        hub.publish([forecast("a", 6)])
        update = await anext(updates)
    assert [p.made_at_ms for p in update.predictions] == [6]
    assert update.skipped_updates == 0


async def test_order_is_only_enforced_for_a_while(hub, clock):
    """A store that was emptied and filled again starts with older samples; subscribers follow."""
    async with following(hub, ALL) as updates:
        await anext(updates)
        hub.publish([forecast("a", 5)])
        await anext(updates)
        clock.advance(subscriptions.ORDER_MEMORY_S)
        hub.publish([forecast("a", 1)])
        assert [p.made_at_ms for p in (await anext(updates)).predictions] == [1]


async def test_large_snapshots_come_in_several_messages(hub, directory):
    count = 2 * MAX_PREDICTIONS_PER_UPDATE + 7
    for index in range(count):
        directory.add(f"link-{index:05}")
    async with following(hub, ALL) as updates:
        received, complete = [], []
        while not complete or not complete[-1]:
            update = await anext(updates)
            assert len(update.predictions) <= MAX_PREDICTIONS_PER_UPDATE
            received += [p.link_id for p in update.predictions]
            complete.append(update.snapshot_complete)
    assert received == sorted(directory.predictions)
    assert complete == [False, False, True]


async def test_a_link_chosen_in_two_ways_comes_once_in_a_snapshot_of_several_messages(hub, directory):
    links = [f"link-{index:05}" for index in range(2 * MAX_PREDICTIONS_PER_UPDATE)]
    for link_id in links:
        directory.add(link_id)
    async with following(hub, Selector(frozenset(links), "link-")) as updates:
        received, update = [], None
        while update is None or not update.snapshot_complete:
            update = await anext(updates)
            received += [p.link_id for p in update.predictions]
    assert received == links


async def test_an_update_that_waits_for_its_region_does_not_follow_a_newer_snapshot(hub, directory):
    async with following(hub, Selector(region="west")) as updates:
        hub.publish([forecast("a", 1)])  # before the snapshot is read, and its region is not known yet
        directory.add("a", 2, region="west")
        assert [p.made_at_ms for p in (await anext(updates)).predictions] == [2]
        hub.close()
        assert [update.predictions async for update in updates if update.predictions] == []


async def test_an_update_chosen_by_its_name_does_not_wait_for_its_region(hub, directory):
    directory.regions["a"] = "west"
    async with following(hub, Selector(frozenset(["a"]), region="west")) as updates:
        await anext(updates)
        hub.publish([forecast("a", 1)])
        update = await anext(updates)
    assert [p.made_at_ms for p in update.predictions] == [1]
    assert update.skipped_updates == 0
    assert directory.info_reads == []


async def test_region_of_a_new_link_is_read_once_for_all(hub, directory):
    async with following(hub, Selector(region="west")) as one, following(hub, Selector(region="east")) as other:
        await anext(one)
        await anext(other)
        directory.regions.update({"a": "west", "b": "east", "c": ""})
        hub.publish([forecast("a", 1), forecast("b", 1), forecast("c", 1), forecast("unknown", 1)])
        first, second = await asyncio.gather(anext(one), anext(other))
        assert [p.link_id for p in first.predictions] == ["a"]
        assert [p.link_id for p in second.predictions] == ["b"]
        hub.publish([forecast("a", 2)])
        assert [p.made_at_ms for p in (await anext(one)).predictions] == [2]
    assert directory.info_reads == [["a", "b", "c", "unknown"]]


async def test_a_link_that_changes_its_region_is_followed(hub, directory, clock):
    async with following(hub, Selector(region="west")) as updates:
        await anext(updates)
        directory.regions["a"] = "east"
        hub.publish([forecast("a", 1)])
        pending = asyncio.create_task(anext(updates))
        await settle()
        assert not pending.done()
        directory.regions["a"] = "west"
        clock.advance(regions.MEMORY_S)
        hub.publish([forecast("a", 2)])
        assert [p.made_at_ms for p in (await pending).predictions] == [2]


async def test_updates_that_wait_for_a_region_are_counted_when_overtaken(hub, directory):
    async with following(hub, Selector(region="west")) as updates:
        await anext(updates)
        directory.regions["a"] = "west"

        async def meanwhile():
            directory.pause = None
            hub.publish([forecast("a", 4)])

        directory.pause = meanwhile
        hub.publish([forecast("a", 1)])
        hub.publish([forecast("a", 2)])
        hub.publish([forecast("a", 3)])
        update = await anext(updates)
        if not update.predictions:
            update = await anext(updates)
    assert [p.made_at_ms for p in update.predictions] == [4]
    assert update.skipped_updates == 3


async def test_min_interval_brings_what_changed_together(hub, clock):
    async with following(hub, ALL, min_interval_s=10) as updates:
        await anext(updates)
        hub.publish([forecast("a", 1)])
        pending = asyncio.create_task(anext(updates))
        await settle()
        clock.advance(9.9)
        hub.publish([forecast("a", 2), forecast("b", 2)])
        await settle()
        assert not pending.done()
        clock.advance(0.2)
        update = await pending
    assert [(p.link_id, p.made_at_ms) for p in update.predictions] == [("a", 2), ("b", 2)]
    assert update.skipped_updates == 1


async def test_min_interval_leaves_a_first_update_after_a_pause_alone(hub, clock):
    async with following(hub, ALL, min_interval_s=10) as updates:
        await anext(updates)
        clock.advance(60)
        hub.publish([forecast("a", 1)])
        assert len((await anext(updates)).predictions) == 1


async def test_closing_gives_what_is_held_and_ends(hub):
    async with following(hub, ALL, min_interval_s=1000) as updates, following(hub, ALL) as idle:
        await anext(updates)
        await anext(idle)
        waiting = asyncio.create_task(anext(idle, None))
        hub.publish([forecast("a", 1)])
        assert (await waiting).predictions
        paused = asyncio.create_task(anext(updates))
        await settle()
        hub.close()
        assert [p.link_id for p in (await paused).predictions] == ["a"]
        assert await anext(updates, None) is None
        assert await anext(idle, None) is None


async def test_a_subscription_after_the_end_ends_after_its_snapshot(hub, directory):
    directory.add("a")
    hub.close()
    async with following(hub, ALL) as updates:
        assert [len(update.predictions) async for update in updates] == [1]


async def test_one_more_than_allowed_is_refused_until_one_leaves(hub):
    with hub.subscribe(ALL), hub.subscribe(ALL):
        with hub.subscribe(ALL), pytest.raises(CapacityExceededError) as refused:
            hub.subscribe(ALL)
        assert refused.value.limit == 3
        with hub.subscribe(ALL):
            assert len(hub) == 3
    assert len(hub) == 0


async def test_leaving_frees_everything_held_for_a_subscriber(hub):
    selectors = (Selector(frozenset(["a"]), "p", "r"), ALL)
    for selector in selectors:
        with hub.subscribe(selector) as subscription:
            hub.publish([forecast("a", 1)])
        hub.leave(subscription)  # a second time does no harm
    assert len(hub) == 0
    for index in (hub._all, hub._by_id, hub._by_prefix, hub._by_region, hub._seen, hub._prefix_lengths):
        assert not index


@pytest.mark.parametrize("selector", [Selector(frozenset(["a"])), Selector(prefix="a"), Selector(region="r"), ALL])
async def test_a_store_that_is_away_fails_the_snapshot(hub, directory, selector):
    directory.failure = StoreUnavailableError()
    async with following(hub, selector) as updates:
        with pytest.raises(StoreUnavailableError):
            await anext(updates)


async def test_a_stream_outlives_a_store_that_is_away_when_a_region_is_looked_up(hub, directory, clock):
    async with following(hub, Selector(region="r")) as updates:
        await anext(updates)
        directory.failure = StoreUnavailableError()
        directory.regions["a"] = "r"
        hub.publish([forecast("a", 1)])
        waiting = asyncio.create_task(anext(updates))
        while len(directory.info_reads) < 3:
            await asyncio.sleep(0)
            clock.advance(0.1)
        assert not waiting.done()
        directory.failure = None
        while not waiting.done():
            await asyncio.sleep(0)
            clock.advance(0.1)
        assert [prediction.link_id for prediction in waiting.result().predictions] == ["a"]


async def test_an_update_overtaken_while_its_region_could_not_be_looked_up_is_counted(hub, directory, clock):
    async def a_newer_one_comes_and_the_store_is_away():
        directory.pause = None
        hub.publish([forecast("a", 2)])
        raise StoreUnavailableError

    async with following(hub, Selector(region="r")) as updates:
        await anext(updates)
        directory.regions["a"] = "r"
        directory.pause = a_newer_one_comes_and_the_store_is_away
        hub.publish([forecast("a", 1)])
        waiting = asyncio.create_task(anext(updates))
        await settle()
        clock.advance(REGION_RETRY_S)
        update = await waiting
    assert [prediction.made_at_ms for prediction in update.predictions] == [2]
    assert update.skipped_updates == 1


async def test_what_waited_for_a_region_in_vain_does_not_come_after_what_is_newer(hub, directory, clock):
    given_up = asyncio.Event()

    async def first_read_takes_too_long():
        directory.pause = None
        await given_up.wait()
        raise StoreUnavailableError

    async with following(hub, Selector(region="r")) as updates:
        await anext(updates)
        directory.add("a", 1, region="r")
        directory.pause = first_read_takes_too_long
        hub.publish([forecast("a", 1)])
        waiting = asyncio.create_task(anext(updates))
        await settle()
        async with following(hub, Selector(region="r")) as others:  # whose snapshot tells the region of the link
            assert (await anext(others)).predictions
        hub.publish([forecast("a", 2)])
        given_up.set()
        await settle()
        clock.advance(REGION_RETRY_S)
        update = await waiting
        assert [prediction.made_at_ms for prediction in update.predictions] == [2]

        hub.close()
        assert [p.made_at_ms async for update in updates for p in update.predictions] == []
    assert update.skipped_updates == 1


async def test_a_stream_ends_at_the_end_although_a_region_cannot_be_looked_up(hub, directory):
    async with following(hub, Selector(region="r")) as updates:
        await anext(updates)
        directory.failure = StoreUnavailableError()
        hub.publish([forecast("a", 1)])
        hub.close()
        async with asyncio.timeout(5):
            assert not [update async for update in updates if update.predictions]


def test_publishing_costs_nothing_for_those_not_interested(directory, clock):
    """Counted, not timed: only the interested subscriber is offered anything."""
    hub = Subscriptions(directory, max_subscribers=2000, clock=clock, sleep=clock.sleep)
    strangers = [hub.subscribe(Selector(frozenset([f"other-{n}"]), f"foreign-{n}")) for n in range(1000)]
    friend = hub.subscribe(Selector(frozenset(["a"])))
    hub.publish([forecast("a", 1)])
    assert friend._changed.is_set()
    assert not any(stranger._changed.is_set() for stranger in strangers)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["wa", "wb", "ea"])),
        st.tuples(st.just("delay"), st.sampled_from(["wa", "wb", "ea"])),
        st.tuples(st.just("announce"), st.just("")),
        st.tuples(st.just("read"), st.just("")),
        st.tuples(st.just("run"), st.just("")),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([ALL, Selector(frozenset(["wa", "ea"])), Selector(prefix="w"), Selector(region="w")]))
def test_whatever_happens_values_never_go_back_and_the_newest_arrives(steps, selector):
    """Commits reach the store first and are announced later, in order, while snapshots and look-ups are under way."""

    async def scenario():
        directory, clock = FakeDirectory(), Time()
        directory.pause = lambda: asyncio.sleep(0)
        hub = Subscriptions(directory, clock=clock, sleep=clock.sleep)
        newest, announced_later, version = {}, [], 0
        received, pending = [], None
        async with following(hub, selector) as updates:
            for step, link_id in [*steps, ("announce", ""), ("publish", "wa"), ("publish", "wb"), ("publish", "ea")]:
                if step in {"publish", "delay"}:
                    version += 1
                    newest[link_id] = version
                    announced_later.append(directory.add(link_id, version, region=link_id[0]))
                if step in {"publish", "announce"}:
                    hub.publish(announced_later)
                    announced_later = []
                if step == "read" and (pending is None or pending.done()):
                    received += [pending.result()] if pending else []
                    pending = asyncio.create_task(anext(updates))
                if step == "run":
                    await asyncio.sleep(0)
            hub.close()
            if pending:
                received.append(await pending)
            received += [update async for update in updates]
        chosen = {link_id for link_id in newest if selector.names(link_id) or selector.region == link_id[0]}
        seen = {}
        for update in received:
            for prediction in update.predictions:
                assert prediction.made_at_ms >= seen.get(prediction.link_id, 0)
                seen[prediction.link_id] = prediction.made_at_ms
        assert seen == {link_id: newest[link_id] for link_id in chosen}
        skips = [update.skipped_updates for update in received]
        assert skips == sorted(skips)
        assert [update.snapshot_complete for update in received] == sorted(u.snapshot_complete for u in received)

    asyncio.run(scenario())


async def test_who_follows_all_links_is_told_of_each_value_that_was_overtaken(hub):
    async with following(hub, Selector(all=True)) as updates:
        hub.publish([forecast("a", 1), forecast("b", 1)])
        hub.publish([forecast("b", 2), forecast("c", 1)])
        hub.publish([forecast("c", 2), forecast("c", 3)])
        update = await anext(updates)
    assert [(p.link_id, p.made_at_ms) for p in update.predictions] == [("a", 1), ("b", 2), ("c", 3)]
    assert update.skipped_updates == 3
