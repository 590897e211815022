import asyncio

import pytest

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
