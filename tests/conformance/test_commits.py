"""What every store does with states, predictions, the ledger and announcements."""

import asyncio
import contextlib

import numpy as np
import pytest

from pba_service.domain.errors import LinkUnknownError
from tests.conformance.tools import (
    DAY_MS,
    MINUTE_MS,
    NOW_MS,
    SHARED,
    Clock,
    commit,
    entry,
    minutes,
    plain,
    prediction,
    read_ledger,
    samples,
    together,
)


@pytest.fixture
async def known(store):
    """A store that knows the links a and b."""
    await store.put(together(samples("a", [NOW_MS]), samples("b", [NOW_MS])))
    return store


async def state(store, link_id="a"):
    [snapshot] = await store.snapshots([link_id], [0])
    return snapshot.state.version, snapshot.state.blob


class TestStates:
    async def test_each_commit_writes_the_next_version(self, known):
        assert await known.commit([commit("a", 0, b"one")]) == [True]
        assert await known.commit([commit("a", 1, b"two")]) == [True]
        assert await state(known) == (2, b"two")

    async def test_of_two_writers_that_read_the_same_one_wins(self, known):
        assert await known.commit([commit("a", 0, b"one")]) == [True]

        lost = commit("a", 0, b"other", prediction("a"), [entry(NOW_MS)])
        assert await known.commit([lost, commit("b", 0, b"b")]) == [False, True]

        assert await state(known) == (1, b"one")
        assert await state(known, "b") == (1, b"b")
        assert await known.newest(["a"]) == [None]
        assert await read_ledger(known, "a") == []

    async def test_a_version_that_never_was_is_refused(self, known):
        assert await known.commit([commit("a", 7, b"x")]) == [False]
        assert await state(known) == (0, b"")

    async def test_a_link_without_samples_has_no_state(self, store):
        assert await store.commit([commit("nobody", 0, b"x", prediction("nobody"))]) == [False]
        assert await store.newest(["nobody"]) == [None]

    async def test_the_state_of_a_link_ends_with_its_samples(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(retention_ms=DAY_MS, clock=clock) as store:
            await store.put(samples("a", [NOW_MS]))
            await store.commit([commit("a", 0, b"old", prediction("a"))])
            clock.now_ms += DAY_MS + 1

            assert await store.newest(["a"]) == [None]
            assert await store.commit([commit("a", 1, b"x")]) == [False]
            await store.put(samples("a", [clock.now_ms]))

            assert await state(store) == (0, b"")

    async def test_commits_of_many_links(self, store):
        links = [f"link-{i}" for i in range(300)]
        await store.put(together(*(samples(link_id, [NOW_MS]) for link_id in links)))

        written = await store.commit(
            [commit(link_id, i % 2, b"x", prediction(link_id, bandwidth=i)) for i, link_id in enumerate(links)]
        )

        assert written == [i % 2 == 0 for i in range(300)]
        newest = await store.newest(links)
        assert [one and float(one.values[0]) for one in newest] == [None if i % 2 else float(i) for i in range(300)]
        assert await store.commit([]) == []

    @SHARED
    async def test_no_update_is_lost_between_writers(self, new_store):
        writers, rounds = 4, 25

        async def count(store):
            for _ in range(rounds):
                while True:
                    version, blob = await state(store)
                    if await store.commit([commit("a", version, str(int(blob or b"0") + 1).encode())]) == [True]:
                        break

        async with contextlib.AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(new_store()) for _ in range(writers)]
            await stores[0].put(samples("a", [NOW_MS]))

            await asyncio.gather(*(count(one) for one in stores))

            assert await state(stores[0]) == (writers * rounds, str(writers * rounds).encode())


class TestNewest:
    async def test_a_prediction_comes_back_as_it_was(self, known):
        one = prediction("a", model_version="2026.11.03-ü")

        await known.commit([commit("a", newest=one)])

        [found, other, nobody] = await known.newest(["a", "b", "nobody"])
        assert found.same_as(one)
        assert (other, nobody) == (None, None)
        assert await known.newest([]) == []

    async def test_a_commit_without_one_leaves_the_stored_one(self, known):
        await known.commit([commit("a", newest=prediction("a"))])
        await known.commit([commit("a", 1, b"next")])

        assert (await known.newest(["a"]))[0].same_as(prediction("a"))


