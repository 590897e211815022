import asyncio

import pytest

from pba_service.storage import scripts
from pba_service.storage.server import Server


class ObstinateServer(Server):
    """Swallows a cancellation as `asyncio.wait_for` does before Python 3.12."""

    links_per_call = 1
    holds_everything = True

    def __init__(self, answer):
        super().__init__(timeout_s=5)
        self.entered = asyncio.Event()
        self.answer = answer

    async def close(self):
        pass

    async def each_primary(self, commands):
        return [("it", await self._send(commands))]

    async def beside_links(self, link_ids, commands):
        return [await self._send(commands(b"key"))]

    async def _send(self, commands):
        return [await self._command(command) for command in commands]

    async def _command(self, command):
        super().__init__(timeout_s=5)
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if isinstance(self.answer, Exception):
                raise self.answer from None
            return self.answer


@pytest.mark.parametrize("answer", [b"OK", ConnectionResetError("gone")])
async def test_a_swallowed_cancellation_counts(answer):
    server = ObstinateServer(answer)
    task = asyncio.create_task(server.command("PING"))
    await server.entered.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


class EchoServer(ObstinateServer):
    """Answers each call with its first key, the later ones sooner."""

    def __init__(self):
        super().__init__(answer=None)
        self.under_way, self.most = 0, 0

    async def _send(self, commands):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01 / (1 + self.most))
        self.under_way -= 1
        return [command[3] for command in commands]


@pytest.mark.parametrize(("calls", "together"), [(0, 1), (1, 1), (2, 1), (9, 2), (40, None)])
async def test_answers_come_in_the_order_of_calls_and_few_are_under_way(calls, together):
    server = EchoServer()
    keys = [b"%d" % i for i in range(calls)]

    assert await server.run(scripts.PUT, (([key], []) for key in keys), together=together) == keys
    assert server.most <= 4


async def test_calls_are_made_while_others_are_under_way():
    server, seen = EchoServer(), []

    def calls():
        for i in range(12):
            seen.append(server.under_way)
            yield [b"%d" % i], []

    await server.run(scripts.PUT, calls(), together=1)
    assert max(seen) > 0
