"""What every store knows of links: what they say of themselves, lists, and what predictions are made from."""

import numpy as np
import pytest

from pba_service.domain.samples import LinkInfo
from tests.conformance.tools import (
    DAY_MS,
    MINUTE_MS,
    NOW_MS,
    SHARED,
    Clock,
    commit,
    list_ids,
    minutes,
    prediction,
    samples,
    together,
)


class TestCount:
    async def test_links_are_counted_by_how_their_ids_begin(self, store):
        for link_id in ("a", "a/1", "a/2", "a/ü", "b/1", "a0"):
            await store.put(samples(link_id, [NOW_MS]))

        assert [await store.link_count(prefix) for prefix in ("a/", "a", "b/", "c", "", "a/ü")] == [3, 5, 1, 0, 6, 1]


class TestInfo:
    async def test_the_newest_non_empty_text_is_kept(self, store):
        await store.put(samples("a", [NOW_MS - 2], node="n1", peer="p1", region="r1"))
        await store.put(samples("a", [NOW_MS - 1], node="n2"))
        await store.put(samples("a", [NOW_MS]))

        assert await store.link_infos(["a"]) == [LinkInfo("a", "n2", "p1", "r1")]

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2)])
    async def test_the_order_in_which_samples_come_does_not_matter(self, store, order):
        said = [
            samples("a", [NOW_MS - 20], node="first", region="first"),
            samples("a", [NOW_MS - 10], node="second"),
            samples("a", [NOW_MS], region="third"),
        ]

        for position in order:
            await store.put(said[position])

        assert await store.link_infos(["a"]) == [LinkInfo("a", "second", "", "third")]

    async def test_a_correction_at_the_same_time_counts(self, store):
        await store.put(samples("a", [NOW_MS], region="wrong"))
        await store.put(samples("a", [NOW_MS], region="right"))

        assert await store.link_infos(["a"]) == [LinkInfo("a", region="right")]

    async def test_unknown_links_have_none(self, store):
        await store.put(samples("b", [NOW_MS], node="ü" * 64))

        assert await store.link_infos(["a", "b", "c"]) == [None, LinkInfo("b", node="ü" * 64), None]
        assert await store.link_infos([]) == []


class TestLists:
    async def test_links_are_listed_in_order_in_pages(self, store):
        ids = [f"{letter}-{i}" for letter in "cab" for i in range(30)]
        await store.put(together(*(samples(link_id, minutes(2)) for link_id in ids)))

        found = []
        while page := await list_ids(store, after=found[-1] if found else "", limit=7):
            assert len(page) <= 7
            found += page

        assert found == sorted(ids)
        assert await list_ids(store, prefix="b-1") == ["b-1", *(f"b-1{i}" for i in range(10))]
        assert await list_ids(store, prefix="b-1", after="b-15") == [f"b-1{i}" for i in range(6, 10)]
        assert await list_ids(store, prefix="b", after="a-7", limit=2) == ["b-0", "b-1"]
        assert await list_ids(store, prefix="zz") == []
        assert await list_ids(store, prefix="a", after="b") == []

    async def test_a_summary_says_what_is_stored(self, store):
        await store.put(samples("a", minutes(300), node="n", peer="p", region="r"))
        await store.put(samples("b", minutes(1)))
        await store.commit([commit("a", newest=prediction("a"))])

        one, two = await store.links(prefix="", region="", after="", limit=10)

        assert one.info == LinkInfo("a", "n", "p", "r")
        assert one.sample_count == 300
        assert one.newest_sample.times_ms.tolist() == [NOW_MS]
        assert one.newest_sample.values[:, 0].tolist() == [299]
        assert one.newest_prediction.same_as(prediction("a"))
        assert (two.info, two.sample_count, two.newest_prediction) == (LinkInfo("b"), 1, None)

    async def test_a_region_has_the_links_that_are_in_it_now(self, store):
        await store.put(
            together(*(samples(f"{i}", [NOW_MS - 5], region="east" if i % 2 else "west") for i in range(8)))
        )
        await store.put(samples("9", [NOW_MS]))

        assert await list_ids(store, region="east") == ["1", "3", "5", "7"]
        assert await list_ids(store, region="east", after="3", limit=1) == ["5"]
        assert await list_ids(store, region="nowhere") == []

        await store.put(samples("3", [NOW_MS], region="west"))
        await store.put(samples("4", [NOW_MS - 9], region="east"))  # late: it has moved on since

        assert await list_ids(store, region="east") == ["1", "5", "7"]
        assert await list_ids(store, region="west") == ["0", "2", "3", "4", "6"]

        await store.put(samples("3", [NOW_MS + 1], region="east"))
        assert await list_ids(store, region="east") == ["1", "3", "5", "7"]

    @SHARED
    async def test_a_region_known_to_one_replica_is_found_after_another_has_moved_the_link(self, new_store):
        async with new_store() as one, new_store() as two:
            await one.put(samples("a", [NOW_MS - 3], region="x"))
            await two.put(samples("a", [NOW_MS - 2], region="y"))
            assert await list_ids(one, region="x") == []

            await one.put(samples("a", [NOW_MS - 1], region="x"))

            assert await list_ids(two, region="x") == ["a"]
            assert await list_ids(two, region="y") == []

    async def test_regions_and_links_with_the_same_name_stay_apart(self, store):
        await store.put(samples("region:r", [NOW_MS], region="links"))

        assert await list_ids(store, region="links") == ["region:r"]
        assert await list_ids(store) == ["region:r"]


