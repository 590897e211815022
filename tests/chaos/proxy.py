"""A TCP proxy on the loopback that can be cut, slowed and silenced."""

import asyncio
import contextlib


class Proxy:
    """Stands between a client and a server; a context manager.

    Attributes:
        port: Where it listens.
        delay_s: How long every piece of data is held back, each way.
    """

    def __init__(self, target_port):
        self.delay_s = 0.0
        self._target_port = target_port
        self._cut = False
        self._heard = asyncio.Event()
        self._heard.set()
        self._writers = set()
        self._served = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.cut()
        self.heal()
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._served)

    def cut(self):
        """Breaks all connections and takes no new ones."""
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def silence(self):
        """Keeps connections open and passes nothing on."""
        self._heard.clear()

    def heal(self):
        """Passes everything on at once again."""
        self._cut, self.delay_s = False, 0.0
        self._heard.set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        if self._cut:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        self._writers -= {writer, there_writer}

    async def _pass(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._heard.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
