"""Small synthetic windows whose answers travel in the manifest, so that a server can check what it loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.window import clock_features
from pba_service.training.dataset import empty_windows
from pba_service.training.manifest import Golden, nullable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pba_service.training.onnx_run import OnnxGraph

_MADE_AT_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
_LEVEL = np.array([100.0, 40.0, 0.01, 4.0], np.float32)


def windows(slots: int) -> dict[str, tuple[NDArray[np.float32], float]]:
    """Name to (float32[slots, 6], step_s)."""
    random = np.random.default_rng(2026)
    noise = random.lognormal(0, 0.2, (slots, 4)).astype(np.float32)
    made: dict[str, tuple[Callable[[NDArray[np.float32]], None], float]] = {
        "steady": (lambda v: None, 60.0),
        "noisy": (lambda v: np.multiply(v, noise, out=v), 60.0),
        "step-up": (lambda v: np.multiply(v[-6:], 2 * noise[-6:], out=v[-6:]), 240.0),
        "latency-only": (lambda v: _absent(v, (0, 2, 3)), 300.0),
        "bandwidth-only": (lambda v: _absent(v, (1, 2, 3)), 900.0),
        "short-history": (lambda v: v[:-10].fill(np.nan), 60.0),
        "outage": (lambda v: _set(v[-4:], (0.0, 3000.0, 1.0, 500.0)), 60.0),
        "idle": (lambda v: v.fill(0.0), 60.0),
    }
    result = {}
    for name, (change, step_s) in made.items():
        values = np.tile(_LEVEL, (slots, 1))
        change(values)
        window = empty_windows(1, slots)[0]
        window[:, :4] = values
        times = _MADE_AT_MS - np.arange(slots - 1, -1, -1) * int(step_s * 1000)
        window[:, 4:] = clock_features(times)
        result[name] = (window, step_s)
    return result


def _absent(values: NDArray[np.float32], columns: tuple[int, ...]) -> None:
    values[:, list(columns)] = np.nan


def _set(values: NDArray[np.float32], level: tuple[float, ...]) -> None:
    values[:] = level


def answered(graph: OnnxGraph, slots: int) -> list[Golden]:
    """Every golden window with the graph's answer, each run on its own."""
    result = []
    for name, (window, step_s) in windows(slots).items():
        feeds = {"window": window[None], "step_s": np.array([step_s], np.float32)}
        forecast = graph(feeds)["forecast"][0]
        result.append(Golden(name=name, window=nullable(window), step_s=step_s, forecast=nullable(forecast)))
    return result
