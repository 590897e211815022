"""Simulated links that are measured now and were measured before, each at its own second of the minute."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_client import TemporaryError
from pba_service.cli.push import columns_of
from pba_service.cli.told import CommandError
from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import LinkInfo, SampleBatch, Series, one_link_batch
from pba_service.domain.simulate import LinkSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from pba_client import AsyncClient

CHUNK_SAMPLES = 10_000
REGIONS = ("eu", "us", "ap")
POLL_S = 0.25
MARGIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class SimulatedLink:
    """A link that the simulator knows.

    Attributes:
        info: What it is called.
        simulator: What it does.
        cadence_ms: Time between its samples.
        phase_ms: By how much its samples come later than those of other links.
    """

    info: LinkInfo
    simulator: LinkSimulator
    cadence_ms: int
    phase_ms: int

    def measured(self, start_ms: int, end_ms: int) -> Series:
        """Its samples in [start, end)."""
        times = self.simulator.times(start_ms - self.phase_ms, end_ms - self.phase_ms, self.cadence_ms) + self.phase_ms
        values = self.simulator.at(times)
        said = np.isfinite(values).any(axis=1)
        return Series(times[said], values[said])

    def parts(self, start_ms: int, end_ms: int) -> Iterator[Series]:
        """The same in parts of which one push can carry each."""
        span_ms = CHUNK_SAMPLES * self.cadence_ms
        for begin in range(start_ms, end_ms, span_ms):
            series = self.measured(begin, min(begin + span_ms, end_ms))
            if len(series):
                yield series

    def batches(self, start_ms: int, end_ms: int) -> Iterator[SampleBatch]:
        """The same as batches."""
        for series in self.parts(start_ms, end_ms):
            yield batch_of(self.info, series)


def batch_of(info: LinkInfo, series: Series) -> SampleBatch:
    """A series as a batch."""
    return one_link_batch(info, series.times_ms.tolist(), series.values)


def simulated_links(
    count: int, profiles: Sequence[str], seed: int, prefix: str, cadence: timedelta
) -> list[SimulatedLink]:
    """Links of the wanted kinds in turn, their samples spread over the cadence.

    Raises:
        CommandError: A kind is unknown, or the cadence is too short.
    """
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        raise CommandError(f"there is no profile {', '.join(unknown)}; there are {', '.join(PROFILES)}")
    kinds = list(profiles) or list(PROFILES)
    cadence_ms = round(cadence.total_seconds() * 1000)
    if not cadence_ms:
        raise CommandError("the cadence is at least 1 ms")
    links = []
    for position in range(count):
        name = kinds[position % len(kinds)]
        number = position // len(kinds) + 1
        info = LinkInfo(
            f"{prefix}{name}-{number}",
            node=f"{name}-{number}-a",
            peer=f"{name}-{number}-b",
            region=REGIONS[position % 3],
        )
        simulator = LinkSimulator(PROFILES[name], seed * 10_000 + number)
        links.append(SimulatedLink(info, simulator, cadence_ms, position * cadence_ms // count))
    return links


def now_ms() -> int:
    """Wall-clock time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


async def push_past(client: AsyncClient, links: Sequence[SimulatedLink], span: timedelta, until_ms: int) -> int:
    """Pushes what the links were like before; returns how many samples."""
    start_ms, pushed = until_ms - round(span.total_seconds() * 1000), 0
    for link in links:
        for batch in link.batches(start_ms, until_ms):
            await client.push_columns(columns_of(batch))
            pushed += len(batch)
    return pushed


async def push_live(client: AsyncClient, links: Sequence[SimulatedLink], since_ms: int) -> None:
    """Pushes each sample when it is measured, for ever; after an outage, however long, what it has left out."""
    while True:
        try:
            async with client.stream() as stream:
                while True:
                    until_ms = now_ms()
                    for link in links:
                        for batch in link.batches(since_ms, until_ms):
                            await stream.push(columns_of(batch))
                    since_ms = max(since_ms, until_ms)
                    await asyncio.sleep(POLL_S)
        except TemporaryError:
            # what was not acknowledged is not older than this, and what was is stored once all the same
            since_ms -= round(client.options.patience_s * 1000) + MARGIN_MS
