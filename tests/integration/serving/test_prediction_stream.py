"""Subscribers over a real connection: newest values for slow readers, bounded everything, an orderly end."""

import asyncio
from dataclasses import replace

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from pba.v1 import prediction_service_pb2 as pb
from structlog.testing import capture_logs

from tests.integration.serving.harness import (
    FAST,
    NOW_MS,
    error_of,
    eventually,
    everything,
    prediction,
    rest,
    serve,
    stall,
)

LINKS = [f"link-{index:03}" for index in range(300)]


def following(running, **selector):
    interval = selector.pop("min_interval", None)
    request = pb.StreamPredictionsRequest(selector=pb.LinkSelector(**selector), min_interval=interval)
    return running.stub.StreamPredictions(request)


async def test_snapshot_then_updates(running):
    running.service.add("a", "west")
    running.service.add("b", "east")
    call = following(running, region="west")
    first = await call.read()
    assert ([p.link_id for p in first.predictions], first.snapshot_complete) == (["a"], True)
    running.service.subscriptions.publish([prediction("a", NOW_MS + 60_000), prediction("b", NOW_MS + 60_000)])
    update = await call.read()
    assert [(p.link_id, p.made_at.ToMilliseconds()) for p in update.predictions] == [("a", NOW_MS + 60_000)]


async def test_a_reader_that_stands_still_gets_the_newest_of_each_link_and_the_count_of_the_rest(running):
    hub = running.service.subscriptions
    call = following(running, prefix="link-")
    assert (await call.read()).snapshot_complete
    published, newest_ms = await stall(hub, LINKS)
    newest, received, skipped = {}, 0, 0
    while len(newest) < len(LINKS) or min(newest.values()) < newest_ms:
        update = await call.read()
        received += len(update.predictions)
        assert update.skipped_updates >= skipped
        skipped = update.skipped_updates
        for forecast in update.predictions:
            made_at_ms = forecast.made_at.ToMilliseconds()
            assert made_at_ms > newest.get(forecast.link_id, 0)
            newest[forecast.link_id] = made_at_ms
    assert received + skipped == published
    assert skipped >= 20 * len(LINKS)


async def test_an_interval_is_kept(running):
    running.service.add("a")
    call = following(running, all=True, min_interval=Duration(seconds=3600))
    await call.read()
    running.service.subscriptions.publish([prediction("a", NOW_MS + 1)])
    waiting = asyncio.ensure_future(call.read())
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    running.service.subscriptions.close()
    assert [p.made_at.ToMilliseconds() for p in (await waiting).predictions] == [NOW_MS + 1]


@pytest.mark.parametrize("selector", [{}, {"link_ids": [""]}, {"prefix": "\n"}])
async def test_a_selector_at_fault(running, selector):
    failure = await error_of(everything(following(running, **selector)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields[0].startswith("selector")


async def test_one_subscriber_too_many_is_told_so_and_may_come_when_another_leaves(running):
    calls = [following(running, all=True) for _ in range(3)]
    for call in calls:
        await call.read()
    failure = await error_of(everything(following(running, all=True)))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.info.metadata["limit"] == "3"
    assert failure.retry_ms > 0
    calls[0].cancel()
    await eventually(lambda: len(running.service.subscriptions) == 2)
    assert (await following(running, all=True).read()).snapshot_complete


@pytest.mark.parametrize("how", ["cancel", "connection"])
async def test_a_subscriber_that_goes_away_frees_its_place(running, how):
    calls = [following(running, all=True) for _ in range(3)]
    for call in calls:
        await call.read()
    if how == "connection":
        await running.channel.close()
    else:
        for call in calls:
            call.cancel()
    await eventually(lambda: len(running.service.subscriptions) == 0)


async def test_a_stalled_subscriber_that_goes_away_frees_its_place(running):
    """Its handler stands in a write, not in the wait for an update."""
    hub = running.service.subscriptions
    call = following(running, all=True)
    await call.read()
    await stall(hub, LINKS)
    with capture_logs() as logs:
        call.cancel()
        await eventually(lambda: len(hub) == 0)
    assert [(entry["event"], entry["code"]) for entry in logs] == [("rpc", "CANCELLED")]


async def test_a_stop_gives_what_is_held_and_ends_streams_well(running):
    calls = [following(running, all=True), following(running, all=True, min_interval=Duration(seconds=3600))]
    for call in calls:
        await call.read()
    running.service.subscriptions.publish([prediction("a", NOW_MS + 1)])
    async with asyncio.timeout(5):
        await running.server.stop()
    for call in calls:
        assert [p.link_id for update in await rest(call) for p in update.predictions] == ["a"]
        assert await call.code() is grpc.StatusCode.OK


async def test_a_stop_does_not_wait_for_a_stalled_subscriber_longer_than_its_grace():
    async with serve(options=replace(FAST, drain_grace_s=0.2)) as running:
        hub = running.service.subscriptions
        call = following(running, all=True)
        await call.read()
        await stall(hub, LINKS)
        async with asyncio.timeout(5):
            await running.server.stop()
        await eventually(lambda: len(hub) == 0)
