"""Links that one node may make."""

import asyncio

import pytest

from pba_service.access.callers import caller_of
from pba_service.access.links import MAX_REGIONS, UNCOUNTED_S, LinkBound
from pba_service.domain.errors import CapacityExceededError
from pba_service.domain.samples import LinkInfo

NODE = caller_of("n", {"roles": ["node"]})
OTHER = caller_of("m", {"roles": ["node"]})
ADMIN = caller_of("a", {"roles": ["admin"]})
GIVEN = caller_of("g", {"roles": ["node"], "links": ["x", "y"]})


class FakeStore:
    def __init__(self):
        self.links = set()
        self.asked = 0

    async def link_infos(self, link_ids):
        self.asked += 1
        await asyncio.sleep(0)
        return [LinkInfo(link_id) if link_id in self.links else None for link_id in link_ids]

    async def link_count(self, prefix):
        return sum(link_id.startswith(prefix) for link_id in self.links)


@pytest.fixture
def store():
    return FakeStore()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bound(store, clock):
    return LinkBound(store, 3, clock)


def ids(*numbers, of="n"):
    return [f"{of}/{number}" for number in numbers]


async def push(bound, store, caller, link_ids, regions=()):
    await bound.admit(caller, link_ids, regions)
    store.links.update(link_ids)


async def test_a_node_makes_so_many_links_and_no_more(bound, store, clock):
    await push(bound, store, NODE, ids(1, 2, 3))
    clock.now += UNCOUNTED_S
    with pytest.raises(CapacityExceededError) as caught:
        await push(bound, store, NODE, ids(1, 4))
    assert caught.value.retry_after_s
    await push(bound, store, NODE, ids(1, 2, 3))
    await push(bound, store, OTHER, ids(1, of="m"))


async def test_links_that_are_known_cost_no_question(bound, store):
    await push(bound, store, NODE, ids(1, 2))
    asked = store.asked
    for _ in range(5):
        await push(bound, store, NODE, ids(1, 2))
    assert store.asked == asked


async def test_links_that_were_there_before_are_no_new_ones(bound, store):
    store.links.update(ids(1, 2, 3, 4, 5))
    await push(bound, store, NODE, ids(1, 2, 3, 4, 5))
    with pytest.raises(CapacityExceededError):
        await push(bound, store, NODE, ids(6))


async def test_pushes_at_the_same_time_are_counted_together(bound, store):
    results = await asyncio.gather(*(bound.admit(NODE, ids(n), ()) for n in range(10)), return_exceptions=True)
    assert sum(result is None for result in results) == 3


async def test_links_that_room_was_made_for_and_that_never_came_give_it_back(bound, clock):
    await bound.admit(NODE, ids(1, 2, 3), ())
    with pytest.raises(CapacityExceededError):
        await bound.admit(NODE, ids(4), ())
    clock.now += UNCOUNTED_S
    await bound.admit(NODE, ids(4), ())


async def test_links_given_one_by_one_and_admins_are_not_counted(bound, store):
    await push(bound, store, GIVEN, ["x", "y"])
    await push(bound, store, ADMIN, ids(*range(50)))
    assert store.asked == 0


async def test_texts_that_are_no_ids_are_not_remembered(bound, store):
    await bound.admit(NODE, [f"n/{'x' * 200}", "n/\n", ""], ())
    assert store.asked == 0


async def test_regions_are_bounded(bound, store):
    await push(bound, store, NODE, ids(1), [f"r{n}" for n in range(MAX_REGIONS)])
    await push(bound, store, NODE, ids(1), ["r1", ""])
    with pytest.raises(CapacityExceededError, match="regions"):
        await push(bound, store, NODE, ids(1), ["another"])
    await push(bound, store, OTHER, ids(1, of="m"), ["another"])


async def test_regions_of_links_that_are_refused_do_not_count(bound, store):
    for n in range(MAX_REGIONS):
        with pytest.raises(CapacityExceededError, match="links"):
            await push(bound, store, NODE, ids(1, 2, 3, 4), [f"refused {n}"])
    await push(bound, store, NODE, ids(1), ["r1"])


async def test_links_that_never_came_are_no_stock_for_later():
    store, clock = FakeStore(), Clock()
    bound = LinkBound(store, 3, clock)
    for start in range(0, 30, 3):  # the samples are refused, such as for their times: nothing is stored
        await bound.admit(NODE, ids(start, start + 1, start + 2), ())
        clock.now += UNCOUNTED_S
    with pytest.raises(CapacityExceededError):
        await push(bound, store, NODE, ids(*range(30)))
    assert await store.link_count("n/") <= 3


async def test_links_that_expired_count_when_they_come_back():
    store, clock = FakeStore(), Clock()
    bound = LinkBound(store, 3, clock)
    await push(bound, store, NODE, ids(1, 2, 3))
    store.links.clear()
    clock.now += 30 * 86_400
    await push(bound, store, NODE, ids(4, 5, 6))
    clock.now += UNCOUNTED_S
    with pytest.raises(CapacityExceededError):
        await push(bound, store, NODE, ids(1, 2, 3))


async def test_a_prefix_within_another_does_not_count_its_links_twice():
    store, clock = FakeStore(), Clock()
    bound = LinkBound(store, 3, clock)
    caller = caller_of("n", {"roles": ["node"], "links": ["n/*", "n/a/*"]})
    await push(bound, store, caller, ["n/a/1", "n/a/2"])
    clock.now += UNCOUNTED_S
    await push(bound, store, caller, ["n/a/3"])
    assert await store.link_count("n/") == 3
