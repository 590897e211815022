"""Workers are started, kept and stopped together."""

import asyncio

import pytest

from pba_service.workers.fleet import HEALTHY_S, Fleet, WorkerStartError


class FakeWorker:
    """A worker that serves at once, unless it is told not to, until `die`."""

    def __init__(self, fails=""):
        self.fails, self.stopped_in_s = fails, None
        self._end = asyncio.get_running_loop().create_future()

    def die(self, code=-9):
        self._end.set_result(code)

    async def ready(self):
        if self.fails:
            raise WorkerStartError(self.fails)

    async def ended(self):
        return await asyncio.shield(self._end)

    async def stop(self, timeout_s):
        self.stopped_in_s = timeout_s
        if not self._end.done():
            self.die(0)


class Stage:
    """A fleet with everything around it."""

    def __init__(self, size):
        self.spawned, self.exits, self.pauses_s, self.now_s = [], [], [], 0.0
        self.fails = {}
        self.fleet = Fleet(self._spawn, size, on_exit=self.exits.append, sleep=self._sleep, clock=lambda: self.now_s)

    async def _spawn(self, place):
        worker = FakeWorker(self.fails.get(len(self.spawned), ""))
        self.spawned.append((place, worker))
        return worker

    async def _sleep(self, seconds):
        self.pauses_s.append(seconds)
        await asyncio.sleep(0)

    async def until_spawned(self, count):
        async with asyncio.timeout(5):
            while len(self.spawned) < count:  # noqa: ASYNC110 - every pause of the fleet gives way once
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_all_are_started_the_first_before_the_others():
    stage = Stage(3)
    await stage.fleet.start()
    assert [place for place, _ in stage.spawned] == [0, 1, 2]
    assert stage.fleet.alive == 3
    await stage.fleet.stop(7)
    assert [worker.stopped_in_s for _, worker in stage.spawned] == [7, 7, 7]


async def test_one_that_cannot_start_stops_all_and_says_why():
    stage = Stage(3)
    stage.fails = {1: "no model"}
    with pytest.raises(WorkerStartError, match="no model"):
        await stage.fleet.start()
    assert all(worker.stopped_in_s is not None for _, worker in stage.spawned)
    assert stage.fleet.alive == 0


async def test_one_that_dies_is_started_again_in_its_place():
    stage = Stage(2)
    await stage.fleet.start()
    stage.spawned[1][1].die()
    await stage.until_spawned(3)
    assert stage.spawned[2][0] == 1
    assert stage.exits == [1]
    assert stage.fleet.alive == 2
    await stage.fleet.stop(0)


async def test_the_pause_doubles_while_it_keeps_dying_and_not_when_it_lived():
    stage = Stage(1)
    await stage.fleet.start()
    for count in range(1, 9):
        stage.spawned[-1][1].die()
        await stage.until_spawned(count + 1)
    assert stage.pauses_s == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    stage.now_s += HEALTHY_S
    stage.spawned[-1][1].die()
    await stage.until_spawned(10)
    assert stage.pauses_s[-1] == 0.2
    await stage.fleet.stop(0)


async def test_one_that_cannot_be_started_again_is_tried_again():
    stage = Stage(1)
    await stage.fleet.start()
    stage.fails = {1: "port in use"}
    stage.spawned[0][1].die()
    await stage.until_spawned(2)
    stage.spawned[1][1].die(1)
    await stage.until_spawned(3)
    assert stage.fleet.alive == 1
    assert not stage.spawned[2][1].fails
    await stage.fleet.stop(0)
    assert stage.spawned[2][1].stopped_in_s == 0


async def test_nothing_is_started_again_after_a_stop():
    stage = Stage(2)
    await stage.fleet.start()
    await stage.fleet.stop(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(stage.spawned) == 2
