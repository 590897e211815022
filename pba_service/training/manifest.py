"""The manifest beside an ONNX file: what the model is, reads, answers, and how good it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.runtime import files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA = 1
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A graph input or output: its name, and its shape with `n` for the batch."""

    name: str
    shape: list[int | str]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A synthetic window and what the model answers to it; null is NaN.

    Attributes:
        name: What the window is like.
        window: [window_slots][6], oldest slot first.
        step_s: The window's cadence.
        forecast: [horizons][4][quantiles].
    """

    name: str
    window: list[list[float | None]]
    step_s: float
    forecast: list[list[list[float | None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """What the model was trained on.

    Attributes:
        collections: Trained collections.
        rows: Measurements in them.
        links: Links in them.
        first_measured_at: When the first of them was measured, RFC 3339, UTC; empty without real data.
        last_measured_at: When the last of them was.
        fingerprint_sha256: Over every measurement; empty without real data.
        simulated_links: Links of the simulator, and `simulated_rows` their measurements.
        split: How training, tuning and test parts were cut.
        held_out: Collections left out altogether.
        options: The command's options.
        epochs_run: Passes until the best tuning loss.
    """

    collections: list[str]
    rows: int
    links: int
    fingerprint_sha256: str
    simulated_links: int
    simulated_rows: int
    split: str
    held_out: list[str]
    options: dict[str, Any]
    epochs_run: int
    first_measured_at: str = ""
    last_measured_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a server must know of a model; written as JSON with these field names.

    Attributes:
        schema: Version of this layout.
        name: `pba_lstm` or `bandwidth_lstm`.
        version: `<name>-<first 12 hex digits of the checksum>`.
        parent: The version whose training this one went on from; empty for one from scratch.
        created_at: RFC 3339, UTC.
        model_file: The ONNX file, beside the manifest.
        checksum_sha256: Of the ONNX file.
        opset: Of the ONNX graph.
        window_slots: L, how many slots the input window has.
        min_slots: How many newest slots must be known.
        features: The window's feature axis.
        metrics: The forecast's metric axis.
        horizons_s: The forecast's horizon axis, nominal; a link's real horizon is the nearest multiple of its step.
        quantiles: The forecast's quantile axis; [0.5] for a point forecast.
        inputs: Graph inputs: `window`, and `step_s` when the model wants the cadence.
        outputs: Graph outputs: `forecast` float32[n, horizons, 4, quantiles].
        parameters: Trainable parameters.
        training: What it was trained on.
        scores: {part: {forecaster: {metric: MAE at 15 minutes relative to the last value, "mean"}}}.
        coverage_90: Share of test targets within the 5 % and 95 % quantiles, where the model has them.
        goldens: Synthetic windows with expected answers.
    """

    name: str
    version: str
    created_at: str
    checksum_sha256: str
    opset: int
    window_slots: int
    min_slots: int
    features: list[str]
    metrics: list[str]
    horizons_s: list[int]
    quantiles: list[float]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    parameters: int
    training: TrainingRecord
    scores: dict[str, dict[str, dict[str, float]]]
    coverage_90: float | None
    goldens: list[Golden] = field(default_factory=list)
    model_file: str = MODEL_FILE
    parent: str = ""
    schema: int = SCHEMA


def nullable(array: NDArray[np.float32]) -> Any:
    """Nested lists of an array, NaN as None; nine digits hold a float32 exactly."""
    if array.ndim == 0:
        return float(f"{array:.9g}") if np.isfinite(array) else None
    return [nullable(part) for part in array]


def write_model(folder: Path, model: bytes, manifest: Manifest) -> Path:
    """Writes both files, as `runtime.files.write` does."""
    if hashlib.sha256(model).hexdigest() != manifest.checksum_sha256:
        raise ValueError("the manifest is not of this model")
    text = json.dumps(asdict(manifest), indent=1, allow_nan=False) + "\n"
    files.write(folder, {manifest.model_file: model, MANIFEST_FILE: text.encode()})
    return folder / MANIFEST_FILE
