"""Small synthetic windows whose answers travel in the manifest, so that a server can check what it loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.window import clock_features
from pba_service.training.dataset import empty_windows
from pba_service.training.manifest import Golden, nullable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.training.onnx_run import OnnxGraph

_MADE_AT_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
_LEVEL = np.array([100.0, 40.0, 0.01, 4.0], np.float32)


def windows(slots: int) -> dict[str, tuple[NDArray[np.float32], float]]:
    """Name to (float32[slots, 6], step_s)."""
    random = np.random.default_rng(2026)
    noise = random.lognormal(0, 0.2, (slots, 4)).astype(np.float32)
    made = {
        "steady": (np.ones_like(noise), 60.0),
        "noisy": (noise, 60.0),
        "step-up": (_newest(noise, 6, 2 * noise[-6:]), 240.0),
        "latency-only": (noise * np.array([np.nan, 1, np.nan, np.nan]), 300.0),
        "bandwidth-only": (noise * np.array([1, np.nan, np.nan, np.nan]), 900.0),
        "short-history": (_newest(np.full_like(noise, np.nan), 10, noise[-10:]), 60.0),
        "outage": (_newest(noise, 4, np.array([0, 75, 100, 125])), 60.0),
        "idle": (np.zeros_like(noise), 60.0),
    }
    result = {}
    for name, (factors, step_s) in made.items():
        window = empty_windows(1, slots)[0]
        window[:, :4] = _LEVEL * factors
        times = _MADE_AT_MS - np.arange(slots - 1, -1, -1) * int(step_s * 1000)
        window[:, 4:] = clock_features(times)
        result[name] = (window, step_s)
    return result


def _newest(values: NDArray[np.float32], slots: int, replacement: NDArray[Any]) -> NDArray[np.float32]:
    """A copy with other newest slots."""
    changed = values.copy()
    changed[-slots:] = replacement
    return changed


def answered(graph: OnnxGraph, slots: int) -> list[Golden]:
    """Every golden window with the graph's answer, each run on its own."""
    result = []
    for name, (window, step_s) in windows(slots).items():
        feeds = {"window": window[None], "step_s": np.array([step_s], np.float32)}
        forecast = graph(feeds)["forecast"][0]
        result.append(Golden(name=name, window=nullable(window), step_s=step_s, forecast=nullable(forecast)))
    return result
