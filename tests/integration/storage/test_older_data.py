"""A server that comes back without what it had acknowledged last, while processes remember that."""

from concurrent.futures import ThreadPoolExecutor

from pba_service.storage.redis_store import RedisStore
from tests import servers
from tests.conformance.tools import DAY_MS, MINUTE_MS, NOW_MS, Clock, minutes, samples
from tests.unit.engine.test_hot import Process


async def after_restart(folder, *, remembers):
    """What a link's newest prediction says, after the server has lost a sample and another process stored one."""
    saves = ("--appendonly", "no", "--dbfilename", "dump.rdb")
    server = servers.RunningServer(folder, *saves)
    clock = Clock(NOW_MS + 10 * MINUTE_MS)

    def connect():
        return RedisStore.connect(server.url, max_samples=50_000, retention_ms=30 * DAY_MS, clock=clock, timeout_s=10.0)

    stores = connect(), connect()
    with ThreadPoolExecutor(1) as worker:
        here, there = (Process(store, worker, remembers=remembers) for store in stores)

        async def push(process, at_ms, bandwidth):
            await process.push(samples("a", [at_ms], [bandwidth]))
            await process.catch_up()

        await here.push(samples("a", minutes(30)))
        await here.catch_up()
        await push(here, NOW_MS + MINUTE_MS, 30)
        server.client.save()
        await push(here, NOW_MS + 2 * MINUTE_MS, 900)  # acknowledged, and lost
        server.kill()
        server.start()
        await push(there, NOW_MS + 2 * MINUTE_MS + 5, 30)
        await push(here, NOW_MS + 3 * MINUTE_MS, 30)
        [newest] = await stores[0].newest(["a"])
    for store in stores:
        await store.close()
    server.close()
    return newest


async def test_what_a_server_lost_is_not_remembered():
    with servers.short_folder() as folder:
        remembering = await after_restart(folder / "a", remembers=True)
        reading = await after_restart(folder / "b", remembers=False)
    assert remembering.same_as(reading)
