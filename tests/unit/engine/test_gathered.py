"""Reads of many subscribers are shared, and none of them is older than its reader."""

import asyncio

import pytest

from pba_service.domain.errors import StoreUnavailableError
from pba_service.engine.gathered import LINKS_PER_READ, Gathered


class SlowDirectory:
    """Answers when told to, with the number of the read."""

    def __init__(self):
        self.reads, self.let_go, self.fails = [], asyncio.Event(), False

    async def _read(self, what):
        self.reads.append(what)
        number = len(self.reads)
        await self.let_go.wait()
        if self.fails:
            raise StoreUnavailableError
        return number

    async def newest(self, link_ids):
        number = await self._read(list(link_ids))
        return [f"{link_id}/{number}" for link_id in link_ids]

    async def links(self, *, prefix, region, after, limit):
        return [await self._read((prefix, region, after, limit))]

    async def link_infos(self, link_ids):
        return [None for _ in link_ids]


@pytest.fixture
def slow():
    return SlowDirectory()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def page(directory, prefix=""):
    return asyncio.ensure_future(directory.links(prefix=prefix, region="", after="", limit=10))


async def test_readers_of_a_page_that_come_together_share_one_read(slow):
    gathered = Gathered(slow)
    readers = [page(gathered) for _ in range(100)]
    await settle()
    slow.let_go.set()
    assert await asyncio.gather(*readers) == [[1]] * 100
    assert len(slow.reads) == 1


async def test_a_read_that_is_under_way_is_too_old_for_who_comes_later(slow):
    gathered = Gathered(slow)
    first = page(gathered)
    await settle()
    later = [page(gathered) for _ in range(50)]
    await settle()
    slow.let_go.set()
    assert await first == [1]
    assert await asyncio.gather(*later) == [[2]] * 50
    assert len(slow.reads) == 2


async def test_pages_of_different_links_are_read_apart(slow):
    slow.let_go.set()
    gathered = Gathered(slow)
    assert await asyncio.gather(page(gathered, "a"), page(gathered, "b")) == [[1], [2]]


async def test_single_links_of_many_readers_are_read_in_few_round_trips(slow):
    gathered = Gathered(slow)
    count = LINKS_PER_READ + 10
    readers = [asyncio.ensure_future(gathered.newest([f"l{i}", "all"])) for i in range(count)]
    await settle()
    slow.let_go.set()
    found = await asyncio.gather(*readers)
    assert [one[0].split("/")[0] for one in found] == [f"l{i}" for i in range(count)]
    assert {one[1].split("/")[0] for one in found} == {"all"}
    assert [len(read) for read in slow.reads] == [LINKS_PER_READ, 11]


async def test_a_reader_that_goes_leaves_the_others_theirs(slow):
    gathered = Gathered(slow)
    going, staying = page(gathered), page(gathered)
    await settle()
    going.cancel()
    slow.let_go.set()
    assert await staying == [1]


async def test_a_failure_is_everybodys_and_the_next_read_is_tried(slow):
    gathered = Gathered(slow)
    slow.fails = True
    slow.let_go.set()
    for result in await asyncio.gather(page(gathered), page(gathered), return_exceptions=True):
        assert isinstance(result, StoreUnavailableError)
    slow.fails = False
    assert await page(gathered) == [2]
