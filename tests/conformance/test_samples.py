"""What every store does with samples."""

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pba_service.domain.errors import CapacityExceededError, LinkUnknownError
from pba_service.domain.samples import LinkInfo, SampleBatch
from pba_service.engine.ports import Outcome
from tests.conformance.tools import (
    DAY_MS,
    MINUTE_MS,
    NOW_MS,
    SHARED,
    Clock,
    list_ids,
    minutes,
    read,
    samples,
    together,
    values,
)

STORED, DUPLICATE, REPLACED = Outcome

HOSTILE_IDS = [
    "a",
    "a}",
    "}",
    "{",
    "{}",
    "a}:m",
    "a:m",
    "a:h:1",
    "%7D",
    "%",
    "*",
    "a*",
    "[a",
    "?",
    "a b",
    "ü",
    "链路",
    "\U0001f517",
    "\\",
    '"',
]


async def test_it_returns_what_was_stored_in_order_of_time(store):
    times = minutes(1_000)
    shuffled = np.random.default_rng(1).permutation(1_000)
    batch = samples("a", times)
    mixed = SampleBatch(
        batch.links, batch.link_index, batch.measured_at_ms[shuffled], batch.values[shuffled], batch.present[shuffled]
    )

    result = await store.put(mixed)

    assert result.outcomes.dtype == np.uint8
    assert (result.outcomes == STORED).all()
    series = await read(store, "a")
    assert series.times_ms.tolist() == times
    assert np.array_equal(series.values, batch.values, equal_nan=True)
    assert (series.times_ms.dtype, series.values.dtype) == (np.int64, np.float32)


async def test_what_was_not_measured_stays_apart_from_zero(store):
    rows = np.array([[0, np.nan, 0, np.nan], [np.nan, 3, np.nan, 4]], np.float32)
    present = np.isfinite(rows)
    # what is said to be absent is absent, whatever the number
    batch = SampleBatch(
        (LinkInfo("a"),), np.zeros(2, np.int32), np.array(minutes(2)), np.nan_to_num(rows, nan=7), present
    )

    await store.put(batch)

    assert np.array_equal((await read(store, "a")).values, rows, equal_nan=True)


async def test_the_same_samples_again_are_duplicates_and_others_replace(store):
    times = minutes(3)
    await store.put(samples("a", times, [1, 2, 3]))

    again = await store.put(samples("a", times, [1, 5, 3]))

    assert again.outcomes.tolist() == [DUPLICATE, REPLACED, DUPLICATE]
    assert (await read(store, "a")).values[:, 0].tolist() == [1, 5, 3]
    assert (await store.put(samples("a", times, [1, 5, 3]))).outcomes.tolist() == [DUPLICATE] * 3


async def test_minus_zero_and_another_nan_are_no_correction(store):
    await store.put(samples("a", [NOW_MS], [0.0]))

    rows = np.array([[-0.0, 20, 0, np.nan]], np.float32)
    rows.view(np.uint32)[0, 3] |= 1  # another of the many NaNs
    again = await store.put(
        SampleBatch((LinkInfo("a"),), np.zeros(1, np.int32), np.array([NOW_MS]), rows, np.isfinite(rows))
    )

    assert again.outcomes.tolist() == [DUPLICATE]


async def test_of_one_time_in_one_batch_the_later_wins(store):
    batch = samples("a", [NOW_MS, NOW_MS - 1, NOW_MS, NOW_MS, NOW_MS], [1, 9, 1, 2, 2])

    result = await store.put(batch)

    assert result.outcomes.tolist() == [STORED, STORED, DUPLICATE, REPLACED, DUPLICATE]
    assert (await read(store, "a")).values[:, 0].tolist() == [9, 2]


async def test_two_samples_within_a_minute_both_stay(store):
    times = [NOW_MS - 2, NOW_MS - 1, NOW_MS]

    await store.put(samples("a", times))

    assert (await read(store, "a")).times_ms.tolist() == times


async def test_late_samples_take_their_place(store):
    times = minutes(600)
    await store.put(samples("a", times[1::2], range(1, 600, 2)))

    result = await store.put(samples("a", times[0::2], range(0, 600, 2)))

    assert (result.outcomes == STORED).all()
    series = await read(store, "a")
    assert series.times_ms.tolist() == times
    assert series.values[:, 0].tolist() == list(range(600))