class TestLedger:
    async def test_entries_come_back_in_order(self, known):
        targets = minutes(3_000)
        entries = [entry(target, bandwidth=i, model_version=f"v{i % 3}") for i, target in enumerate(targets)]

        await known.commit([commit("a", 0, ledger=entries[1_500:])])
        await known.commit([commit("a", 1, ledger=list(reversed(entries[:1_500])))])

        found = await read_ledger(known, "a")
        assert [plain(one) for one in found] == [plain(one) for one in entries]
        assert found[7].predicted.dtype == np.float32

    async def test_an_entry_of_the_same_target_is_replaced(self, known):
        await known.commit([commit("a", 0, ledger=[entry(NOW_MS), entry(NOW_MS - 1)])])
        await known.commit([commit("a", 1, ledger=[entry(NOW_MS, bandwidth=7, model_version="v2")])])

        found = await read_ledger(known, "a")
        assert [plain(one) for one in found] == [
            plain(entry(NOW_MS - 1)), plain(entry(NOW_MS, bandwidth=7, model_version="v2")),
        ]  # fmt: skip

    async def test_it_is_cut_at_its_ends(self, known):
        targets = minutes(2_000)
        await known.commit([commit("a", ledger=[entry(target) for target in targets])])

        found = await read_ledger(known, "a", targets[100], targets[1_900])
        assert [one.target_ms for one in found] == targets[100:1_900]
        assert await read_ledger(known, "a", targets[5], targets[5]) == []

    async def test_it_ends_at_its_own_retention(self, new_store):
        clock = Clock(NOW_MS)
        async with new_store(ledger_retention_ms=DAY_MS, clock=clock) as store:
            await store.put(samples("a", [NOW_MS]))
            old, young = entry(NOW_MS - DAY_MS + MINUTE_MS), entry(NOW_MS - MINUTE_MS)
            await store.commit([commit("a", ledger=[old, young, entry(NOW_MS - 9 * DAY_MS)])])
            assert [one.target_ms for one in await read_ledger(store, "a")] == [old.target_ms, young.target_ms]

            clock.now_ms += 2 * MINUTE_MS

            assert [one.target_ms for one in await read_ledger(store, "a")] == [young.target_ms]

    async def test_links_have_their_own(self, known):
        await known.commit([commit("a", ledger=[entry(NOW_MS)])])

        assert await read_ledger(known, "b") == []
        with pytest.raises(LinkUnknownError):
            await read_ledger(known, "nobody")


class Follower:
    """Reads announcements in the background."""

    def __init__(self, store):
        self._stream = store.announcements()
        self.heard = []
        self._task = None

    async def __aenter__(self):
        assert await anext(self._stream) == []
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stream.aclose()

    async def _read(self):
        async for predictions in self._stream:
            assert predictions
            self.heard += predictions

    async def hears(self, link_id, bandwidth):
        async with asyncio.timeout(5):
            while not any((one.link_id, one.values[0]) == (link_id, bandwidth) for one in self.heard):
                assert not self._task.done(), self._task
                await asyncio.sleep(0.005)

    async def wait_for(self, count):
        async with asyncio.timeout(5):
            while len(self.heard) < count:  # noqa: ASYNC110 - a helper of tests may poll
                await asyncio.sleep(0.005)
        return [(one.link_id, float(one.values[0])) for one in self.heard]


class TestAnnouncements:
    async def test_each_commit_is_announced_to_everyone(self, known):
        async with Follower(known) as one, Follower(known) as two:
            await known.commit([commit("a", newest=prediction("a", bandwidth=1)), commit("b", 9)])
            await known.commit([commit("b", newest=prediction("b", bandwidth=2))])

            assert await one.wait_for(2) == [("a", 1.0), ("b", 2.0)]
            assert await two.wait_for(2) == [("a", 1.0), ("b", 2.0)]
            assert one.heard[0].same_as(prediction("a", bandwidth=1))

    async def test_only_what_was_written_since_is_announced(self, known):
        await known.commit([commit("a", newest=prediction("a", bandwidth=1))])

        async with Follower(known) as follower:
            assert await known.commit([commit("a", 0, b"lost", prediction("a", bandwidth=2))]) == [False]
            await known.commit([commit("a", 1, b"without a prediction")])
            await known.commit([commit("a", 2, b"x", prediction("a", bandwidth=3))])

            assert await follower.wait_for(1) == [("a", 3.0)]

    @SHARED
    async def test_another_replica_hears_it(self, new_store):
        async with new_store() as one, new_store() as two, Follower(two) as follower:
            await one.put(samples("a", [NOW_MS]))
            await one.commit([commit("a", newest=prediction("a"))])

            assert await follower.wait_for(1) == [("a", 100.0)]


async def test_a_store_that_works_says_so(store):
    await store.check()
