"""Processor time of a push: `python -m benchmarks.hotpath [--links 1000] [--rounds 12] [--profile]`.

Runs the whole service in this process, without gRPC in between: pushes one new sample of every link, round after round,
until all are predicted. Processor time is counted and not the clock's, so that it says the same on a busy machine; what
can overlap on two cores is bounded by half of the sum. `--profile` adds where Python's part goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness.service import cpu_s, family
from pba_service.app import now_ms, read_settings, running
from pba_service.domain.samples import LinkInfo, SampleBatch
from pba_service.runtime.session import load_model
from pba_service.runtime.trial import RUN_WINDOWS

if TYPE_CHECKING:
    from pba_service.engine.service import PbaService
    from pba_service.settings import Settings

MINUTE_MS = 60_000
HISTORY = 120
TYPICAL = np.array([100, 20, 0.001, 2], np.float32)


def say(line: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def batch(links: tuple[LinkInfo, ...], newest_ms: int, samples: int = 1) -> SampleBatch:
    """The newest samples of each link, a minute apart."""
    count = len(links) * samples
    times = np.tile(newest_ms - MINUTE_MS * np.arange(samples)[::-1], len(links))
    spread = np.random.default_rng(newest_ms % 2**32).uniform(0.8, 1.2, (count, 4)).astype(np.float32)
    index = np.repeat(np.arange(len(links), dtype=np.int32), samples)
    return SampleBatch(links, index, times, TYPICAL * spread, np.ones((count, 4), np.bool_))


async def predicted(service: PbaService, links: tuple[LinkInfo, ...], newest_ms: int) -> None:
    """Returns once each link is predicted from its newest sample."""
    while any(  # noqa: ASYNC110 - the service is asked
        (known := service.current(link.link_id)) is None or known.made_at_ms != newest_ms for link in links
    ):
        await asyncio.sleep(0.01)


def inference_us(settings: Settings) -> float:
    """Processor time of the bare model, in microseconds per window."""
    model = load_model(settings.model_path)
    windows = np.random.default_rng(1).random((RUN_WINDOWS, model.info.window_slots, 6), np.float32)
    steps = np.full(RUN_WINDOWS, MINUTE_MS, np.int64)
    taken = []
    for _ in range(40):
        started = time.process_time()
        model.predict(windows, steps)
        taken.append(time.process_time() - started)
    return statistics.median(taken) / RUN_WINDOWS * 1e6


async def main(count: int, rounds: int, *, profile: bool) -> None:
    """Prints the table."""
    links = tuple(LinkInfo(f"link-{i:06}") for i in range(count))
    newest_ms = now_ms() // MINUTE_MS * MINUTE_MS
    profiler = cProfile.Profile()
    process: list[float] = []
    store: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings(
            {
                "PBA_DATA_DIR": folder,
                "PBA_GRPC_PORT": "0",
                "PBA_METRICS_PORT": "0",
                "PBA_CATCH_UP_SAMPLES": "20",
                "PBA_UPDATE_INTERVAL": "3600s",
                "PBA_LOG_LEVEL": "warning",
            }
        )
        raw = inference_us(settings)
        # its time is that of the samples: links that seem silent would be read from the store
        async with running(settings, clock=lambda: newest_ms) as started:
            service = started.service
            await service.push(batch(links, newest_ms, HISTORY))
            await predicted(service, links, newest_ms)
            others = [pid for pid in family(os.getpid()) if pid != os.getpid()]
            for turn in range(rounds + 2):
                newest_ms += MINUTE_MS
                new = batch(links, newest_ms)
                before, theirs = time.process_time(), sum(map(cpu_s, others))
                if profile and turn == rounds:
                    profiler.enable()
                await service.push(new)
                await predicted(service, links, newest_ms)
                profiler.disable()
                if turn > 1:  # the first ones read links into memory
                    process.append((time.process_time() - before) / count * 1e6)
                    store.append((sum(map(cpu_s, others)) - theirs) / count * 1e6)
    mine, server = statistics.median(process), statistics.mean(store)
    say(f"{count:,} links, one new sample each, {rounds} rounds; microseconds of processor time per link")
    say(f"{'bare inference':<40}{raw:>8.1f}")
    say(f"{'the process, inference included':<40}{mine:>8.1f}   ({min(process):.1f} to {max(process):.1f})")
    say(f"{'the store':<40}{server:>8.1f}")
    say(f"{'inference, of all':<40}{raw / (mine + server):>8.2f}")
    if profile:
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=1_000, help="how many links")
    parser.add_argument("--rounds", type=int, default=12, help="how many samples of each")
    parser.add_argument("--profile", action="store_true", help="show where Python's time goes in one round")
    options = parser.parse_args()
    asyncio.run(main(options.links, options.rounds, profile=options.profile))
