"""What online learning costs beside inference: `python -m benchmarks.online [--links 10000] [--model models/pba_lstm]`.

One step of many links (each settles a forecast, makes one and remembers it), and the bare ONNX Runtime session on the
same windows in batches of 64. Processor time of one thread, the two taking turns, so that whatever else the machine
does meets both alike; the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online
from pba_service.domain.columns import Columns
from pba_service.domain.samples import Series
from pba_service.domain.window import windows_at
from pba_service.runtime.session import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pba_service.engine.ports import Model

STEP_MS = 60_000
HORIZON_STEPS = 15
START_MS = 1_760_000_000_000
BATCH = 64
MOST = 0.15


class Links:
    """Links of random walks, each at one minute's cadence, with the model's answers on their newest windows."""

    def __init__(self, count: int, model: Model) -> None:
        slots = model.info.window_slots
        self.model, self.count, self.samples = model, count, slots + HORIZON_STEPS + 25
        rng = np.random.default_rng(0)
        walk = np.exp(0.03 * rng.standard_normal((count, self.samples, 4)).cumsum(axis=1)) * [80, 30, 0.01, 3]
        self.values = np.minimum(walk, [1e8, 1e6, 1, 1e6]).astype(np.float32)
        self.times = START_MS + STEP_MS * np.arange(self.samples, dtype=np.int64)
        self.table = np.tile(self.times, (count, 1))
        self.step = np.full(count, STEP_MS, np.int64)
        newest = np.array([self.samples - 1])
        windows = [windows_at(Series(self.times, values), newest, slots, STEP_MS).values[0] for values in self.values]
        self.windows = np.stack(windows)
        horizons = model.info.horizons_ms
        self._horizon = min(range(len(horizons)), key=lambda i: abs(horizons[i] - HORIZON_STEPS * STEP_MS))
        self.output = np.concatenate(self.infer())

    def infer(self) -> list[NDArray[np.float32]]:
        """The model on every window."""
        return [
            self.model.predict(self.windows[i : i + BATCH], self.step[i : i + BATCH])[:, self._horizon]
            for i in range(0, self.count, BATCH)
        ]

    def past(self, end: int) -> Columns:
        """What is remembered of each link to advance it to a sample."""
        first = max(end - self.model.info.window_slots - HORIZON_STEPS, 0)
        every = np.arange(self.count)
        return Columns(self.table, self.values, every, np.full(self.count, first), np.full(self.count, end))

    def advance(self, states: NDArray[np.void], past: Columns, end: int) -> online.Advance:
        """One step; the window is the newest one's throughout, which costs the same."""
        made_at = np.full(self.count, self.times[end])
        return online.advance(
            states,
            series=past,
            made_at_ms=made_at,
            step_ms=self.step,
            target_ms=made_at + HORIZON_STEPS * STEP_MS,
            windows=self.windows,
            model_output=self.output,
            levels=self.model.info.quantile_levels,
            model_version=self.model.info.version,
        )


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one run."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Measures and prints; fails where a step and the entries it yields cost more than `MOST` of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", type=Path, default=Path("models/pba_lstm"))
    options = parser.parse_args()
    links = Links(options.links, load_model(options.model))
    states, newest = online.decode([b""] * links.count), links.samples - 1
    for end in range(newest - HORIZON_STEPS - 2, newest):  # until forecasts come true as fast as they are made
        links.advance(states, links.past(end), end)
    past = links.past(newest)
    settled = sum(map(len, links.advance(states.copy(), past, newest).entries))
    if settled != links.count:
        sys.exit(f"{settled} of {links.count} links settled a forecast: not the steady state that is to be measured")

    rounds = []
    for _ in range(options.rounds):
        fresh, blobs, done = states.copy(), online.encode(states), []
        rounds.append(
            (
                seconds(links.infer),
                seconds(lambda fresh=fresh, done=done: done.append(links.advance(fresh, past, newest))),
                seconds(lambda done=done: done[0].entries),
                seconds(lambda blobs=blobs: online.encode(online.decode(blobs))),
            )
        )
    costs = (1e6 * statistics.median(column) / links.count for column in zip(*rounds, strict=True))
    inferred, advanced, entered, coded = costs
    ratio = statistics.median(step / model for model, step, _, _ in rounds)
    whole = statistics.median((step + entries) / model for model, step, entries, _ in rounds)
    sizes = [len(online.encode(some)[0]) for some in (states, online.decode([b""]))]
    sys.stdout.write(
        f"{links.count} links, processor time of one thread, median of {options.rounds} rounds\n"
        f"model              {inferred:8.2f} us per link ({links.model.info.version}, batches of {BATCH})\n"
        f"advance            {advanced:8.2f} us per link: {ratio:.3f} of the model\n"
        f"ledger entries     {entered:8.2f} us per link: {whole:.3f} with the step\n"
        f"decode and encode  {coded:8.2f} us per link\n"
        f"state              {sizes[0]} bytes with {HORIZON_STEPS} pending forecasts, {sizes[1]} new\n"
    )
    return int(whole > MOST)


if __name__ == "__main__":
    sys.exit(main())
