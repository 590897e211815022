"""What lets a process know that what it remembers of a link is still all there is."""

import pytest

from pba_service.engine.ports import CHANGES_MODULUS, UNKNOWN_CHANGES
from tests.conformance.tools import DAY_MS, MINUTE_MS, NOW_MS, SHARED, minutes, samples, together


async def changes(store, link_id):
    [snapshot] = await store.snapshots([link_id], [0])
    return snapshot.changes


class TestChanges:
    async def test_each_sample_stored_or_replaced_counts(self, store):
        await store.put(samples("a", minutes(10)))
        first = await changes(store, "a")

        for times, bandwidths, more in (
            ([NOW_MS + MINUTE_MS], [1], 1),
            ([NOW_MS + MINUTE_MS], [1], 0),
            ([NOW_MS + MINUTE_MS], [2], 1),
            (minutes(3, NOW_MS + 4 * MINUTE_MS), [1, 2, 3], 3),
            ([NOW_MS - 30 * MINUTE_MS], [9], 1),
        ):
            before = await changes(store, "a")
            result = await store.put(samples("a", times, bandwidths))
            assert result.changes.tolist() == [before]
            assert await changes(store, "a") == (before + more) % CHANGES_MODULUS
        assert await changes(store, "a") != first

    async def test_each_link_has_its_own_number_in_the_order_of_the_batch(self, store):
        await store.put(together(samples("a", minutes(3)), samples("b", minutes(2)), samples("c", minutes(1))))
        before = {link_id: await changes(store, link_id) for link_id in "abc"}

        result = await store.put(together(*(samples(link_id, [NOW_MS + MINUTE_MS]) for link_id in "cab")))

        assert result.changes.tolist() == [before[link_id] for link_id in "cab"]

    async def test_dropped_samples_of_a_short_link_make_it_unknown(self, new_store):
        async with new_store(max_samples=100) as store:
            await store.put(samples("a", minutes(100)))
            result = await store.put(samples("a", [NOW_MS + MINUTE_MS]))
            assert result.changes.tolist() == [UNKNOWN_CHANGES]

    @pytest.mark.parametrize("max_samples", [1_100, 1_350, 1_426])
    async def test_dropped_samples_that_forecasts_look_at_a_day_later_make_it_unknown(self, new_store, max_samples):
        async with new_store(max_samples=max_samples) as store:
            await store.put(samples("a", minutes(max_samples)))
            result = await store.put(samples("a", [NOW_MS + MINUTE_MS]))
            assert result.changes.tolist() == [UNKNOWN_CHANGES]

    async def test_a_link_that_comes_back_is_another_one(self, new_store):
        async with new_store(retention_ms=DAY_MS) as store:
            await store.put(samples("a", minutes(2)))
            old = await changes(store, "a")
            store._clock.now_ms += 2 * DAY_MS
            result = await store.put(samples("a", minutes(2, NOW_MS + 2 * DAY_MS)))
            assert old not in {result.changes[0], await changes(store, "a")}

    @SHARED
    async def test_what_another_store_wrote_counts_as_well(self, new_store):
        async with new_store() as one, new_store() as other:
            await one.put(samples("a", minutes(5)))
            known = await changes(one, "a")
            await other.put(samples("a", [NOW_MS + MINUTE_MS]))
            result = await one.put(samples("a", [NOW_MS + 2 * MINUTE_MS]))
            assert result.changes.tolist() == [known + 1]


class TestBesides:
    async def test_a_stretch_before_the_context_is_read_with_it(self, store):
        await store.put(samples("a", minutes(2_000)))

        [snapshot] = await store.snapshots(["a"], [60 * MINUTE_MS], [(1_420 * MINUTE_MS, 1_400 * MINUTE_MS)])

        assert snapshot.recent.times_ms.tolist() == minutes(61)
        assert snapshot.besides.times_ms.tolist() == minutes(21, NOW_MS - 1_400 * MINUTE_MS)
        assert snapshot.besides.values[:, 0].tolist() == list(range(2_000 - 1_421, 2_000 - 1_400))
        assert snapshot.oldest_ms == NOW_MS - 1_999 * MINUTE_MS

    @pytest.mark.parametrize(
        ("since", "until", "expected"),
        [(30, 5, minutes(20, NOW_MS - 11 * MINUTE_MS)), (10, 0, []), (500, 400, []), (5, 30, [])],
        ids=["overlapping the context", "within the context", "before the link began", "upside down"],
    )
    async def test_no_sample_comes_twice(self, store, since, until, expected):
        await store.put(samples("a", minutes(300)))

        [snapshot] = await store.snapshots(["a"], [10 * MINUTE_MS], [(since * MINUTE_MS, until * MINUTE_MS)])

        assert snapshot.recent.times_ms.tolist() == minutes(11)
        assert snapshot.besides.times_ms.tolist() == expected
