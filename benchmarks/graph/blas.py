"""The control for arithmetic: numpy's single-precision matrix product on one thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

import numpy as np

SIDE = 512


def kernel() -> str:
    """What OpenBLAS calls the kernels that run here; it differs between processors, and OPENBLAS_CORETYPE overrides."""
    for library in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            with contextlib.suppress(OSError, AttributeError):
                function = getattr(ctypes.CDLL(str(library)), name)
                function.restype = ctypes.c_char_p
                forced = os.environ.get("OPENBLAS_CORETYPE")
                return f"{function().decode()}{f' (OPENBLAS_CORETYPE={forced})' if forced else ''}"
    return "unknown"


def flops(seconds: float, rows: int, depth: int, columns: int) -> float:
    """Floating-point operations per second of this thread's processor time, of [rows, depth] x [depth, columns].

    Set OPENBLAS_NUM_THREADS=1 before numpy is imported.
    """
    rng = np.random.default_rng(1)
    left, right = rng.random((rows, depth), np.float32), rng.random((depth, columns), np.float32)
    out = np.empty((rows, columns), np.float32)
    runs, started = 0, time.thread_time()
    while (took := time.thread_time() - started) < seconds:
        np.matmul(left, right, out=out)
        runs += 1
    return runs * 2 * rows * depth * columns / took
