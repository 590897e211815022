"""A push whose answer is lost with its connection: it is sent again, and the store says that it has it already."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from pba_service.engine.advance import Options
from pba_service.engine.ingest import Ingest
from pba_service.engine.models import ModelSet
from pba_service.engine.refresh import Refresher
from pba_service.observability.metrics import Metrics
from pba_service.storage.redis_store import RedisStore
from tests import servers
from tests.conformance.tools import DAY_MS, MINUTE_MS, NOW_MS, Clock, minutes, samples
from tests.fakes import LastValueModel


class LosesAnswers:
    """Passes bytes on; once armed, the next answer to a push is lost with its connection, after it was acted on."""

    def __init__(self, port):
        self._port, self.armed, self.lost = port, False, 0

    async def serve(self, reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        pushed = False

        async def up():
            nonlocal pushed
            while data := await reader.read(65_536):
                pushed = b"EVAL" in data and b"pba:{a}" in data
                there_writer.write(data)
            there_writer.close()

        async def down():
            while data := await there_reader.read(65_536):
                if self.armed and pushed:
                    self.armed, self.lost = False, self.lost + 1
                    writer.transport.abort()
                    there_writer.transport.abort()
                    return
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)


@pytest.fixture
async def losing():
    """What loses an answer, and a store behind it."""
    [port] = servers.free_ports(1)
    with servers.short_folder() as folder:
        server, proxy = servers.RunningServer(folder, port=port), LosesAnswers(port)
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        store = RedisStore.connect(
            f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}",
            max_samples=50_000,
            retention_ms=30 * DAY_MS,
            clock=Clock(NOW_MS + MINUTE_MS),
            timeout_s=5.0,
        )
        try:
            yield proxy, store
        finally:
            await store.close()
            listening.close()
            server.close()


async def test_a_push_whose_answer_was_lost_is_predicted_from(losing):
    proxy, store = losing
    with ThreadPoolExecutor(1) as worker:
        metrics = Metrics(CollectorRegistry(), 1)
        refresher = Refresher(store, Options(base_ms=MINUTE_MS, catch_up=480), worker, metrics)
        refresher.serve_with(ModelSet.of(LastValueModel()))
        ingest = Ingest(store, metrics, refresher)
        tasks = [asyncio.create_task(ingest.run()), asyncio.create_task(refresher.run())]
        await ingest.put(samples("a", minutes(30)))
        await refresher.settled(["a"], 10)
        assert (await store.newest(["a"]))[0].made_at_ms == NOW_MS

        proxy.armed = True
        await ingest.put(samples("a", [NOW_MS + MINUTE_MS], [5.0]))
        assert proxy.lost == 1
        await refresher.settled(["a"], 10)

        assert (await store.newest(["a"]))[0].made_at_ms == NOW_MS + MINUTE_MS
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
