"""How much of the core's arithmetic the served graphs reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.graph.blas import SIDE, kernel
from benchmarks.harness.generator import ROOT
from benchmarks.harness.raw import feeds_of, open_bare, windows_of
from benchmarks.harness.statistics import Section, compared, plain, turns

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness.runner import Bench

DOCUMENTED, PREFERRED = "bandwidth_lstm", "pba_lstm"
"""The documented topology, and the model that is preferred, whose time goes into other operators than products."""

BATCHES = (1, 32, 64, 512)
WORKING = 64
"""Windows in one run of the service."""

RECURRENCE = (128, 512)
"""The matrix of the documented topology's largest product: units by gates of its first layer."""

SLOTS = 10
LSTMS = ((6, 128), (128, 64))
DENSES = ((64, 32), (32, 4))
"""The documented topology: slots read, and inputs and units of its layers."""


def flops_per_window() -> int:
    """Multiplications and additions of the documented topology's products for one window; all else is nothing.

    As an LSTM is written down, with the product of each step's state, the first one's zeros as well.
    """
    return 2 * SLOTS * sum(4 * units * (inputs + units) for inputs, units in LSTMS) + 2 * sum(
        inputs * units for inputs, units in DENSES
    )


def flops_computed(model: Path) -> int:
    """Multiplications and additions of a graph's own products with weights for one window, where it has no LSTM."""
    import onnx  # noqa: PLC0415 - the graph is only read here

    graph = onnx.load(str(model / "model.onnx")).graph
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer}
    return 2 * sum(sizes[node.input[1]] for node in graph.node if node.op_type in {"MatMul", "Gemm"})


def run(bench: Bench) -> Section:
    """All figures."""
    section = Section("graph")
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
    }
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.graph.measure",
            *(str(ROOT / "models" / name) for name in (DOCUMENTED, PREFERRED)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        assert process.stdin  # noqa: S101 - a pipe
        assert process.stdout  # noqa: S101 - a pipe

        def told(*words: Any) -> float:
            process.stdin.write(json.dumps(words) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return float(json.loads(process.stdout.readline()))  # type: ignore[union-attr]

        seconds, rounds = 0.15, 3 * bench.rounds  # short turns: what else the machine does meets both
        work, computed = flops_per_window(), flops_computed(ROOT / "models" / DOCUMENTED)
        section.notes.append(
            f"{DOCUMENTED}: {work / 1e6:.3f} MFLOP a window. Its graph leaves out what is multiplied with the first "
            f"step's zeros: of what it does compute, {computed / 1e6:.3f}, the rows named so."
        )
        for batch in BATCHES:
            found = turns(
                {
                    DOCUMENTED: lambda _, b=batch: told("windows", 0, b, seconds),
                    PREFERRED: lambda _, b=batch: told("windows", 1, b, seconds),
                    "sgemm": lambda _: told("sgemm", seconds, SIDE, SIDE, SIDE) / 1e9,
                    "its own": lambda _, b=batch: told("sgemm", seconds, b, *RECURRENCE) / 1e9,
                },
                rounds,
            )
            section.figures += [
                compared(
                    f"{DOCUMENTED}, batch {batch}",
                    "GFLOP/s",
                    [rate * work / 1e9 for rate in found[DOCUMENTED]],
                    found["sgemm"],
                    "sgemm",
                    goal=">= 0.85" if batch == WORKING else "",
                ),
                compared(
                    f"{DOCUMENTED}, batch {batch}, what it computes",
                    "GFLOP/s",
                    [rate * computed / 1e9 for rate in found[DOCUMENTED]],
                    found["sgemm"],
                    "sgemm",
                ),
                compared(
                    f"{DOCUMENTED}, batch {batch}",
                    "GFLOP/s",
                    [rate * work / 1e9 for rate in found[DOCUMENTED]],
                    found["its own"],
                    "sgemm of its shape",
                ),
                compared(f"{PREFERRED}, batch {batch}", "windows/s", found[PREFERRED], found[DOCUMENTED], DOCUMENTED),
            ]
            bench.show(section)
        process.stdin.close()

    section.notes.append(
        f"sgemm: numpy, {SIDE} x {SIDE}, one thread, OpenBLAS kernels for {kernel()}; of its shape: as many rows as "
        f"the batch times {RECURRENCE[0]} x {RECURRENCE[1]}. Processor time of the thread."
    )
    section.figures += [neighbours(ROOT / "models" / name) for name in (DOCUMENTED, PREFERRED)]
    return section


def neighbours(model: Path) -> Any:
    """How far a window's forecast moves with the number of windows beside it, relative to itself."""
    session, wants_step, slots = open_bare(model)
    windows = windows_of(WORKING, slots)
    alone = np.concatenate(
        [session.run(["forecast"], feeds_of(windows[i : i + 1], wants_step=wants_step))[0] for i in range(WORKING)]
    )
    furthest = 0.0
    for size in range(2, WORKING + 1):
        together = session.run(["forecast"], feeds_of(windows[:size], wants_step=wants_step))[0]
        furthest = max(
            furthest, float(np.nanmax(np.abs(together - alone[:size]) / np.maximum(np.abs(alone[:size]), 1e-6)))
        )
    return plain(
        f"{model.name}, forecast in batches of 2 to {WORKING} against alone", "relative", [furthest], goal="<= 1e-6"
    )
