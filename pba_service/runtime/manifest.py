"""Reads what a model says of itself: the `manifest.json` beside its ONNX file, checked before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES, MIN_SLOTS
from pba_service.engine.ports import ModelInfo
from pba_service.runtime.errors import ModelRefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
PREFERRED = ("pba_lstm", "bandwidth_lstm")
"""Of several models in a folder the first of these that is there is taken."""

SCORED_PART = "test"
_MAX_SLOTS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A window whose answer is known.

    Attributes:
        name: What the window is like.
        window: float32[window_slots, 6].
        step_ms: The window's cadence.
        forecast: float32[horizons, 4, quantile levels].
    """

    name: str
    window: NDArray[np.float32]
    step_ms: int
    forecast: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ModelFiles:
    """A model that may be loaded: its manifest is sound, its ONNX file not read yet.

    Attributes:
        info: What it says of itself.
        onnx: Its ONNX file.
        inputs: Names of its inputs, `window` and perhaps `step_s`, with their shapes; "n" is the batch.
        outputs: The same of its output, `forecast`.
        goldens: Windows with known answers, at least one.
    """

    info: ModelInfo
    onnx: Path
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    goldens: tuple[Golden, ...]


def find(path: Path) -> Path:
    """The manifest that a path means.

    Args:
        path: A model's folder, its ONNX file, or a folder of models' folders.

    Raises:
        ModelRefusedError: There is none, or several and none of `PREFERRED`.
    """
    folder = path.parent if path.suffix == ".onnx" else path
    if (folder / MANIFEST_FILE).is_file():
        return folder / MANIFEST_FILE
    if path.suffix == ".onnx":
        raise ModelRefusedError(str(path), f"there is no {MANIFEST_FILE} beside it")
    names = sorted(entry.parent.name for entry in folder.glob(f"*/{MANIFEST_FILE}"))
    chosen = next((name for name in PREFERRED if name in names), names[0] if len(names) == 1 else None)
    if chosen is None:
        found = f"only {', '.join(names)}" if names else "no model"
        raise ModelRefusedError(str(path), f"there is {found} in it, and none of {', '.join(PREFERRED)}")
    return folder / chosen / MANIFEST_FILE


def read(path: Path) -> ModelFiles:
    """Reads and checks the manifest that a path means, see `find`.

    Raises:
        ModelRefusedError: The manifest cannot be read, is not as it must be, or is of a model that does not fit.
    """
    manifest = find(path)
    try:
        fields = json.loads(manifest.read_text(encoding="utf-8"))
        files = _files(manifest.parent, fields)
        fault = _fault(fields, files)
    except OSError as error:
        raise ModelRefusedError(str(manifest), f"it cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ModelRefusedError(str(manifest), f"the manifest lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelRefusedError(str(manifest), f"the manifest is malformed: {error}") from error
    if fault:
        raise ModelRefusedError(str(manifest), fault)
    given = path if path.suffix == ".onnx" else files.onnx
    if given.name != files.onnx.name:
        raise ModelRefusedError(str(path), f"the manifest beside it is of {files.onnx.name}")
    return files


def _files(folder: Path, fields: dict[str, Any]) -> ModelFiles:
    if fields["schema"] != SCHEMA:
        raise ValueError(f"schema {fields['schema']!r} is not {SCHEMA}, the one this service reads")
    name = str(fields["model_file"])
    if Path(name).name != name:
        raise ValueError(f"model_file {name!r} is not the name of a file beside it")
    return ModelFiles(
        info=_info(fields),
        onnx=folder / name,
        inputs=_tensors(fields["inputs"]),
        outputs=_tensors(fields["outputs"]),
        goldens=tuple(_golden(golden) for golden in fields["goldens"]),
    )


def _info(fields: dict[str, Any]) -> ModelInfo:
    created = datetime.fromisoformat(fields["created_at"])
    if created.tzinfo is None:
        created = created.replace(tzinfo=UTC)
    scores = fields["scores"].get(SCORED_PART, {})
    return ModelInfo(
        name=str(fields["name"]),
        version=str(fields["version"]),
        checksum_sha256=str(fields["checksum_sha256"]),
        created_at_ms=round(created.timestamp() * 1000),
        features=tuple(fields["features"]),
        window_slots=int(fields["window_slots"]),
        horizons_ms=tuple(round(1000 * float(seconds)) for seconds in fields["horizons_s"]),
        quantile_levels=tuple(float(level) for level in fields["quantiles"]),
        parameter_count=int(fields["parameters"]),
        scores=tuple(
            (metric, forecaster, float(of_metric[metric]))
            for forecaster, of_metric in scores.items()
            for metric in METRICS
            if of_metric.get(metric) is not None
        ),
    )


def _tensors(specs: list[dict[str, Any]]) -> dict[str, tuple[int | str, ...]]:
    return {str(spec["name"]): tuple(spec["shape"]) for spec in specs}


def _golden(fields: dict[str, Any]) -> Golden:
    return Golden(
        str(fields["name"]),
        np.array(fields["window"], np.float32),  # None becomes NaN
        round(1000 * float(fields["step_s"])),
        np.array(fields["forecast"], np.float32),
    )


def _fault(fields: dict[str, Any], files: ModelFiles) -> str | None:
    """What does not fit this service; None when all does."""
    info = files.info
    levels = info.quantile_levels
    window = (info.window_slots, len(FEATURES))
    forecast = (len(info.horizons_ms), len(METRICS), len(levels))
    expected_inputs = {"window": ("n", *window), "step_s": ("n",)}
    rules = (
        (info.features == FEATURES, f"it reads {info.features}, not {FEATURES}"),
        (tuple(fields["metrics"]) == METRICS, f"it answers {fields['metrics']}, not {METRICS}"),
        (
            MIN_SLOTS <= info.window_slots <= _MAX_SLOTS,
            f"window_slots {info.window_slots} is outside {MIN_SLOTS} to {_MAX_SLOTS}",
        ),
        (
            int(fields["min_slots"]) <= MIN_SLOTS,
            f"it needs {fields['min_slots']} known slots, but windows are used from {MIN_SLOTS} on",
        ),
        (PRODUCT_HORIZON_MS in info.horizons_ms, f"{PRODUCT_HORIZON_MS // 1000} s is not among its horizons"),
        (
            all(0 < level < 1 for level in levels) and levels == tuple(sorted(set(levels))) and 0.5 in levels,  # noqa: PLR2004 - the median
            f"quantiles {levels} do not increase between 0 and 1 and hold the median",
        ),
        (
            "window" in files.inputs and files.inputs.items() <= expected_inputs.items(),
            f"its inputs are {files.inputs}, not {expected_inputs}",
        ),
        (
            files.outputs == {"forecast": ("n", *forecast)},
            f"its outputs are {files.outputs}, not forecast of ('n', *{forecast})",
        ),
        (bool(files.goldens), "it has no golden window to be checked with"),
        (
            all(g.window.shape == window and g.forecast.shape == forecast for g in files.goldens),
            "its golden windows are not of its shape",
        ),
    )
    return next((text for holds, text in rules if not holds), None)