async def test_history_is_cut_at_its_ends(store):
    times = minutes(500)
    await store.put(samples("a", times))

    assert (await read(store, "a", times[100], times[400])).times_ms.tolist() == times[100:400]
    assert (await read(store, "a", times[100] + 1, times[400] + 1)).times_ms.tolist() == times[101:401]
    assert (await read(store, "a", None, times[3])).times_ms.tolist() == times[:3]
    assert (await read(store, "a", times[497], None)).times_ms.tolist() == times[497:]
    for start, end in ((NOW_MS + 1, None), (None, times[0]), (times[9], times[9]), (times[9], times[3]), (None, -5)):
        assert not len(await read(store, "a", start, end))


async def test_a_long_history_comes_in_chunks(store, new_store):
    times = [NOW_MS - 40_000 * i for i in reversed(range(60_000))]
    async with new_store(max_samples=70_000) as roomy:
        await roomy.put(samples("a", times))

        sizes = [len(chunk) async for chunk in roomy.history("a", None, None)]

        assert sum(sizes) == 60_000
        assert 1 < len(sizes) < 20
        assert (await read(roomy, "a")).values[:, 0].tolist() == list(range(60_000))


async def test_who_stops_reading_a_long_history_leaves_nothing_behind(new_store):
    async with new_store(max_samples=70_000) as roomy:
        await roomy.put(samples("a", [NOW_MS - 40_000 * i for i in reversed(range(60_000))]))
        before = asyncio.all_tasks()

        for _ in range(20):  # more than there are connections
            chunks = roomy.history("a", None, None)
            first = await anext(chunks)
            await chunks.aclose()
            assert first.values[0, 0] == 0

        assert asyncio.all_tasks() == before
        assert len(await read(roomy, "a")) == 60_000


async def test_the_history_of_an_unknown_link_is_an_error(store):
    with pytest.raises(LinkUnknownError):
        await read(store, "nobody")


async def test_many_links_in_one_batch_do_not_mix(store):
    links = [f"link-{i}" for i in range(300)]
    times = minutes(7)
    batch = together(*(samples(link_id, times, [i] * 7) for i, link_id in enumerate(links)))
    order = np.random.default_rng(2).permutation(len(batch))
    batch = SampleBatch(
        batch.links, batch.link_index[order], batch.measured_at_ms[order], batch.values[order], batch.present[order]
    )

    assert not (await store.put(batch)).outcomes.any()

    for i in (0, 1, 150, 299):
        series = await read(store, links[i])
        assert series.times_ms.tolist() == times
        assert series.values[:, 0].tolist() == [i] * 7


async def test_an_empty_batch_is_nothing(store):
    nothing = samples("a", [])

    assert len((await store.put(nothing)).outcomes) == 0
    assert await list_ids(store) == []


async def test_hostile_ids_neither_collide_nor_break(store):
    for i, link_id in enumerate(HOSTILE_IDS):
        await store.put(samples(link_id, minutes(2), [i, i]))

    for i, link_id in enumerate(HOSTILE_IDS):
        assert (await read(store, link_id)).values[:, 0].tolist() == [i, i]
    assert await list_ids(store) == sorted(HOSTILE_IDS)
    assert await list_ids(store, prefix="a") == sorted(link_id for link_id in HOSTILE_IDS if link_id.startswith("a"))


