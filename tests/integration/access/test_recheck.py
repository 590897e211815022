"""Files that change while streams are open: at that very moment, and while a stream is ending already."""

import asyncio
import hashlib

import grpc
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import prediction_service_pb2_grpc

from tests.integration.access.guarded import bearer, directory_of, guarded
from tests.integration.serving.harness import prediction

EVERYTHING = pb.StreamPredictionsRequest(selector={"all": True})

CALLER = """
[[caller]]
name = "{name}"
roles = ["subscriber"]
reads = ["a/*"]
token_sha256 = "{hash}"
"""


def write_callers(path, *names):
    """Callers whose tokens are their names."""
    rows = [CALLER.format(name=name, hash=hashlib.sha256(name.encode()).hexdigest()) for name in names]
    path.write_text("".join(rows))
    path.chmod(0o600)


def follow(channel, name):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.StreamPredictions(EVERYTHING, metadata=bearer(name))


async def links_until_it_ends(call):
    """Links that a stream still brings, and how it ends."""
    links = []
    try:
        async with asyncio.timeout(5):
            while (update := await call.read()) is not grpc.aio.EOF:
                links += [one.link_id for one in update.predictions]
    except grpc.aio.AioRpcError as error:
        return links, error.code()
    except TimeoutError:
        return links, None
    return links, grpc.StatusCode.OK


async def test_what_happens_at_the_moment_of_a_withdrawal_is_not_told_to_who_was_withdrawn(tmp_path):
    path = tmp_path / "callers.toml"
    write_callers(path, "board", "other")
    directory = directory_of(path)
    async with guarded(directory=directory) as server, server.channel() as channel:
        server.service.add("a/1")
        server.service.add("b/1")
        call = follow(channel, "board")
        assert [one.link_id for one in (await call.read()).predictions] == ["a/1"]

        write_callers(path, "other")
        server.service.subscriptions.publish([prediction("b/1", made_at_ms=1_800_000_060_000)])
        assert directory.poll()
        server.gate.recheck()
        assert await links_until_it_ends(call) == ([], grpc.StatusCode.UNAUTHENTICATED)


async def test_a_stream_that_is_ending_does_not_save_the_others(tmp_path):
    path = tmp_path / "callers.toml"
    write_callers(path, "first", "second", "other")
    directory = directory_of(path)
    async with guarded(directory=directory) as server, server.channel() as channel:
        calls = [follow(channel, name) for name in ("first", "second")]
        for call in calls:
            await call.read()
        write_callers(path, "second", "other")
        assert directory.poll()
        server.gate.recheck()
        await asyncio.sleep(0)  # the time of the first is over, and it has not ended yet
        write_callers(path, "other")
        assert directory.poll()
        server.gate.recheck()
        for call in calls:
            assert await links_until_it_ends(call) == ([], grpc.StatusCode.UNAUTHENTICATED)
