"""An ONNX file without a manifest: what can be told from the file alone is written down, and proved.

Only one kind of file says all there is to know: the documented topology, which reads `window` float32[n, slots, 6] in
raw units (and perhaps `step_s` float32[n]) and answers `forecast` float32[n, 1, 4, 1], one value per metric 15 minutes
ahead. A file with more horizons or quantiles does not say which they are, so it needs its manifest.

Nobody recorded golden answers of such a file, so they are made here, from windows whose next values are plain to see. A
model that was exported without its scaling answers these in other units, and is refused for it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pba_service.domain.errors import ModelRefusedError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES, MIN_SLOTS, clock_features
from pba_service.runtime.ort import open_session
from pba_service.runtime.trial import try_out
from pba_service.runtime.vet import vet

FAR_OFF = 100.0
"""A model whose every bandwidth and latency is more than this factor from a steady link's does not speak raw units."""

_STEP_MS = 60_000
_EPOCH_MS = 1_767_225_600_000  # 2026-01-01: the day of the golden windows
_WINDOW_AXES, _STEADY_METRICS = 3, 2
_LEVELS = np.array([[80, 20, 0.001, 1], [900, 4, 0, 0.2], [8, 180, 0.02, 25]], np.float32)

Floats = NDArray[np.float32]


def derive(stem: str, onnx: bytes, where: str) -> bytes:
    """The manifest of an ONNX file alone.

    Args:
        stem: The file's name without its ending; the model is called so.
        onnx: The file.
        where: For operators.

    Returns:
        JSON as `manifest.parse` reads it, with `derived` true.

    Raises:
        ModelRefusedError: The file cannot be loaded, does not say enough, or answers in other units.
    """
    vet(onnx, where)
    try_out(onnx, MIN_SLOTS, where)
    try:
        session = open_session(onnx)
    except Exception as error:  # the runtime's exceptions have no common base of their own
        raise ModelRefusedError(where, f"ONNX Runtime cannot load it: {error}", "runtime") from error
    slots, wants_step = _signature(session, where)
    goldens = _goldens(slots)
    checksum = hashlib.sha256(onnx).hexdigest()
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.+-") else "_" for c in stem).lstrip(".+-")[:19] or "_"
    step_s = [{"name": "step_s", "shape": ["n"], "dtype": "float32"}] if wants_step else []
    fields = {
        "schema": 1,
        "derived": True,
        "name": name,
        "version": f"{name}-{checksum[:12]}",
        "created_at": datetime.fromtimestamp(0, UTC).isoformat(),  # not known; the same wherever it is derived
        "model_file": "model.onnx",
        "checksum_sha256": checksum,
        "window_slots": slots,
        "min_slots": MIN_SLOTS,
        "features": list(FEATURES),
        "metrics": list(METRICS),
        "horizons_s": [PRODUCT_HORIZON_MS // 1000],
        "quantiles": [0.5],
        "inputs": [{"name": "window", "shape": ["n", slots, len(FEATURES)], "dtype": "float32"}, *step_s],
        "outputs": [{"name": "forecast", "shape": ["n", 1, len(METRICS), 1], "dtype": "float32"}],
        "parameters": 0,
        "scores": {},
        "goldens": [
            {"name": f"steady {i}", "window": nullable(window), "step_s": _STEP_MS / 1000, "forecast": nullable(said)}
            for i, (window, said) in enumerate(zip(goldens, _answers(session, goldens, wants_step, where), strict=True))
        ],
    }
    return json.dumps(fields, allow_nan=False).encode()


def _signature(session: Any, where: str) -> tuple[int, bool]:
    """How many slots it reads, and whether it wants the cadence."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    shapes = {name: list(tensor.shape) for name, tensor in (inputs | outputs).items()}
    window, forecast = shapes.get("window", []), shapes.get("forecast", [])
    slots = window[1] if len(window) == _WINDOW_AXES else None
    fits = (
        set(inputs) in ({"window"}, {"window", "step_s"})
        and set(outputs) == {"forecast"}
        and isinstance(slots, int)
        and window[2] == len(FEATURES)
        and forecast[1:] == [1, len(METRICS), 1]
    )
    if not fits or not isinstance(slots, int):
        wanted = f"window [n, slots, {len(FEATURES)}] and forecast [n, 1, {len(METRICS)}, 1]"
        raise ModelRefusedError(
            where, f"it has no manifest, and its tensors {shapes} do not say what they mean as {wanted} do", "signature"
        )
    return slots, "step_s" in inputs


def _goldens(slots: int) -> Floats:
    """float32[6, slots, 6]: links steady at three levels, and each of them again without latency and jitter."""
    windows = np.empty((2 * len(_LEVELS), slots, len(FEATURES)), np.float32)
    wander = 1 + 0.02 * np.sin(np.arange(slots, dtype=np.float32))
    windows[..., : len(METRICS)] = np.concatenate([_LEVELS, _LEVELS])[:, None] * wander[:, None]
    windows[..., len(METRICS) :] = clock_features(_EPOCH_MS + _STEP_MS * np.arange(slots))
    windows[len(_LEVELS) :, :, (1, 3)] = np.nan
    return windows


def _answers(session: Any, windows: Floats, wants_step: bool, where: str) -> Floats:  # noqa: FBT001 - told by its name
    feeds = {"window": windows}
    if wants_step:
        feeds["step_s"] = np.full(len(windows), _STEP_MS / 1000, np.float32)
    try:
        (answers,) = session.run(["forecast"], feeds)
    except Exception as error:  # the runtime's exceptions have no common base of their own
        raise ModelRefusedError(where, f"it fails on a steady window: {error}", "golden") from error
    answers = np.asarray(answers, np.float32)
    if answers.shape != (len(windows), 1, len(METRICS), 1):
        raise ModelRefusedError(where, f"it answers {len(windows)} windows with {answers.shape}", "signature")
    known = answers[: len(_LEVELS), 0, :_STEADY_METRICS, 0]
    if not np.isfinite(known).all():
        raise ModelRefusedError(where, "it answers a steady window with what is no number", "golden")
    apart = np.abs(np.log(np.maximum(np.abs(known), 1e-9) / _LEVELS[:, :_STEADY_METRICS]))
    if (apart > np.log(FAR_OFF)).any(axis=0).all():
        raise ModelRefusedError(
            where,
            f"it answers a link steady at {_LEVELS[0, 0]:g} Mbit/s and {_LEVELS[0, 1]:g} ms with {known[0, 0]:.4g} and "
            f"{known[0, 1]:.4g}: a model must read and answer raw units, its scaling inside the graph",
            "golden",
        )
    return answers


def nullable(array: Floats) -> Any:
    """Nested lists, NaN as None; nine digits hold a float32 exactly."""
    if array.ndim == 0:
        return float(f"{array:.9g}") if np.isfinite(array) else None
    return [nullable(part) for part in array]
