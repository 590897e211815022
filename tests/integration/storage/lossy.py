"""A server whose answers can be lost: what was asked has been done, and nobody hears of it."""

import asyncio
from contextlib import asynccontextmanager

from tests.servers import RunningServer, free_ports, short_folder


class LosesAnswers:
    """Passes bytes on to a server; once armed, the next answer to what is meant is lost with its connection.

    Attributes:
        url: Where it listens.
        armed: Whether the next such answer is to be lost.
        lost: Answers lost so far.
    """

    def __init__(self, port, *meant):
        """Takes the server's port, and texts that together tell what is meant."""
        self._port, self._meant = port, meant
        self.url, self.armed, self.lost = "", False, 0

    async def serve(self, reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        asked = False

        async def up():
            nonlocal asked
            while data := await reader.read(65_536):
                asked = all(text in data for text in self._meant)
                there_writer.write(data)
            there_writer.close()

        async def down():
            while data := await there_reader.read(65_536):
                if self.armed and asked:
                    self.armed, self.lost = False, self.lost + 1
                    writer.transport.abort()
                    there_writer.transport.abort()
                    return
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)


@asynccontextmanager
async def lossy(*meant):
    """A server of its own behind a `LosesAnswers`."""
    [port] = free_ports(1)
    with short_folder() as folder:
        server, proxy = RunningServer(folder, port=port), LosesAnswers(port, *meant)
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            listening.close()
            server.close()
