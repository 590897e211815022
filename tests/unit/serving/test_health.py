"""Health is honest, and does not flap."""

import asyncio

import pytest
from grpc_health.v1 import health_pb2

from pba_service.domain.errors import StoreUnavailableError
from pba_service.serving.health import LIVENESS, HealthMonitor, HealthServicer, MonitorOptions

OPTIONS = MonitorOptions(interval_s=1, timeout_s=0.05, down_after=3, up_after=2)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Dependency:
    """Usable unless it has a failure; hangs when told to."""

    def __init__(self):
        self.failure = None
        self.hangs = False

    async def __call__(self):
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure


class Seconds:
    """Time that goes on only when told to."""

    now_s = 1_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def health():
    return HealthServicer(("", "predictions", "models"))


@pytest.fixture
def store():
    return Dependency()


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def model():
    return Dependency()


@pytest.fixture
def monitor(health, store, model, seconds):
    return HealthMonitor(
        health,
        checks={"store": store, "model": model},
        needs={"": ("store", "model"), "predictions": ("store", "model"), "models": ("model",)},
        options=OPTIONS,
        clock=seconds,
    )


async def told(health):
    statuses = (await health.List(health_pb2.HealthListRequest(), None)).statuses
    return {service for service, response in statuses.items() if response.status == SERVING}


async def rounds(monitor, health, count):
    seen = []
    for _ in range(count):
        await monitor.round()
        seen.append("predictions" in await told(health))
    return seen


async def test_nothing_serves_before_it_was_checked(health):
    assert await told(health) == {LIVENESS}


async def test_one_good_round_is_enough_at_the_start(monitor, health):
    await monitor.round()
    assert await told(health) == {"", "predictions", "models", LIVENESS}


@pytest.mark.parametrize("failure", [StoreUnavailableError(), RuntimeError("unforeseen"), "hangs"])
async def test_only_what_needs_a_dependency_stops_serving(monitor, health, store, failure):
    await monitor.round()
    store.failure, store.hangs = (None, True) if failure == "hangs" else (failure, False)
    assert await rounds(monitor, health, 3) == [True, True, False]
    assert await told(health) == {"models", LIVENESS}


async def test_a_short_failure_changes_nothing(monitor, health, store):
    await monitor.round()
    for _ in range(5):
        store.failure = StoreUnavailableError()
        assert await rounds(monitor, health, 2) == [True, True]
        store.failure = None
        assert await rounds(monitor, health, 1) == [True]


async def test_trust_comes_back_after_successes_in_a_row(monitor, health, store):
    await monitor.round()
    store.failure = StoreUnavailableError()
    await rounds(monitor, health, 3)
    store.failure = None
    assert await rounds(monitor, health, 1) == [False]
    store.failure = StoreUnavailableError()
    assert await rounds(monitor, health, 1) == [False]
    store.failure = None
    assert await rounds(monitor, health, 2) == [False, True]


async def test_a_start_without_the_store_serves_what_does_not_need_it(monitor, health, store):
    store.failure = StoreUnavailableError()
    await monitor.round()
    assert await told(health) == {"models", LIVENESS}
    store.failure = None
    await monitor.round()
    assert "predictions" in await told(health)


async def test_watchers_are_told_of_changes_only(health):
    watch = health.Watch(health_pb2.HealthCheckRequest(service="predictions"), None)
    assert (await anext(watch)).status == NOT_SERVING
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    health.set("models", serving=True)
    await asyncio.sleep(0)
    assert not waiting.done()
    health.set("predictions", serving=True)
    assert (await waiting).status == SERVING
    await watch.aclose()


async def test_a_watcher_of_an_unknown_service_is_told_so_and_kept(health):
    watch = health.Watch(health_pb2.HealthCheckRequest(service="other"), None)
    assert (await anext(watch)).status == UNKNOWN
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    health.shut_down()
    assert await waiting is None


async def test_a_shut_down_tells_watchers_and_ends_them(monitor, health):
    await monitor.round()
    watch = health.Watch(health_pb2.HealthCheckRequest(service="predictions"), None)
    assert (await anext(watch)).status == SERVING
    health.shut_down()
    assert [response.status async for response in watch] == [NOT_SERVING]
    await monitor.round()  # finds everything usable
    assert await told(health) == {LIVENESS}


async def outage(monitor, health, store):
    """One that is noticed; returns after how many good rounds the dependency is trusted again."""
    store.failure = StoreUnavailableError()
    await rounds(monitor, health, OPTIONS.down_after)
    store.failure = None
    good = 0
    while not (await rounds(monitor, health, 1))[0]:
        good += 1
    return good + 1


async def test_what_comes_and_goes_has_to_earn_ever_more_trust(monitor, health, store, seconds):
    await monitor.round()
    assert [await outage(monitor, health, store) for _ in range(6)] == [2, 4, 8, 16, 16, 16]

    seconds.now_s += OPTIONS.damping_s
    assert await outage(monitor, health, store) == OPTIONS.up_after
