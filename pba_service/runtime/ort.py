"""The one place that imports ONNX Runtime.

ONNX Runtime 1.29 and later phone home on plain import, even before its own switch for that can be reached, unless
ORT_DISABLE_TELEMETRY is set: so it is set here, and the library is imported nowhere else in the service.
"""

from __future__ import annotations

import os
from typing import Any


def load_runtime() -> Any:
    """The library, imported with its telemetry off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as runtime  # noqa: PLC0415 - only once the switch is set

    return runtime


def open_session(content: bytes) -> Any:
    """A session of ONNX Runtime for a serialised graph, on one thread, with the runtime's telemetry off."""
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are for whoever exports
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
