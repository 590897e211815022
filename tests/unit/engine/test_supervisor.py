"""A loop that fails is started again, later and later; stopping ends them all."""

import asyncio

from pba_service.engine.supervisor import Supervisor


async def test_a_loop_that_fails_or_ends_is_started_again():
    starts, waits = [], []
    third = asyncio.Event()

    async def sleep(seconds):
        waits.append(seconds)
        assert supervisor.down == {"broken"}
        await asyncio.sleep(0)

    async def broken():
        starts.append(None)
        if len(starts) == 1:
            raise ZeroDivisionError
        if len(starts) == 3:
            third.set()
            await asyncio.Event().wait()

    supervisor = Supervisor(sleep)
    supervisor.start("broken", broken)
    async with asyncio.timeout(5):
        await third.wait()
    assert waits == [0.1, 0.2]
    assert not supervisor.down
    await supervisor.stop()
    assert len(starts) == 3


async def test_stopping_ends_every_loop():
    ended = []

    async def endless(name):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    supervisor = Supervisor()
    supervisor.start("a", lambda: endless("a"))
    supervisor.start("b", lambda: endless("b"))
    await asyncio.sleep(0)
    await supervisor.stop()
    assert sorted(ended) == ["a", "b"]
