"""Small models on disk for tests: what the real ones are made of, without their weights."""

import hashlib
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES

SLOTS = 10
LEVELS = (0.1, 0.5, 0.9)
HORIZONS_S = (300, 900)


def graph(factor=1.0, batch="n", name="forecast", element=TensorProto.FLOAT):
    """forecast[i, h, m, q] = window[i, -1, m] * factor + level[q] * step_s[i]."""
    constants = {
        "start": np.array([SLOTS - 1, 0], np.int64),
        "end": np.array([SLOTS, 4], np.int64),
        "axes": np.array([1, 2], np.int64),
        "level": (factor * np.ones((1, 1, 1, len(LEVELS)))).astype(np.float32),
        "offsets": np.tile(np.array(LEVELS, np.float32), (1, len(HORIZONS_S), 4, 1)),
        "wide": np.array([3], np.int64),
        "spread": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["window", "start", "end", "axes"], ["last"]),
        helper.make_node("Unsqueeze", ["last", "wide"], ["column"]),
        helper.make_node("Mul", ["column", "level"], ["scaled"]),
        helper.make_node("Unsqueeze", ["step_s", "spread"], ["steps"]),
        helper.make_node("Mul", ["steps", "offsets"], ["moved"]),
        helper.make_node("Add", ["scaled", "moved"], ["sum"]),
        helper.make_node("Cast", ["sum"], [name], to=element),
    ]
    inputs = [
        helper.make_tensor_value_info("window", TensorProto.FLOAT, [batch, SLOTS, len(FEATURES)]),
        helper.make_tensor_value_info("step_s", TensorProto.FLOAT, [batch]),
    ]
    outputs = [helper.make_tensor_value_info(name, element, [batch, len(HORIZONS_S), 4, len(LEVELS)])]
    weights = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "test", inputs, outputs, weights),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def window(level=100.0):
    values = np.full((SLOTS, len(FEATURES)), level, np.float32)
    values[:, 2] = 0.5
    values[:, 4:] = (12.0, 2.0)
    return values


def answer(values, step_s, factor=1.0):
    column = factor * values[-1, :4, None] + step_s * np.array(LEVELS)
    return np.tile(column, (len(HORIZONS_S), 1, 1)).astype(np.float32)


def nested(array):
    return [nested(part) if isinstance(part, np.ndarray) else None if np.isnan(part) else float(part) for part in array]


def manifest(content, **changes):
    absent = window()
    absent[:, (0, 3)] = np.nan
    fields = {
        "schema": 1,
        "name": "tiny",
        "version": "tiny-1",
        "created_at": "2026-01-02T03:04:05Z",
        "model_file": "model.onnx",
        "checksum_sha256": hashlib.sha256(content).hexdigest(),
        "opset": 17,
        "window_slots": SLOTS,
        "min_slots": 10,
        "features": list(FEATURES),
        "metrics": list(METRICS),
        "horizons_s": list(HORIZONS_S),
        "quantiles": list(LEVELS),
        "inputs": [
            {"name": "window", "shape": ["n", SLOTS, 6], "dtype": "float32"},
            {"name": "step_s", "shape": ["n"], "dtype": "float32"},
        ],
        "outputs": [{"name": "forecast", "shape": ["n", 2, 4, 3], "dtype": "float32"}],
        "parameters": 3,
        "scores": {"test": {"tiny": {"latency_ms": 0.8, "mean": 0.8}, "last": {"latency_ms": 1.0, "mean": 1.0}}},
        "goldens": [
            {"name": name, "window": nested(values), "step_s": 60.0, "forecast": nested(answer(values, 60.0))}
            for name, values in (("steady", window()), ("partly absent", absent))
        ],
    }
    return fields | changes


def write(folder, content=None, fields=None, **changes):
    """Writes a model into a folder; `fields` replaces the manifest, `changes` some of its fields."""
    content = graph() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest(content, **changes) if fields is None else fields))
    return folder
