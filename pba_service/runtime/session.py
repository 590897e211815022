"""One ONNX model under ONNX Runtime, checked before it may serve."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.errors import ModelRefusedError, ModelUnavailableError
from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES
from pba_service.runtime import files, manifest
from pba_service.runtime.ort import open_session
from pba_service.runtime.trial import RUN_WINDOWS, try_out
from pba_service.runtime.vet import vet

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pba_service.engine.model_ports import ModelBundle
    from pba_service.engine.ports import ModelInfo
    from pba_service.runtime.manifest import Golden, ModelFiles

GOLDEN_RELATIVE, GOLDEN_OF_SCALE = 1e-3, 1e-4
"""How far a golden answer may be off: of itself, and of the metric's largest golden answer. Processors round apart."""


class OnnxModel:
    """A loaded model (`engine.ports.Model`). Thread-safe; one run uses one thread.

    A window's forecast does not depend on the windows beside it, but for rounding: matrix kernels differ with the
    number of rows, which moves results by some 1e-6 of themselves.
    """

    def __init__(self, said: ModelFiles, session: Any) -> None:
        self._info = said.info
        self._session = session
        self._wants_step = "step_s" in said.inputs

    @property
    def info(self) -> ModelInfo:
        """What it says of itself."""
        return self._info

    def predict(self, windows: NDArray[np.float32], step_ms: NDArray[np.int64]) -> NDArray[np.float32]:
        """Runs the model.

        Args:
            windows: float32[n, window_slots, 6].
            step_ms: int64[n].

        Returns:
            float32[n, horizons, 4, quantile levels].

        Raises:
            ValueError: The arrays are not of these shapes.
            ModelUnavailableError: The runtime failed.
        """
        n = len(windows)
        if windows.shape != (n, self._info.window_slots, len(FEATURES)) or step_ms.shape != (n,):
            raise ValueError(f"windows {windows.shape} with steps {step_ms.shape} do not fit {self._info.name}")
        windows = np.ascontiguousarray(windows, np.float32)
        step_s = (step_ms / 1000.0).astype(np.float32)
        forecasts = np.empty((n, *self._forecast_shape), np.float32)
        for start in range(0, n, RUN_WINDOWS):
            part = slice(start, start + RUN_WINDOWS)
            feeds = {"window": windows[part]}
            if self._wants_step:
                feeds["step_s"] = step_s[part]
            try:
                (forecasts[part],) = self._session.run(["forecast"], feeds)
            except Exception as error:  # the runtime's exceptions have no common base of their own
                raise ModelUnavailableError from error
        return forecasts

    @property
    def _forecast_shape(self) -> tuple[int, int, int]:
        return len(self._info.horizons_ms), len(METRICS), len(self._info.quantile_levels)


def load_model(path: Path) -> OnnxModel:
    """Loads a model and proves it against its own golden windows.

    Args:
        path: A model's folder, its ONNX file, or a folder of these; `folder.preferred` says which is taken.

    Raises:
        ModelRefusedError: With the reason.
    """
    return load_bundle(files.read(files.preferred(path)))


def load_bundle(bundle: ModelBundle) -> OnnxModel:
    """Loads a model from its bytes and proves it against its own golden windows, which also warms it up.

    Raises:
        ModelRefusedError: With the reason; nothing of the model is left in memory then.
    """
    said = checked(bundle)
    vet(bundle.onnx, bundle.where)
    try_out(bundle.onnx, said.info.window_slots, bundle.where)
    try:
        session = open_session(bundle.onnx)
    except Exception as error:  # the runtime's exceptions have no common base of their own
        raise ModelRefusedError(bundle.where, f"ONNX Runtime cannot load it: {error}", "runtime") from error
    for kind, declared, actual in (
        ("input", said.inputs, session.get_inputs()),
        ("output", said.outputs, session.get_outputs()),
    ):
        if fault := _signature_fault(declared, actual):
            raise ModelRefusedError(bundle.where, f"{kind} {fault}", "signature")
    model = OnnxModel(said, session)
    _prove(model, said, bundle.where)
    return model


def checked(bundle: ModelBundle) -> ModelFiles:
    """What a bundle's manifest says, once the graph is the one it speaks of. Raises `ModelRefusedError`."""
    said = manifest.parse(bundle.manifest, bundle.where)
    checksum = hashlib.sha256(bundle.onnx).hexdigest()
    if checksum != said.info.checksum_sha256:
        raise ModelRefusedError(
            bundle.where, f"its SHA-256 is {checksum}, but the manifest says {said.info.checksum_sha256}", "checksum"
        )
    return said


def _signature_fault(declared: dict[str, tuple[int | str, ...]], actual: list[Any]) -> str | None:
    """Where a graph's tensors differ from the manifest's; the batch axis must be dynamic."""
    tensors = {tensor.name: tensor for tensor in actual}
    if tensors.keys() != declared.keys():
        return f"names are {sorted(tensors)}, but the manifest says {sorted(declared)}"
    for name, shape in declared.items():
        tensor = tensors[name]
        if tensor.type != "tensor(float)":
            return f"{name} is a {tensor.type}, not a tensor(float)"
        # an axis whose length the graph computes may be left open in its signature; the golden windows check it
        fits = len(tensor.shape) == len(shape) and all(
            not isinstance(length, int) or length == said for length, said in zip(tensor.shape, shape, strict=True)
        )
        if not fits or isinstance(tensor.shape[0], int):
            return f"{name} has the shape {tensor.shape}, but the manifest says {list(shape)}"
    return None


def _prove(model: OnnxModel, said: ModelFiles, where: str) -> None:
    """Runs the golden windows, which also warms the session up. Raises `ModelRefusedError` where one is off."""
    goldens = said.goldens
    windows = np.stack([golden.window for golden in goldens])
    steps = np.array([golden.step_ms for golden in goldens], np.int64)
    try:
        answers = model.predict(windows, steps)
    except (ModelUnavailableError, ValueError) as error:
        raise ModelRefusedError(
            where, f"it fails on its golden windows: {error.__cause__ or error}", "golden"
        ) from error
    scale = np.nanmax(np.abs([golden.forecast for golden in goldens]), axis=(0, 1, 3), initial=0.0)
    for golden, answer in zip(goldens, answers, strict=True):
        if fault := _golden_fault(golden, answer, scale):
            raise ModelRefusedError(where, f"golden window {golden.name!r}: {fault}", "golden")


def _golden_fault(golden: Golden, answer: NDArray[np.float32], scale: NDArray[np.float32]) -> str | None:
    """How an answer float32[horizons, 4, levels] differs, given each metric's scale (float32[4])."""
    absent = np.isnan(golden.forecast)
    if not np.array_equal(np.isnan(answer), absent):
        return "other metrics are absent than the manifest says"
    allowed = GOLDEN_RELATIVE * np.abs(golden.forecast) + GOLDEN_OF_SCALE * scale[None, :, None]
    off = np.where(absent, 0.0, np.abs(answer - golden.forecast) - allowed)
    if (off <= 0).all():
        return None
    where = np.unravel_index(int(np.argmax(off)), off.shape)
    metric = METRICS[int(where[1])]
    return f"{metric} is {answer[where]:.6g}, but the manifest says {golden.forecast[where]:.6g}"