class TestSnapshots:
    async def test_the_context_is_all_samples_within_it_before_the_newest(self, store):
        times = minutes(1_000)
        await store.put(samples("a", times))

        for context_ms in (0, 1, MINUTE_MS, 61 * MINUTE_MS, 4 * 60 * MINUTE_MS, 999 * MINUTE_MS, 30 * DAY_MS):
            [snapshot] = await store.snapshots(["a"], [context_ms])
            wanted = [time_ms for time_ms in times if time_ms >= NOW_MS - context_ms]
            assert snapshot.recent.times_ms.tolist() == wanted
            assert snapshot.recent.values[:, 0].tolist() == list(range(1_000 - len(wanted), 1_000))

    async def test_context_of_a_link_with_long_gaps(self, store):
        times = [NOW_MS - 20 * DAY_MS, NOW_MS - 19 * DAY_MS, NOW_MS - 5]
        await store.put(samples("a", times))

        [snapshot] = await store.snapshots(["a"], [20 * DAY_MS - 6])

        assert snapshot.recent.times_ms.tolist() == times[1:]

    async def test_context_does_not_reach_trimmed_samples(self, new_store):
        async with new_store(max_samples=100) as store:
            await store.put(samples("a", minutes(150)))

            [snapshot] = await store.snapshots(["a"], [DAY_MS])

            assert snapshot.recent.times_ms.tolist() == minutes(100)

    async def test_each_link_has_its_own_context_and_unknown_ones_have_none(self, store):
        links = [f"link-{i}" for i in range(200)]
        await store.put(together(*(samples(link_id, minutes(5), [i] * 5) for i, link_id in enumerate(links))))

        found = await store.snapshots([*links, "nobody"], [*(i % 5 * MINUTE_MS for i in range(200)), 0])

        assert found[-1] is None
        for i, snapshot in enumerate(found[:-1]):
            assert snapshot.link_id == links[i]
            assert snapshot.recent.values[:, 0].tolist() == [i] * (i % 5 + 1)
            assert (snapshot.state.version, snapshot.state.blob, snapshot.newest) == (0, b"", None)

    async def test_state_and_newest_prediction_come_with_it(self, store):
        await store.put(samples("a", [NOW_MS]))
        blob = bytes(range(256)) * 20
        await store.commit([commit("a", blob=blob, newest=prediction("a"))])

        [snapshot] = await store.snapshots(["a"], [0])

        assert (snapshot.state.version, snapshot.state.blob) == (1, blob)
        assert snapshot.newest.same_as(prediction("a"))

    async def test_no_links_no_snapshots(self, store):
        assert await store.snapshots([], []) == []


async def test_what_a_snapshot_holds_does_not_change_with_the_store(store):
    await store.put(samples("a", minutes(3), [1, 2, 3]))
    [snapshot] = await store.snapshots(["a"], [DAY_MS])
    before = snapshot.recent.values.copy()

    await store.put(samples("a", minutes(3), [7, 8, 9]))

    assert np.array_equal(snapshot.recent.values, before, equal_nan=True)


async def test_what_a_link_said_of_itself_ends_with_its_samples(new_store):
    clock = Clock(NOW_MS)
    async with new_store(retention_ms=DAY_MS, clock=clock) as store:
        await store.put(samples("a", [NOW_MS], node="n", peer="p", region="r"))
        clock.now_ms += DAY_MS + 1
        assert await list_ids(store, region="r") == []

        await store.put(samples("a", [clock.now_ms]))

        [info] = await store.link_infos(["a"])
        assert await list_ids(store, region=info.region) == ["a"]
        assert info == LinkInfo("a")
