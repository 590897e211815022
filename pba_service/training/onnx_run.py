"""Runs a serialised ONNX graph, for preprocessing, parity and scores while training."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxGraph:
    """One graph on one CPU thread, run in slices that stay in the cache."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        runtime: Any = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def __call__(self, feeds: dict[str, NDArray[np.float32]], slice_size: int = 512) -> dict[str, NDArray[np.float32]]:
        """Runs the rows of `feeds` (the first axis of each) and joins the outputs."""
        rows = len(next(iter(feeds.values())))
        parts = [
            self._session.run(None, {name: feeds[name][i : i + slice_size] for name in self.inputs})
            for i in range(0, max(rows, 1), slice_size)
        ]
        return {name: np.concatenate([part[k] for part in parts]) for k, name in enumerate(self.outputs)}
