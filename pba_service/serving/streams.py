"""The stream of batches: several are under way at a time, acknowledged in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pba_service.engine.api import PushOutcome
from pba_service.serving.batches import read_batch
from pba_service.serving.convert import push_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pba.v1 import prediction_service_pb2 as pb

    from pba_service.engine.api import Service
    from pba_service.serving.batches import Incoming

MAX_BATCHES_UNDER_WAY = 16
"""Enough for the engine to put batches of one stream into one round trip of the store."""

MAX_SAMPLES_UNDER_WAY = 20_000
"""Bounds what one stream holds in memory, whatever the size of its batches; one batch is always admitted."""


async def store(service: Service, sequence: int, incoming: Incoming) -> pb.PushSamplesResponse:
    """Stores what could be read of a batch and says what became of all of it."""
    outcome = await service.push(incoming.batch) if len(incoming.batch) else PushOutcome(0, 0, 0)
    return push_response(sequence, outcome, incoming.all_refusals(outcome.refusals))


class SampleStream:
    """One stream of batches.

    Its reader starts the batches and the generator gives out their acknowledgements. The first batch that fails ends
    the stream, once those before it are acknowledged; those after it count as not stored.
    """

    def __init__(
        self, service: Service, requests: AsyncIterator[pb.PushSamplesRequest], closing: asyncio.Event
    ) -> None:
        """Prepares a stream.

        Args:
            service: Stores the batches.
            requests: What the client sends.
            closing: Once set nothing more is read; what was read before is still stored and acknowledged.
        """
        self._service = service
        self._requests = requests
        self._closing = closing
        self._under_way: deque[tuple[asyncio.Task[pb.PushSamplesResponse], int]] = deque()  # with their samples
        self._samples = 0
        self._room = asyncio.Event()
        self._arrived = asyncio.Event()

    async def acknowledgements(self) -> AsyncGenerator[pb.PushSamplesResponse, None]:
        """One for each request, in order, as soon as it and all before it are stored."""
        reader = asyncio.create_task(self._read())
        closer = asyncio.create_task(self._close(reader))
        try:
            while True:
                while self._under_way:
                    task, samples = self._under_way[0]
                    response = await task
                    self._under_way.popleft()
                    self._samples -= samples
                    self._room.set()
                    yield response
                if reader.done():
                    break
                self._arrived.clear()
                await self._arrived.wait()
            if not reader.cancelled():
                reader.result()
        finally:
            left = [reader, closer, *(task for task, _ in self._under_way)]
            for unfinished in left:
                unfinished.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                samples = len(request.samples) + len(request.columns.measured_at_ms)
                while self._is_full(samples):
                    self._room.clear()
                    await self._room.wait()
                self._samples += samples
                self._under_way.append((asyncio.create_task(self._store(request)), samples))
                self._arrived.set()
        finally:
            self._arrived.set()

    async def _store(self, request: pb.PushSamplesRequest) -> pb.PushSamplesResponse:
        return await store(self._service, request.sequence, read_batch(request))

    def _is_full(self, samples: int) -> bool:
        count = len(self._under_way)
        return count >= MAX_BATCHES_UNDER_WAY or (count > 0 and self._samples + samples > MAX_SAMPLES_UNDER_WAY)

    async def _close(self, reader: asyncio.Task[None]) -> None:
        await self._closing.wait()
        reader.cancel()
