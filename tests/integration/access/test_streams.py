"""Long streams: they end with the right to them. And what one caller may ask for."""

import asyncio
import hashlib
import time

import grpc
import pytest
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import prediction_service_pb2_grpc

from pba_service.access.links import LinkBound
from pba_service.access.tokens import LEEWAY_S
from pba_service.engine.api import PushOutcome
from pba_service.serving.gate import Allowance
from pba_service.storage.redis_store import RedisStore
from tests.identities import Issuer
from tests.integration.access.guarded import bearer, directory_of, guarded, verifier_of
from tests.integration.serving.harness import FakeService, error_of, eventually, rest, row


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


def stub_of(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


EVERYTHING = pb.StreamPredictionsRequest(selector={"all": True})


async def code_at_the_end(call):
    async with asyncio.timeout(10):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(call)
    return caught.value.code()


async def test_streams_end_when_their_token_does(issuer, tmp_path):
    token = issuer.token(roles=["node", "subscriber"], lasts_s=0.7 - LEEWAY_S)
    async with guarded(verifier=verifier_of(issuer.write(tmp_path))) as server, server.channel() as channel:
        began = time.monotonic()
        watching = stub_of(channel).StreamPredictions(EVERYTHING, metadata=bearer(token))
        pushing = stub_of(channel).StreamSamples(metadata=bearer(token))
        await pushing.write(pb.PushSamplesRequest(samples=[row(link_id="node-1/a")]))
        assert (await pushing.read()).stored == 1
        assert (await watching.read()).snapshot_complete
        assert await code_at_the_end(watching) is grpc.StatusCode.UNAUTHENTICATED
        assert await code_at_the_end(pushing) is grpc.StatusCode.UNAUTHENTICATED
        assert 0.2 < time.monotonic() - began < 5
        again = await error_of(stub_of(channel).ListLinks(pb.ListLinksRequest(), metadata=bearer(token)))
        assert again.code is grpc.StatusCode.UNAUTHENTICATED
        assert server.count("dwcp_pba_denied_total", reason="expired") == 2
        assert len(server.service.subscriptions) == 0


CALLERS = """
[[caller]]
name = "board"
roles = ["subscriber"]
reads = ["{reads}"]
token_sha256 = "{hash}"

[[caller]]
name = "keeper"
roles = ["admin"]
token_sha256 = "{other}"
"""


def write_callers(path, token, reads="*"):
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in (token, "keeper")]
    path.write_text(CALLERS.format(reads=reads, hash=hashes[0], other=hashes[1]))
    path.chmod(0o600)


async def test_a_withdrawn_token_ends_its_streams_and_a_narrowed_one_narrows_them(tmp_path):
    path = tmp_path / "callers.toml"
    write_callers(path, "secret")
    directory = directory_of(path)
    async with guarded(directory=directory) as server, server.channel() as channel:
        server.service.add("a/1")
        server.service.add("b/1")
        both = stub_of(channel).StreamPredictions(EVERYTHING, metadata=bearer("secret"))
        assert len((await both.read()).predictions) == 2

        write_callers(path, "secret", reads="a/*")
        assert directory.poll()
        server.gate.recheck()
        links = await stub_of(channel).ListLinks(pb.ListLinksRequest(), metadata=bearer("secret"))
        assert [link.link_id for link in links.links] == ["a/1"]

        write_callers(path, "another secret")
        assert directory.poll()
        server.gate.recheck()
        assert await code_at_the_end(both) is grpc.StatusCode.UNAUTHENTICATED
        await eventually(lambda: len(server.service.subscriptions) == 0)


