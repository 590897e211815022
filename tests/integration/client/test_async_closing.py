"""What becomes of calls under way when the asyncio client is closed."""

import asyncio

import pytest

from pba_client import AsyncClient, CallCancelledError, ClientClosedError
from tests.integration.serving.harness import FakeService, serve


class Held(FakeService):
    """Answers no prediction."""

    def __init__(self):
        super().__init__()
        self.asked = asyncio.Event()

    async def predict(self, link_id):
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_call_under_way_when_the_client_is_closed_fails_and_cancels_nobody():
    service = Held()
    async with serve(service) as running:
        client = AsyncClient(f"127.0.0.1:{running.port}")
        asking = asyncio.create_task(client.predict("a"))
        await asyncio.wait_for(service.asked.wait(), 5)
        await client.close()
        await asyncio.wait([asking], timeout=5)
        assert not asking.cancelled(), "nobody has cancelled it"
        with pytest.raises((ClientClosedError, CallCancelledError)):
            asking.result()
