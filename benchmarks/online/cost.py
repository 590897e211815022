"""What online learning costs beside inference: one step of many links, and the model on the same windows.

    python benchmarks/online/cost.py [--links 10000] [--model models/pba_lstm]

Prints microseconds per link of `domain.online.advance` and its parts, of its bytes, and of the bare ONNX Runtime session
in batches of 64, all from the same run, so that the ratio holds whatever the machine.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online
from pba_service.domain.samples import Series
from pba_service.domain.window import windows_at
from pba_service.runtime.session import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_MS = 60_000
START_MS = 1_760_000_000_000
BATCH = 64
ROUNDS = 15


def seconds(work: Callable[..., object], prepare: Callable[[], tuple[object, ...]] = tuple) -> float:
    """The least processor time of some runs, so that others on the machine count little."""
    taken = []
    for _ in range(ROUNDS):
        prepared = prepare()
        gc.collect()
        start = time.process_time()
        work(*prepared)
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=10_000)
    parser.add_argument("--model", type=Path, default=Path("models/pba_lstm"))
    options = parser.parse_args()
    model = load_model(options.model)
    slots, count = model.info.window_slots, options.links
    horizon = min(range(len(model.info.horizons_ms)), key=lambda i: abs(model.info.horizons_ms[i] - 900_000))

    rng = np.random.default_rng(0)
    samples = slots + 40
    level = np.exp(0.03 * rng.standard_normal((count, samples, 4)).cumsum(axis=1)) * [80, 30, 0.01, 3]
    values = np.minimum(level, [1e8, 1e6, 1, 1e6]).astype(np.float32)
    times = START_MS + STEP_MS * np.arange(samples, dtype=np.int64)
    step = np.full(count, STEP_MS, np.int64)
    states = online.decode([b""] * count)
    ends = range(slots + 15, samples - 1)
    windows = np.stack(
        [windows_at(Series(times, v), np.array([samples - 1]), slots, STEP_MS).values[0] for v in values]
    )

    inferred = seconds(
        lambda: [model.predict(windows[i : i + BATCH], step[i : i + BATCH]) for i in range(0, count, BATCH)]
    )
    output = np.concatenate(
        [model.predict(windows[i : i + BATCH], step[i : i + BATCH])[:, horizon] for i in range(0, count, BATCH)]
    )

    def advance(states: np.ndarray, end: int) -> online.Advance:
        made_at = np.full(count, times[end])
        return online.advance(
            states,
            series=[Series(times[end - slots - 14 : end + 1], v[end - slots - 14 : end + 1]) for v in values],
            made_at_ms=made_at,
            step_ms=step,
            target_ms=made_at + 15 * STEP_MS,
            windows=windows,
            model_output=output,
            levels=model.info.quantile_levels,
            model_version=model.info.version,
        )

    for end in ends:  # fills the ring of pending forecasts
        states = advance(states, end).states
    series = [Series(times[-slots - 15 :], v[-slots - 15 :]) for v in values]
    made_at = np.full(count, times[-1])

    def step_once(states: np.ndarray) -> online.Advance:
        return online.advance(
            states,
            series=series,
            made_at_ms=made_at,
            step_ms=step,
            target_ms=made_at + 15 * STEP_MS,
            windows=windows,
            model_output=output,
            levels=model.info.quantile_levels,
            model_version=model.info.version,
        )

    settled = sum(len(entries) for entries in step_once(states.copy()).entries)
    if settled != count:
        raise SystemExit(f"{settled} of {count} links settled a forecast: not the steady state that is to be measured")
    stepped = seconds(step_once, lambda: (states.copy(),))
    blobs = online.encode(states)
    coded = seconds(lambda: online.encode(online.decode(blobs)))
    print(f"links                  {count}")
    print(
        f"state bytes            {len(blobs[0])} with 15 pending forecasts, {len(online.encode(online.decode([b'']))[0])} new"
    )
    print(f"model                  {inferred / count * 1e6:8.2f} us per link ({model.info.name}, batches of {BATCH})")
    print(f"advance                {stepped / count * 1e6:8.2f} us per link, {stepped / inferred:.3f} of the model")
    print(f"decode and encode      {coded / count * 1e6:8.2f} us per link, {coded / inferred:.3f} of the model")


if __name__ == "__main__":
    main()
