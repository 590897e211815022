"""Runs a serialised ONNX graph, for preprocessing, parity and scores while training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.runtime.ort import open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxGraph:
    """One graph on one CPU thread, run in slices that stay in the cache."""

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model)
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
