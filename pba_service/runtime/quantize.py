"""Makes a dynamically quantised variant of a model: weights as int8, activations quantised while it runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.engine.model_ports import ModelBundle
from pba_service.runtime import files, manifest
from pba_service.runtime.bare import nullable
from pba_service.runtime.ort import open_session
from pba_service.runtime.session import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_NAME_CHARACTERS = 14


def quantise(original: ModelBundle) -> ModelBundle:
    """A variant of a model under ONNX Runtime's dynamic quantiser.

    Its manifest is the original's, with a version of its own, the original as its parent, and its own answers to the
    golden windows; without test scores, which were not measured.

    Raises:
        ModelRefusedError: The original's manifest is not sound.
        ImportError: The extra `train` is not installed, which has the library that the quantiser needs.
    """
    said = manifest.parse(original.manifest, original.where)
    onnx = _quantised(original.onnx)
    checksum = hashlib.sha256(onnx).hexdigest()
    variant = OnnxModel(replace(said, info=replace(said.info, checksum_sha256=checksum)), open_session(onnx))
    answers = variant.predict(
        np.stack([golden.window for golden in said.goldens]), np.array([golden.step_ms for golden in said.goldens])
    )
    fields = json.loads(original.manifest)
    fields |= {
        "version": f"{said.info.name[:_NAME_CHARACTERS]}-int8-{checksum[:12]}",
        "parent": said.info.version,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checksum_sha256": checksum,
        "scores": {},
        "coverage_90": None,
        "goldens": _answered(fields["goldens"], answers),
    }
    return ModelBundle(f"int8 of {original.where}", json.dumps(fields, indent=1, allow_nan=False).encode(), onnx)


def write(bundle: ModelBundle, folder: Path) -> None:
    """Writes a model into a folder, as `files.write` does. Raises `OSError`."""
    name = manifest.parse(bundle.manifest, bundle.where).onnx_name
    files.write(folder, {name: bundle.onnx, manifest.MANIFEST_FILE: bundle.manifest})


def _quantised(onnx: bytes) -> bytes:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnx as graphs  # noqa: PLC0415 - of the extra train
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - only once the switch is set

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises on graphs of another kind
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantize_dynamic(graphs.load_from_string(onnx), target, weight_type=QuantType.QInt8)
            return target.read_bytes()
    finally:
        root.setLevel(level)


def _answered(goldens: list[Mapping[str, Any]], answers: NDArray[np.float32]) -> list[dict[str, Any]]:
    return [{**golden, "forecast": nullable(answer)} for golden, answer in zip(goldens, answers, strict=True)]