class TestCount:
    async def test_the_oldest_beyond_the_bound_go(self, new_store):
        async with new_store(max_samples=300) as store:
            times = minutes(1_000)
            for first in range(0, 1_000, 50):
                await store.put(samples("a", times[first : first + 50], range(first, first + 50)))
                kept = await read(store, "a")
                assert kept.times_ms.tolist() == times[max(first - 250, 0) : first + 50]
                assert (await store.links(prefix="", region="", after="", limit=1))[0].sample_count == len(kept)

    async def test_a_batch_beyond_the_bound_keeps_its_newest(self, new_store):
        async with new_store(max_samples=300) as store:
            times = minutes(1_000)

            result = await store.put(samples("a", times))

            assert not result.outcomes.any()
            assert (await read(store, "a")).times_ms.tolist() == times[-300:]

    async def test_a_sample_older_than_all_of_a_full_link_goes(self, new_store):
        async with new_store(max_samples=300) as store:
            times = minutes(1_000)
            await store.put(samples("a", times[-300:], range(300)))

            for position in (0, 500, 698, 699):
                assert (await store.put(samples("a", [times[position]], [7]))).outcomes.tolist() == [STORED]

            assert (await read(store, "a")).values[:, 0].tolist() == list(range(300))

    async def test_a_late_sample_in_a_full_link_costs_the_oldest(self, new_store):
        async with new_store(max_samples=300) as store:
            times = minutes(301)
            await store.put(samples("a", [*times[:150], *times[151:]]))

            await store.put(samples("a", [times[150]]))

            assert (await read(store, "a")).times_ms.tolist() == times[1:]

    @SHARED
    async def test_a_smaller_bound_holds_from_the_next_sample_on(self, new_store):
        async with new_store() as roomy, new_store(max_samples=10) as tight:
            await roomy.put(samples("a", minutes(1_000, NOW_MS - MINUTE_MS)))
            await tight.put(samples("a", [NOW_MS]))

            assert (await read(roomy, "a")).times_ms.tolist() == minutes(10)

    @SHARED
    async def test_a_larger_bound_takes_older_samples_again(self, new_store):
        times = minutes(1_000)
        async with new_store() as roomy, new_store(max_samples=100) as tight:
            await tight.put(samples("a", times))
            assert (await read(tight, "a")).times_ms.tolist() == times[-100:]

            again = await roomy.put(samples("a", times))

            assert (again.outcomes == STORED).sum() == 900
            assert (await read(roomy, "a")).values[:, 0].tolist() == list(range(1_000))


