"""The asyncio client against a real gRPC aio_server."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from pba_client import (
    AsyncClient,
    CallCancelledError,
    ClientClosedError,
    Health,
    HistoryTooShortError,
    InvalidRequestError,
    LinkUnknownError,
    NotPermittedError,
    Options,
    PinScope,
    Sample,
    TemporaryError,
    Timeouts,
    TransferOutcome,
    UnavailableError,
)
from tests.integration.client.scripted_service import SHORT_HISTORY, STORE_AWAY, T0_S, UNKNOWN_LINK, pb, status

T0 = datetime.fromtimestamp(T0_S, UTC)


@pytest.fixture
async def client(aio_server, options):
    async with AsyncClient(aio_server.target, options) as one:
        yield one


def samples(count, link_id="a"):
    return [Sample(link_id, T0 + timedelta(minutes=i), bandwidth_mbps=float(i)) for i in range(count)]


async def test_every_call(aio_server, client):
    assert (await client.push(samples(20))).stored == 20
    assert (await client.predict("a")).bandwidth_mbps == 90.0
    assert (await client.predict_window("a", samples(12))).bandwidth_mbps == 102.0
    assert len((await client.predict_path("a")).horizons) == 3
    good, bad = await client.batch_predict(["a", "nowhere"])
    assert good.unwrap().link_id == "a"
    assert isinstance(bad.error, LinkUnknownError)
    assert (await client.parameters("a", current_streams=1)).streams == 3
    assert (await client.estimate_transfer(10**9, "a")).best.link_id == "a"
    outcome = TransferOutcome("a", T0, T0 + timedelta(minutes=1), 4, 48.0)
    assert (await client.report_outcome(outcome)).streams_correction == 1.25
    assert await client.outcomes("a") == [outcome]
    assert [sample.bandwidth_mbps async for sample in client.history("a")] == [0, 1, 2, 3]
    assert [entry.hit async for entry in client.ledger("a")] == [True]
    assert [link.link_id async for link in client.links()] == ["l0", "l1", "l2", "l3", "l4"]
    assert (await client.link("a")).pending == 4
    assert len((await client.explain("a")).metrics) == 1
    assert [model.version for model in await client.models()] == ["1.2.3", "1.3.0"]
    assert (await client.model("1.2.3")).training.links == 5
    assert (await client.activate_model("1.3.0")).active_version == "1.3.0"
    assert (await client.rollback_model()).active_version == "1.2.3"
    assert (await client.pin_model("1.3.0", scope=PinScope.NODE, value="n")).pins[0].scope is PinScope.NODE
    assert (await client.unpin_model(PinScope.NODE, "n")) == await client.model_state()
    assert [replica.name for replica in await client.replicas()] == ["host-1", "host-2"]
    assert await client.experiments() == [await client.experiment("trial-1")]
    assert (await client.start_experiment("1.3.0", share=0.5)).challenger == "1.3.0"
    assert (await client.stop_experiment("trial-1")).name == "trial-1"
    assert (await client.retraining()).run.number == 2
    assert (await client.start_retraining()).asked
    assert await client.health() is Health.SERVING


async def test_errors_are_translated_in_calls_and_streams(aio_server, client):
    aio_server.service.fault("Predict", UNKNOWN_LINK, SHORT_HISTORY)
    with pytest.raises(LinkUnknownError):
        await client.predict("nowhere")
    with pytest.raises(HistoryTooShortError):
        await client.predict("young")
    aio_server.service.fault("GetHistory", UNKNOWN_LINK)
    with pytest.raises(LinkUnknownError):
        await anext(client.history("nowhere"))


async def test_an_idempotent_call_is_tried_again(aio_server, client):
    aio_server.service.fault("PushSamples", STORE_AWAY)
    assert (await client.push(samples(1))).stored == 1
    assert aio_server.service.calls.count("PushSamples") == 2


async def test_parameters_come_from_a_service_that_is_not_serving(aio_server):
    await aio_server.set_health(serving=False)
    async with AsyncClient(aio_server.target, Options(timeouts=Timeouts(call_s=0.5))) as fresh:
        with pytest.raises(TemporaryError):
            await fresh.predict("a")
        assert (await fresh.parameters("a")).streams == 2


async def test_a_cancelled_caller_is_cancelled(aio_server, client):
    async with client.watch("a") as watch:
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_closed_client_says_so(aio_server):
    client = AsyncClient(aio_server.target)
    await client.close()
    with pytest.raises(ClientClosedError):
        await client.predict("a")


async def test_a_stream_acknowledges_each_batch(aio_server, client):
    async with client.stream() as stream:
        futures = [await stream.push(one) for one in samples(200)]
        await stream.flush()
        assert stream.unacknowledged == 0
    assert [(await future).stored for future in futures] == [1] * 200
    assert stream.totals.stored == 200
    with pytest.raises(ClientClosedError):
        await stream.push(samples(1))


async def test_a_stream_sends_again_what_was_not_acknowledged(aio_server, client):
    aio_server.service.fault("StreamSamples/ack", STORE_AWAY, STORE_AWAY)
    async with client.stream() as stream:
        futures = [await stream.push(one) for one in samples(50)]
    results = [await future for future in futures]
    assert sum(r.stored + r.duplicates for r in results) == 50
    assert len(aio_server.service.stored) == 50


async def test_a_stream_survives_a_restart_of_the_service(aio_server, client):
    async with client.stream() as stream:
        await (await stream.push(samples(1)))
        await aio_server.stop()
        later = [await stream.push(one) for one in samples(20, "b")]
        await aio_server.start()
        assert [(await future).stored for future in later] == [1] * 20


async def test_a_stream_gives_up_when_trying_again_is_no_use(aio_server, client):
    aio_server.service.fault("StreamSamples", *[status(grpc.StatusCode.PERMISSION_DENIED, "not you")] * 50)
    stream = client.stream()
    future = await stream.push(samples(1))
    with pytest.raises(NotPermittedError, match="not you"):
        await future
    with pytest.raises(NotPermittedError, match="not you"):
        await stream.close()


async def test_a_stream_gives_up_when_its_patience_ends(aio_server):
    await aio_server.stop()
    async with AsyncClient(aio_server.target, Options(patience_s=0.1)) as client:
        stream = client.stream()
        future = await stream.push(samples(1))
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(future, 10)
        await stream.abort()


async def test_leaving_a_stream_by_an_error_does_not_wait(aio_server, client):
    await aio_server.stop()
    stream = client.stream()
    future = await stream.push(samples(1))
    with pytest.raises(KeyError):
        async with stream:
            raise KeyError
    with pytest.raises(ClientClosedError):
        await future


async def test_a_close_that_is_given_up_leaves_nobody_waiting(aio_server, client):
    await aio_server.stop()
    stream = client.stream()
    future = await stream.push(samples(1))
    closing = asyncio.create_task(stream.close())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(closing, 0.01)
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(future, 5)


@pytest.mark.parametrize("end", [STORE_AWAY, None], ids=["broken", "ended in good order"])
async def test_a_watch_comes_back_and_tells_the_gap(aio_server, client, end):
    interruptions = []
    watching = client.watch("a", on_interruption=lambda cause, delay_s: interruptions.append((cause, delay_s)))
    async with watching as watch:
        first = await anext(watch)
        assert ([p.link_id for p in first.predictions], first.gap) == (["a"], None)
        aio_server.send_update(pb.StreamPredictionsResponse(skipped_updates=2))
        await anext(watch)
        aio_server.send_update(end)
        back = await asyncio.wait_for(anext(watch), 10)
        assert back.gap.attempts == 1
        assert (back.skipped_updates, len(interruptions)) == (2, 1)


async def test_a_watch_survives_a_restart_of_the_service(aio_server, client):
    async with client.watch("a") as watch:
        await anext(watch)
        await aio_server.stop()
        await aio_server.start()
        assert (await asyncio.wait_for(anext(watch), 10)).gap is not None


async def test_a_watch_raises_what_trying_again_would_not_cure(aio_server, client):
    aio_server.service.fault("StreamPredictions", status(grpc.StatusCode.INVALID_ARGUMENT, "selector: is required"))
    async with client.watch() as watch:
        with pytest.raises(InvalidRequestError):
            await anext(watch)


async def test_a_watch_can_be_closed_while_another_task_waits(aio_server, client):
    watch = client.watch("a")
    await anext(watch)

    async def read():
        return [update async for update in watch]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    await watch.aclose()
    assert await asyncio.wait_for(reader, 5) == []


async def test_closing_the_client_ends_its_streams(aio_server, options):
    client = AsyncClient(aio_server.target, options)
    watch = client.watch("a")
    await anext(watch)
    reader = asyncio.create_task(anext(watch))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises((ClientClosedError, CallCancelledError)):
        await asyncio.wait_for(reader, 5)
