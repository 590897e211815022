"""What every store does with outcomes of transport parameters."""

import asyncio
import contextlib

import pytest

from pba_service.domain.amst.feedback import TransferOutcome
from pba_service.domain.errors import LinkUnknownError
from tests.conformance.tools import DAY_MS, MINUTE_MS, NOW_MS, SHARED, Clock, minutes, samples, together


def outcome(ended_at_ms=NOW_MS, link_id="a", achieved=80.0, pacing=95.5):
    return TransferOutcome(
        link_id, ended_at_ms - MINUTE_MS, ended_at_ms, 4, 65_536, pacing, 90.0, achieved, 0.01, 0.001
    )


async def test_outcomes_come_back_as_they_were_in_order_of_their_ends(store):
    await store.put(samples("a", minutes(1)))
    stored = [outcome(NOW_MS - 2 * MINUTE_MS), outcome(pacing=None), outcome(NOW_MS - MINUTE_MS)]
    for one in stored:
        await store.add_outcome(one)
    assert await store.outcomes("a") == [stored[0], stored[2], stored[1]]


async def test_the_same_end_again_replaces(store):
    await store.put(samples("a", minutes(1)))
    for achieved in (1.0, 2.0, 2.0):
        await store.add_outcome(outcome(achieved=achieved))
    assert await store.outcomes("a") == [outcome(achieved=2.0)]


async def test_the_newest_64_are_kept(store):
    await store.put(samples("a", minutes(1)))
    ends = [NOW_MS - i * MINUTE_MS for i in range(70)]
    for end in ends:
        await store.add_outcome(outcome(end))
    assert [one.ended_at_ms for one in await store.outcomes("a")] == sorted(ends)[-64:]


async def test_outcomes_belong_to_their_link(store):
    await store.put(samples("a", minutes(1)))
    await store.put(samples("b", minutes(1)))
    await store.add_outcome(outcome(link_id="b"))
    assert await store.outcomes("a") == []


async def test_an_unknown_link_has_none_and_gets_none(store):
    with pytest.raises(LinkUnknownError):
        await store.outcomes("a")
    with pytest.raises(LinkUnknownError):
        await store.add_outcome(outcome())


async def test_outcomes_expire_and_so_do_their_links(new_store):
    clock = Clock(NOW_MS)
    async with new_store(clock=clock, retention_ms=DAY_MS) as store:
        await store.put(samples("a", minutes(1)))
        await store.add_outcome(outcome())
        clock.now_ms = NOW_MS + DAY_MS // 2
        await store.put(samples("a", [clock.now_ms]))
        assert await store.outcomes("a") == [outcome()]
        clock.now_ms = NOW_MS + DAY_MS + 1
        assert await store.outcomes("a") == []
        clock.now_ms = NOW_MS + 2 * DAY_MS
        with pytest.raises(LinkUnknownError):
            await store.outcomes("a")


async def test_a_number_tells_of_new_outcomes(store):
    await store.put(together(samples("a", [NOW_MS]), samples("b", [NOW_MS])))
    seen = [(store.outcomes_heard("a"), store.outcomes_heard("b"))]
    for achieved in (1.0, 2.0):
        await store.add_outcome(outcome(achieved=achieved))
        seen.append((store.outcomes_heard("a"), store.outcomes_heard("b")))
    assert len({a for a, _ in seen}) == 3
    assert len({b for _, b in seen}) == 1


@SHARED
async def test_other_replicas_hear_of_outcomes(new_store):
    async with new_store() as one, new_store() as two:
        stream = two.announcements()
        assert await anext(stream) == []
        heard = two.outcomes_heard("a")
        await one.put(samples("a", [NOW_MS]))
        await one.add_outcome(outcome())
        following = asyncio.create_task(anext(stream))
        async with asyncio.timeout(10):
            while two.outcomes_heard("a") == heard:  # noqa: ASYNC110 - the store is asked
                await asyncio.sleep(0.005)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
