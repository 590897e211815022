"""What replicas share of models: every implementation is held to the same."""

import asyncio
import hashlib

import pytest

from pba_service.domain.errors import CapacityExceededError, ModelConflictError, StoreUnavailableError
from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.engine.model_ports import ModelBundle, ReplicaReport
from pba_service.engine.ports import ModelInfo, TrainingData
from pba_service.storage import keys, registry
from pba_service.storage.connect import open_server
from pba_service.storage.registry import RedisRegistry
from tests.conformance.tools import PATIENCE_S
from tests.fakes import SharedModels
from tests.servers import wait_until

URLS = {"standalone": "redis_server", "cluster": "redis_cluster"}
IN_REDIS = pytest.mark.parametrize("where", ["standalone"])


@pytest.fixture(params=["memory", *URLS])
def where(request):
    return request.param


@pytest.fixture
def server(where, request):
    return request.getfixturevalue(URLS[where]) if where in URLS else None


@pytest.fixture
async def shared(server):
    if server is None:
        yield SharedModels()
        return
    connected = open_server(server.url, PATIENCE_S)
    yield RedisRegistry(connected)
    await connected.close()


def bundle(size=100, seed=b"m"):
    return ModelBundle("a file", b'{"schema": 1}', (seed * size)[:size])


def info(version="m-1", made=None, **changes):
    fields = {
        "name": "m",
        "version": version,
        "checksum_sha256": hashlib.sha256((made or bundle()).onnx).hexdigest(),
        "created_at_ms": 1_700_000_000_000,
        "features": ("bandwidth_mbps", "latency_ms"),
        "window_slots": 100,
        "horizons_ms": (300_000, 900_000),
        "quantile_levels": (0.1, 0.5, 0.9),
        "parameter_count": 7,
        "scores": (("latency_ms", "m", 0.75), ("latency_ms", "last", 1.0)),
    }
    return ModelInfo(**(fields | changes))


async def test_where_nothing_was_decided_nothing_is_desired(shared):
    assert await shared.desired() == Desired()
    assert await shared.catalogue() == []
    assert await shared.replicas() == []
    assert await shared.fetch("m-1") is None


async def test_what_is_desired_comes_back_whole(shared):
    desired = Desired(
        revision=3,
        active="b",
        previous=("a",),
        held=True,
        pins=(Pin(Scope.REGION, "eu:west/1", ("c", "b")), Pin(Scope.LINK, "ü", ("a",))),
        experiments=(Experiment("e", "b", "c", 0.25, 1_700_000_000_000),),
        configured="b",
        offers=("ab@1", "cd@2"),
    )
    assert await shared.propose(desired, read_revision=0)
    assert await shared.desired() == desired


async def test_of_two_changes_of_the_same_state_one_wins(shared):
    changes = [Desired(1, active=str(i)) for i in range(8)]
    won = await asyncio.gather(*(shared.propose(change, read_revision=0) for change in changes))
    assert sum(won) == 1
    assert (await shared.desired()).active == str(won.index(True))
    assert not await shared.propose(Desired(2, active="late"), read_revision=0)


@pytest.mark.parametrize("size", [1, 1_048_576, 3_500_000])
async def test_a_published_model_is_fetched_as_it_was(shared, size):
    made = bundle(size)
    said = info(made=made, parent="m-0", training=TrainingData(5, 2, "ab", 1, 2))
    await shared.publish(made, said)
    await shared.publish(made, said)
    found = await shared.fetch("m-1")
    assert (found.manifest, found.onnx) == (made.manifest, made.onnx)
    assert await shared.catalogue() == [said]


async def test_another_file_of_the_same_version_is_not_published(shared):
    await shared.publish(bundle(), info())
    other = bundle(seed=b"other")
    with pytest.raises(ModelConflictError):
        await shared.publish(other, info(made=other))
    assert (await shared.fetch("m-1")).onnx == bundle().onnx


async def test_models_are_listed_from_the_newest_and_can_be_forgotten(shared):
    for version, age in (("a", 2), ("b", 0), ("c", 1)):
        await shared.publish(bundle(), info(version, created_at_ms=1_700_000_000_000 - age))
    assert [one.version for one in await shared.catalogue()] == ["b", "c", "a"]
    await shared.forget(["b", "unknown"])
    assert [one.version for one in await shared.catalogue()] == ["c", "a"]
    assert await shared.fetch("b") is None
    assert (await shared.fetch("a")).onnx == bundle().onnx


def report(replica, serving="m-1"):
    return ReplicaReport(replica, serving, ("m-1", "m-2"), {"m-3": "why"}, 4, 1_700_000_000_000)


async def test_replicas_are_seen_until_they_leave(shared):
    await shared.report(report("b"), 60)
    await shared.report(report("a"), 60)
    await shared.report(report("b", "m-2"), 60)
    assert await shared.replicas() == [report("a"), report("b", "m-2")]
    await shared.leave("a")
    assert await shared.replicas() == [report("b", "m-2")]


