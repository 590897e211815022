"""Announcements are followed to their end before this counts as having heard of everything."""

from contextlib import aclosing

from pba_service.storage.connect import open_server
from pba_service.storage.events import Followed, Own, announce, follow
from tests.conformance.tools import prediction

MORE_THAN_ARE_READ_AT_ONCE = 100


async def nothing():
    for page in ():
        yield page


async def test_who_is_so_far_behind_that_announcements_were_trimmed_reads_everything(redis_server):
    server, followed = open_server(redis_server.url, 5.0), Followed()
    made = [prediction(f"link-{number}") for number in range(900)]

    async def everything():
        yield made

    async with aclosing(follow(server, everything, followed=followed, reconcile_every_s=0)) as stream:
        assert await anext(stream) == []
        await announce(server, [prediction("first")], Own())
        assert [one.link_id for one in await anext(stream)] == ["first"]
        for one in made:
            await announce(server, [one], Own())
        await announce(server, [prediction("many")] * 256, Own())  # of entries so large fewer are kept
        heard = set()
        while "many" not in heard:
            heard.update(one.link_id for one in await anext(stream))
            assert not followed.recently
        assert heard == {"many", *(one.link_id for one in made)}
        await announce(server, [prediction("last")], Own())
        assert [one.link_id for one in await anext(stream)] == ["last"]
        assert followed.recently
    await server.close()


async def test_who_has_not_read_to_the_end_has_not_heard_of_everything(redis_server):
    server, followed = open_server(redis_server.url, 5.0), Followed()
    async with aclosing(follow(server, nothing, followed=followed)) as stream:
        assert await anext(stream) == []
        for number in range(MORE_THAN_ARE_READ_AT_ONCE):
            await announce(server, [prediction(f"link-{number}")], Own())
        heard = [one.link_id for one in await anext(stream)]
        assert not followed.recently
        heard += [one.link_id for one in await anext(stream)]
        assert not followed.recently  # what came last has not been taken in yet
        assert heard == [f"link-{number}" for number in range(MORE_THAN_ARE_READ_AT_ONCE)]
        await announce(server, [prediction("last")], Own())
        assert [one.link_id for one in await anext(stream)] == ["last"]
        assert followed.recently
    await server.close()
