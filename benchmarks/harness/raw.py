"""The control for inference: bare ONNX Runtime on windows that are ready, one session of one thread per thread."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.runtime.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 64


def open_bare(model: Path) -> tuple[Any, bool, int]:
    """A session, whether it wants `step_s` too, and the slots of its window."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    files = json.loads((model / "manifest.json").read_text())
    session = open_session((model / "model.onnx").read_bytes())
    return session, any(one.name == "step_s" for one in session.get_inputs()), int(files["window_slots"])


def feeds_of(windows: np.ndarray[Any, Any], *, wants_step: bool) -> dict[str, np.ndarray[Any, Any]]:
    """What the session is given for windows of one minute's cadence."""
    feeds = {"window": windows}
    if wants_step:
        feeds["step_s"] = np.full(len(windows), 60, np.float32)
    return feeds


def windows_of(count: int, slots: int) -> np.ndarray[Any, Any]:
    """float32[count, slots, 6], plausible."""
    rng = np.random.default_rng(5)
    walk = np.exp(0.03 * rng.standard_normal((count, slots, 4)).cumsum(axis=1)) * [80, 30, 0.01, 3]
    clock = np.broadcast_to([12.0, 3.0], (count, slots, 2))
    return np.concatenate([np.minimum(walk, [1e8, 1e6, 1, 1e6]), clock], axis=2).astype(np.float32)


class RawModel:
    """Runs a model as fast as ONNX Runtime does."""

    def __init__(self, model: Path, batch: int = BATCH) -> None:
        self._session, wants_step, slots = open_bare(model)
        self._feeds, self._batch = feeds_of(windows_of(batch, slots), wants_step=wants_step), batch
        self.rate(0.2)

    def thread_rate(self, seconds: float) -> float:
        """Windows per second of this thread's processor time, so that whoever else has the core does not count."""
        count, started = 0, time.thread_time()
        while (took := time.thread_time() - started) < seconds:
            self._session.run(["forecast"], self._feeds)
            count += self._batch
        return count / took

    def rate(self, seconds: float, threads: int = 1) -> float:
        """Windows per second."""
        counts = [0] * threads

        def work(place: int) -> None:
            while time.perf_counter() < end:
                self._session.run(["forecast"], self._feeds)
                counts[place] += self._batch

        started = time.perf_counter()
        end = started + seconds
        others = [threading.Thread(target=work, args=(place,)) for place in range(1, threads)]
        for other in others:
            other.start()
        work(0)
        for other in others:
            other.join()
        return sum(counts) / (time.perf_counter() - started)