@IN_REDIS
async def test_a_replica_that_is_not_heard_of_is_gone(shared):
    await shared.report(report("a"), 0.05)
    await shared.report(report("b"), 60)
    while [one.replica for one in await shared.replicas()] != ["b"]:  # noqa: ASYNC110 - time passes in the server
        await asyncio.sleep(0.01)


@IN_REDIS
async def test_a_model_too_large_for_the_store_is_refused(shared):
    huge = bundle(registry.MAX_SHARED_BYTES + 1)
    with pytest.raises(CapacityExceededError):
        await shared.publish(huge, info(made=huge))


@IN_REDIS
async def test_an_upload_that_was_broken_off_is_not_seen_and_leaves_nothing(shared, server):
    """The process dies after the first part: only what the catalogue names is there, and parts expire."""
    made = bundle(3_000_000)
    uploading = asyncio.create_task(shared.publish(made, info(made=made)))
    parts = keys.model_part_key("m-1", 0).decode().removesuffix(":0") + "*"
    await asyncio.to_thread(wait_until, lambda: list(server.client.scan_iter(parts)))
    uploading.cancel()
    await asyncio.gather(uploading, return_exceptions=True)
    if await shared.catalogue() == []:
        assert await shared.fetch("m-1") is None
        assert all(server.client.pttl(part) > 0 for part in server.client.scan_iter(parts))
    await shared.publish(made, info(made=made))
    assert (await shared.fetch("m-1")).onnx == made.onnx
    assert all(server.client.pttl(part) == -1 for part in server.client.scan_iter(parts))


class BreaksOff:
    """A server whose caller dies before a script is run."""

    def __init__(self, server):
        self.command = server.command

    async def run(self, *_):
        raise StoreUnavailableError


@IN_REDIS
async def test_a_second_upload_that_breaks_off_does_not_make_what_is_published_expire(shared, server):
    made = bundle(3_000_000)
    await shared.publish(made, info(made=made))
    said = server.client.hgetall(keys.MODELS_CATALOGUE)
    server.client.delete(keys.MODELS_CATALOGUE)  # as the second one saw it, which began before the first was done
    connected = open_server(server.url, PATIENCE_S)
    with pytest.raises(StoreUnavailableError):
        await RedisRegistry(BreaksOff(connected)).publish(made, info(made=made))
    await connected.close()
    server.client.hset(keys.MODELS_CATALOGUE, mapping=said)
    assert {server.client.pttl(part) for part in server.client.scan_iter("pba:{models}:part:*")} == {-1}
    assert (await shared.fetch("m-1")).onnx == made.onnx


@IN_REDIS
async def test_parts_of_an_upload_that_says_something_else_of_itself_are_not_mixed_in(shared, server):
    made = bundle(3_000_000)
    connected = open_server(server.url, PATIENCE_S)
    with pytest.raises(StoreUnavailableError):
        await RedisRegistry(BreaksOff(connected)).publish(made, info(made=made))
    await connected.close()
    other = ModelBundle(made.where, b'{"schema": 1, "created_at": "later"}', made.onnx)
    parts = list(server.client.scan_iter("pba:{models}:part:*"))
    server.client.delete(*parts[1:])  # it broke off after one part
    with pytest.raises(ModelConflictError):
        await shared.publish(other, info(made=made))
    assert await shared.catalogue() == []
    server.client.delete(parts[0])  # as they expire
    await shared.publish(other, info(made=made))
    assert (await shared.fetch("m-1")).manifest == other.manifest


@IN_REDIS
async def test_a_model_that_lost_a_part_is_none_and_can_be_published_again(shared, server):
    made = bundle(3_000_000)
    await shared.publish(made, info(made=made))
    part = sorted(server.client.scan_iter("pba:{models}:part:*"))[1]
    server.client.set(part, b"damaged".ljust(server.client.strlen(part)))
    assert await shared.fetch("m-1") is None
    server.client.delete(part)
    assert await shared.fetch("m-1") is None
    await shared.publish(made, info(made=made))
    assert (await shared.fetch("m-1")).onnx == made.onnx


@IN_REDIS
async def test_what_is_not_ours_is_told_or_left_out(shared, server):
    server.client.hset(keys.MODELS_CATALOGUE, "x", b"\xff")
    server.client.hset(keys.MODELS_REPLICAS, mapping={"r": b"99999999999999 {}", "s": b"junk"})
    assert await shared.catalogue() == []
    assert await shared.replicas() == []
    assert await shared.fetch("x") is None
    server.client.hset(keys.MODELS_DESIRED, mapping={"v": 1, "d": b"[]"})
    with pytest.raises(StoreUnavailableError):
        await shared.desired()


@IN_REDIS
async def test_a_newer_replicas_additions_are_left_out_of_account(shared, server):
    await shared.propose(Desired(1, active="a"), read_revision=0)
    blob = server.client.hget(keys.MODELS_DESIRED, "d")
    server.client.hset(keys.MODELS_DESIRED, "d", blob[:-1] + b',"colour":"blue"}')
    assert await shared.desired() == Desired(1, active="a")
