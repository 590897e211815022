"""Reads what a model says of itself: the `manifest.json` beside its ONNX file, checked before anything is loaded."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.errors import ModelRefusedError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES, MIN_SLOTS
from pba_service.engine.ports import ModelInfo, TrainingData

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SCORED_PART = "test"
_MAX_SLOTS = 10_000
_MAX_MS = 366 * 86_400_000  # of a horizon, and of a golden window's cadence
_MAX_COUNT = 2**32 - 1  # the smallest that callers are told of counts in
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}")
_NAMES = "at most 32 letters, digits and _ . + -"  # what links remember of a version


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
        onnx_name: The name of its ONNX file.
        inputs: Names of its inputs, `window` and perhaps `step_s`, with their shapes; "n" is the batch.
        outputs: The same of its output, `forecast`.
        goldens: Windows with known answers, at least one.
    """

    info: ModelInfo
    onnx_name: str
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    goldens: tuple[Golden, ...]


def parse(content: bytes, where: str) -> ModelFiles:
    """Reads and checks a manifest.

    Raises:
        ModelRefusedError: It is not as it must be, or is of a model that does not fit.
    """
    try:
        fields = json.loads(content)
        files = _files(fields)
        # what it says of itself is told to replicas and callers: no NaN, no half of a surrogate pair
        json.dumps(asdict(files.info), ensure_ascii=False, allow_nan=False).encode()
        fault = _fault(fields, files)
    except KeyError as error:
        raise ModelRefusedError(where, f"the manifest lacks {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelRefusedError(where, f"the manifest is malformed: {error}") from error
    if fault:
        raise ModelRefusedError(where, fault)
    return files


def _files(fields: dict[str, Any]) -> ModelFiles:
    if fields["schema"] != SCHEMA:
        raise ValueError(f"schema {fields['schema']!r} is not {SCHEMA}, the one this service reads")
    name = str(fields["model_file"])
    if Path(name).name != name:
        raise ValueError(f"model_file {name!r} is not the name of a file beside it")
    return ModelFiles(
        info=_info(fields),
        onnx_name=name,
        inputs=_tensors(fields["inputs"]),
        outputs=_tensors(fields["outputs"]),
        goldens=tuple(_golden(golden) for golden in fields["goldens"]),
    )


def _info(fields: dict[str, Any]) -> ModelInfo:
    scores = fields["scores"].get(SCORED_PART, {})
    return ModelInfo(
        name=str(fields["name"]),
        version=str(fields["version"]),
        checksum_sha256=str(fields["checksum_sha256"]),
        created_at_ms=_time_ms(fields["created_at"]),
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
        parent=str(fields.get("parent", "")),
        training=_training(fields.get("training")),
    )


def _training(fields: dict[str, Any] | None) -> TrainingData | None:
    if not fields:
        return None
    first, last = fields.get("first_measured_at"), fields.get("last_measured_at")
    return TrainingData(
        rows=int(fields["rows"]),
        links=int(fields["links"]),
        fingerprint_sha256=str(fields["fingerprint_sha256"]),
        first_ms=_time_ms(first) if first else 0,
        last_ms=_time_ms(last) if last else 0,
    )


def _time_ms(text: str) -> int:
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


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
            all(0 < horizon <= _MAX_MS for horizon in info.horizons_ms),
            f"not all of its horizons lie between 0 and {_MAX_MS // 1000} s",
        ),
        (
            all(0 <= count <= _MAX_COUNT for count in _counts(info)),
            f"not all of its parameters, rows and links lie between 0 and {_MAX_COUNT}",
        ),
        (
            "window" in files.inputs and files.inputs.items() <= expected_inputs.items(),
            f"its inputs are {files.inputs}, not {expected_inputs}",
        ),
        (
            files.outputs == {"forecast": ("n", *forecast)},
            f"its outputs are {files.outputs}, not forecast of ('n', *{forecast})",
        ),
        (_NAME.fullmatch(info.name) and _NAME.fullmatch(info.version), "its name or version is not one: " + _NAMES),
        (bool(files.goldens), "it has no golden window to be checked with"),
        (
            all(g.window.shape == window and g.forecast.shape == forecast for g in files.goldens),
            "its golden windows are not of its shape",
        ),
        (
            all(0 < g.step_ms <= _MAX_MS for g in files.goldens),
            f"not all cadences of its golden windows lie between 0 and {_MAX_MS // 1000} s",
        ),
    )
    return next((text for holds, text in rules if not holds), None)


def _counts(info: ModelInfo) -> tuple[int, ...]:
    """What callers are told as whole numbers."""
    training = info.training
    return (info.parameter_count, *((training.rows, training.links) if training else ()))
