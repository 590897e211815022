"""Documents that replicas share: written by compare-and-set, on every kind of server."""

import asyncio

import pytest

from pba_service.storage.connect import open_server
from pba_service.storage.documents import RedisDocuments


@pytest.fixture(params=["redis_server", "redis_cluster"])
async def documents(request):
    server = open_server(request.getfixturevalue(request.param).url, 15.0)
    yield RedisDocuments(server)
    await server.close()


async def test_one_of_many_writers_wins_each_version(documents):
    assert await documents.read("a") == (0, b"")
    won = await asyncio.gather(*(documents.write("a", b"%d" % i, read_version=0) for i in range(8)))
    assert sum(won) == 1
    version, content = await documents.read("a")
    assert (version, content) == (1, b"%d" % won.index(True))
    assert not await documents.write("a", b"late", read_version=0)
    assert await documents.write("a", b"next", read_version=1)
    assert await documents.read("a") == (2, b"next")


async def test_a_write_whose_answer_was_lost_may_come_again(documents):
    assert await documents.write("b", b"x", read_version=0)
    assert await documents.write("b", b"x", read_version=0)
    assert await documents.read("b") == (1, b"x")


async def test_fields_lie_beside_a_document_and_go_with_it(documents):
    await documents.write("exp:c", b"x", read_version=0)
    await documents.set_fields("exp:c", {"1/r": b"1", "2/r": b"2"})
    await documents.set_fields("exp:c", {"2/r": b"3"})
    await documents.set_fields("exp:c", {})
    assert await documents.fields("exp:c") == {"1/r": b"1", "2/r": b"3"}
    await documents.drop_fields("exp:c", ["1/r"])
    await documents.drop_fields("exp:c", [])
    assert await documents.fields("exp:c") == {"2/r": b"3"}
    await documents.remove("exp:c")
    assert await documents.fields("exp:c") == {}
    assert await documents.read("exp:c") == (0, b"")


async def test_documents_are_found_by_what_their_names_begin_with(documents):
    for name in ("p:2", "p:1", "q:1", "p"):
        await documents.write(name, b"x", read_version=0)
    assert await documents.names("p:") == ["p:1", "p:2"]
    await documents.remove("p:1")
    assert await documents.names("p:") == ["p:2"]