async def test_calls_beyond_the_allowance_are_refused_with_when_to_come_back(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    still = {"allowance": Allowance(calls_per_s=5), "clock": lambda: 0.0}
    async with guarded(verifier=verifier, **still) as server, server.channel() as channel:
        greedy, modest = (bearer(issuer.token(name, ["admin"])) for name in ("greedy", "modest"))
        for _ in range(10):
            await stub_of(channel).ListLinks(pb.ListLinksRequest(), metadata=greedy)
        failure = await error_of(stub_of(channel).ListLinks(pb.ListLinksRequest(), metadata=greedy))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.info.reason == "RATE_EXCEEDED"
        assert 0 < failure.retry_ms <= 200
        await stub_of(channel).ListLinks(pb.ListLinksRequest(), metadata=modest)
        assert server.count("dwcp_pba_rate_limited_total", what="calls") == 1


BATCH = pb.PushSamplesRequest(samples=[row(1_800_000_000 - i, link_id="node-1/a") for i in range(50)])


async def test_pushes_beyond_the_allowance_are_refused(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    still = {"allowance": Allowance(samples_per_s=200), "clock": lambda: 0.0}
    async with guarded(verifier=verifier, **still) as server, server.channel() as channel:
        metadata = bearer(issuer.token())
        for _ in range(8):
            await stub_of(channel).PushSamples(BATCH, metadata=metadata)
        failure = await error_of(stub_of(channel).PushSamples(BATCH, metadata=metadata))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.retry_ms
        assert len(server.service.pushes) == 8


async def test_streams_beyond_the_allowance_are_slowed(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    async with (
        guarded(verifier=verifier, allowance=Allowance(samples_per_s=400)) as server,
        server.channel() as channel,
    ):
        began = time.monotonic()
        call = stub_of(channel).StreamSamples(metadata=bearer(issuer.token()))
        for _ in range(24):
            await call.write(BATCH)
            assert (await call.read()).stored == 50
        assert time.monotonic() - began >= (24 * 50 - 800 - 50) / 400
        call.cancel()


async def test_open_streams_of_one_caller_are_bounded_and_given_back(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier, allowance=Allowance(streams=2)) as server, server.channel() as channel:
        metadata = bearer(issuer.token(roles=["subscriber"]))
        open_ones = [stub_of(channel).StreamPredictions(EVERYTHING, metadata=metadata) for _ in range(2)]
        for call in open_ones:
            await call.read()
        third = stub_of(channel).StreamPredictions(EVERYTHING, metadata=metadata)
        assert await code_at_the_end(third) is grpc.StatusCode.RESOURCE_EXHAUSTED
        open_ones[0].cancel()
        await eventually(lambda: len(server.service.subscriptions) == 1)
        fourth = stub_of(channel).StreamPredictions(EVERYTHING, metadata=metadata)
        assert (await fourth.read()).snapshot_complete
        for call in (open_ones[1], fourth):
            call.cancel()


async def test_where_nobody_is_known_the_address_has_the_allowance():
    still = {"allowance": Allowance(calls_per_s=1), "clock": lambda: 0.0}
    async with guarded(known=False, **still) as server, server.channel() as channel:
        codes = set()
        for _ in range(4):
            try:
                await stub_of(channel).ListLinks(pb.ListLinksRequest())
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_denials_do_not_flood_the_log(issuer, tmp_path, capfd):
    known = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=known, clock=lambda: 0.0) as server, server.channel() as channel:
        for _ in range(60):
            await error_of(stub_of(channel).ListLinks(pb.ListLinksRequest()))
        assert server.count("dwcp_pba_denied_total", reason="identity") == 60
    said = capfd.readouterr().out
    assert said.count("denied ") == 10, "five a second, of two seconds at once"


async def test_a_node_that_invents_links_is_stopped(issuer, tmp_path, redis_server):
    store = RedisStore.connect(redis_server.url, max_samples=100, retention_ms=3_600_000)
    service = FakeService()
    service.push = lambda batch: stored(store, batch)
    verifier = verifier_of(issuer.write(tmp_path))
    try:
        async with (
            guarded(verifier=verifier, service=service, link_bound=LinkBound(store, 20)) as server,
            server.channel() as channel,
        ):
            now = int(time.time())
            codes = []
            for number in range(30):
                request = pb.PushSamplesRequest(samples=[row(now, link_id=f"node-1/{number}-{i}") for i in range(2)])
                try:
                    await stub_of(channel).PushSamples(request, metadata=bearer(issuer.token()))
                    codes.append(None)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())
            assert codes == [None] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 20
            assert await store.link_count("node-1/") == 20
    finally:
        await store.close()


async def stored(store, batch):
    await store.put(batch)
    return PushOutcome(len(batch), 0, 0)
