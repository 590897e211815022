"""A guarded store in front of one that fails, hangs, or is asked too much."""

import asyncio

import pytest

from pba_service.domain.errors import LinkUnknownError, StoreUnavailableError
from pba_service.storage.circuit import CircuitOptions
from pba_service.storage.guarded import GuardedStore, GuardOptions
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock
from tests.unit.storage.test_circuit import Seconds

OPTIONS = GuardOptions(timeout_s=0.05, max_calls=4, circuit=CircuitOptions(failures=3, open_s=1.0))


class Moody(MemoryStore):
    """Counts what it is asked; away or hanging when told to."""

    def __init__(self):
        super().__init__(clock=Clock())
        self.asked = 0
        self.away = False
        self.gate = None

    async def newest(self, link_ids):
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailableError
        return await super().newest(link_ids)

    async def check(self):
        if self.away:
            raise StoreUnavailableError


class World:
    def __init__(self):
        self.inner, self.seconds, self.clock, self.told = Moody(), Seconds(), Clock(), []
        self.store = GuardedStore(
            self.inner, OPTIONS, clock=self.clock, monotonic=self.seconds, on_circuit=self.told.append
        )

    async def fails(self, times=1):
        for _ in range(times):
            with pytest.raises(StoreUnavailableError):
                await self.store.newest(["a"])


async def test_a_store_that_stays_away_is_asked_no_more():
    world = World()
    world.inner.away = True

    await world.fails(10)

    assert world.inner.asked == 3
    assert world.store.away
    assert world.told == [True]


async def test_one_probe_finds_out_that_it_is_back():
    world = World()
    world.inner.away = True
    await world.fails(3)
    world.inner.away = False
    await world.fails(5)
    world.seconds.now_s += 1

    assert await world.store.newest(["a"]) == [None]

    assert not world.store.away
    assert world.told == [True, False]


async def test_the_health_check_asks_whatever_the_circuit_says_and_closes_it():
    world = World()
    world.inner.away = True
    await world.fails(3)
    with pytest.raises(StoreUnavailableError):
        await world.store.check()
    world.inner.away = False

    await world.store.check()

    assert await world.store.newest(["a"]) == [None]


async def test_a_call_that_hangs_ends_at_its_deadline_and_counts_as_a_failure():
    world = World()
    world.inner.gate = asyncio.Event()
    await world.fails(3)
    assert world.store.away


async def test_more_calls_than_the_bound_are_refused_at_once_and_tell_nothing_of_the_store():
    world = World()
    world.inner.gate = asyncio.Event()
    calls = [asyncio.create_task(world.store.newest(["a"])) for _ in range(OPTIONS.max_calls)]
    await asyncio.sleep(0)

    await world.fails(20)
    world.inner.gate.set()

    assert await asyncio.gather(*calls) == [[None]] * OPTIONS.max_calls
    assert not world.store.away


async def test_a_caller_who_leaves_frees_the_place_and_the_probe():
    world = World()
    world.inner.away = True
    await world.fails(3)
    world.seconds.now_s += 1
    world.inner.gate = asyncio.Event()
    probe = asyncio.create_task(world.store.newest(["a"]))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    world.inner.away, world.inner.gate = False, None

    assert await world.store.newest(["a"]) == [None]


async def test_an_answer_that_says_no_is_an_answer():
    world = World()
    world.clock.now_ms += 7
    for _ in range(5):
        with pytest.raises(LinkUnknownError):
            _ = [chunk async for chunk in world.store.history("nobody", None, None)]
    assert not world.store.away
    assert world.store.answered_at_ms == world.clock.now_ms


async def probing(world):
    """A call that began while the store was there, the probe after it had been away, and what the former waits for.

    Both hang.
    """
    world.inner.gate = asyncio.Event()
    old = asyncio.create_task(world.store.newest(["a"]))
    await asyncio.sleep(0)
    gate, world.inner.gate, world.inner.away = world.inner.gate, None, True
    await world.fails(3)
    world.seconds.now_s += 1
    world.inner.gate = asyncio.Event()
    probe = asyncio.create_task(world.store.newest(["a"]))
    await asyncio.sleep(0)
    assert world.inner.asked == 5
    return old, probe, gate


async def test_a_call_from_before_that_is_given_up_does_not_let_a_second_probe_through():
    world = World()
    old, probe, _ = await probing(world)
    old.cancel()
    await asyncio.wait([old])

    await world.fails()

    assert world.inner.asked == 5
    probe.cancel()
    await asyncio.wait([probe])


async def test_a_call_from_before_that_fails_late_does_not_let_a_second_probe_through():
    world = World()
    old, probe, gate = await probing(world)
    gate.set()
    with pytest.raises(StoreUnavailableError):
        await old
    world.seconds.now_s += OPTIONS.circuit.max_open_s
    await world.fails()

    assert world.inner.asked == 5
    probe.cancel()
    await asyncio.wait([probe])