class TestAge:
    async def test_samples_end_at_the_retention(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(retention_ms=2 * DAY_MS, clock=clock) as store:
            times = minutes(1_440)
            await store.put(samples("a", times))

            clock.now_ms += DAY_MS + 12 * 3_600_000

            alive = [time_ms for time_ms in times if time_ms >= clock.now_ms - 2 * DAY_MS]
            assert (await read(store, "a")).times_ms.tolist() == alive
            [summary] = await store.links(prefix="", region="", after="", limit=10)
            assert summary.sample_count == len(alive) == 721
            [snapshot] = await store.snapshots(["a"], [10 * DAY_MS])
            assert snapshot.recent.times_ms.tolist() == alive

            await store.put(samples("a", [clock.now_ms]))
            assert (await read(store, "a")).times_ms.tolist() == [*alive, clock.now_ms]
            [summary] = await store.links(prefix="", region="", after="", limit=10)
            assert summary.sample_count == 722

    async def test_a_sample_beyond_the_retention_is_not_kept(self, store):
        result = await store.put(samples("a", [NOW_MS - 30 * DAY_MS - 1, NOW_MS - 30 * DAY_MS]))

        assert result.outcomes.tolist() == [STORED, STORED]
        assert (await read(store, "a")).times_ms.tolist() == [NOW_MS - 30 * DAY_MS]

    async def test_a_link_whose_samples_have_all_expired_is_unknown(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(retention_ms=DAY_MS, clock=clock) as store:
            await store.put(samples("a", minutes(10), region="r"))
            clock.now_ms += DAY_MS + 1

            assert await list_ids(store) == []
            assert await list_ids(store, region="r") == []
            assert await store.snapshots(["a"], [DAY_MS]) == [None]
            assert await store.link_infos(["a"]) == [None]
            with pytest.raises(LinkUnknownError):
                await read(store, "a")

            await store.put(samples("a", [clock.now_ms], region="r"))
            assert await list_ids(store) == ["a"]
            assert await list_ids(store, region="r") == ["a"]
            assert (await read(store, "a")).times_ms.tolist() == [clock.now_ms]


class TestBoundOnLinks:
    async def test_a_new_link_beyond_the_bound_is_refused_and_known_ones_are_served(self, new_store):
        async with new_store(max_links=2) as store:
            await store.put(samples("a", [NOW_MS]))
            await store.put(samples("b", [NOW_MS]))

            with pytest.raises(CapacityExceededError, match="2"):
                await store.put(samples("c", [NOW_MS]))

            assert (await store.put(samples("a", [NOW_MS - 1]))).outcomes.tolist() == [STORED]
            assert await list_ids(store) == ["a", "b"]

    async def test_a_batch_that_is_refused_leaves_nothing(self, new_store):
        async with new_store(max_links=2) as store:
            await store.put(samples("a", [NOW_MS]))

            with pytest.raises(CapacityExceededError):
                await store.put(together(*(samples(link_id, [NOW_MS - 1]) for link_id in "abc")))

            assert await list_ids(store) == ["a"]
            assert (await read(store, "a")).times_ms.tolist() == [NOW_MS]

    async def test_a_link_that_has_expired_makes_room(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(max_links=1, retention_ms=DAY_MS, clock=clock) as store:
            await store.put(samples("a", [NOW_MS]))
            clock.now_ms += 2 * DAY_MS

            await store.put(samples("b", [clock.now_ms]))

            assert await list_ids(store) == ["b"]

    async def test_links_that_expired_need_room_like_new_ones(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(max_links=2, clock=clock, retention_ms=DAY_MS) as store:
            await store.put(together(*(samples(link_id, [clock.now_ms]) for link_id in "ab")))
            clock.now_ms += DAY_MS + MINUTE_MS
            await store.put(together(*(samples(link_id, [clock.now_ms]) for link_id in "cd")))

            for link_id in "ab":
                with pytest.raises(CapacityExceededError):
                    await store.put(samples(link_id, [clock.now_ms]))

            assert await list_ids(store) == ["c", "d"]

    @SHARED
    async def test_links_that_another_process_found_expired_need_room_as_well(self, new_store):
        clock = Clock(NOW_MS)
        options = {"max_links": 2, "clock": clock, "retention_ms": DAY_MS}
        async with new_store(**options) as one, new_store(**options) as other:
            await one.put(together(*(samples(link_id, [clock.now_ms]) for link_id in "ab")))
            clock.now_ms += DAY_MS + MINUTE_MS
            await other.put(together(*(samples(link_id, [clock.now_ms]) for link_id in "cd")))

            with pytest.raises(CapacityExceededError):
                await one.put(samples("a", [clock.now_ms]))


@SHARED
async def test_replicas_may_write_one_link_at_once(new_store):
    times = minutes(400)
    async with new_store(max_samples=300) as one, new_store(max_samples=300) as two:
        results = await asyncio.gather(
            *(one.put(samples("a", times[first::8], range(first, 400, 8))) for first in range(8)),
            *(two.put(samples("a", times[first::5], range(first, 400, 5))) for first in range(5)),
        )

        series = await read(one, "a")
        assert series.times_ms.tolist() == times[-300:]
        assert series.values[:, 0].tolist() == list(range(100, 400))
        assert not any((result.outcomes == REPLACED).any() for result in results)


operation = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3)),  # when, in units that cross buckets, and which value
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(operation, max_size=8), max_samples=st.integers(1, 50))
async def test_any_sequence_of_batches_gives_what_a_dictionary_would(new_store, batches, max_samples):
    step_ms = 47 * MINUTE_MS
    link_id = f"link-{np.random.default_rng().integers(2**62)}"
    expected = {}
    async with new_store(max_samples=max_samples) as store:
        for batch in batches:
            times = [NOW_MS - step_ms * when for when, _ in batch]
            outcomes = []
            for time_ms, (_, value) in zip(times, batch, strict=True):
                outcomes.append(
                    STORED if time_ms not in expected else DUPLICATE if expected[time_ms] == value else REPLACED
                )
                expected[time_ms] = value
            expected = dict(sorted(expected.items())[-max_samples:])

            result = await store.put(samples(link_id, times, [value for _, value in batch]))

            assert result.outcomes.tolist() == outcomes
            series = await read(store, link_id)
            assert series.times_ms.tolist() == list(expected)
            assert np.array_equal(series.values, values(*expected.values()), equal_nan=True)
            [summary] = await store.links(prefix=link_id, region="", after="", limit=1)
            assert summary.sample_count == len(expected)
