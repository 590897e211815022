"""Runs a model once where it can do no harm: in a process of its own, with bounded memory and time.

What operators compute is not bounded by how a file looks: `[1, 65536]` plus `[65536, 1]` are four billion numbers.
`graph_scan` sees to it that sizes follow from how many windows there are and not from what is in them, so one run with
as many windows as the service ever gives it shows the most that a model takes. Opening it counts too: ONNX Runtime
computes constants then. `python -m pba_service.runtime.trial SLOTS` reads the file from standard input.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from pba_service.domain.errors import ModelRefusedError
from pba_service.runtime.ort import load_runtime, open_session

RUN_WINDOWS = 64
"""Windows in one run: from 32 on nothing is gained, and large runs fall out of the processor's cache."""

MEMORY_BYTES = 1024**3
"""What opening and running a model may take beyond its file; the shipped ones take less than 100 MiB."""

CPU_S = 5
_WAIT_S = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FAILED = 3
_SAID_BYTES = 300


def try_out(onnx: bytes, slots: int, where: str) -> None:
    """Opens and runs a model in another process.

    Args:
        onnx: The file, vetted.
        slots: Length of a window where the file leaves it open.
        where: For operators.

    Raises:
        ModelRefusedError: It takes too much memory or time, crashes, or cannot be opened or run.
    """
    if fault := _fault(onnx, slots):
        raise ModelRefusedError(where, *fault)


@lru_cache(maxsize=8)
def _fault(onnx: bytes, slots: int) -> tuple[str, str] | None:
    """What is wrong, and under which reason that is counted; remembered for the files that were tried last."""
    root = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(  # noqa: S603 - this very module; the file comes on standard input
            [sys.executable, "-m", __name__, str(slots)],
            input=onnx,
            capture_output=True,
            timeout=_WAIT_S,
            check=False,
            # nothing of this process's secrets; what finds the code is needed
            env={"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]), "PATH": os.defpath},
        )
    except subprocess.TimeoutExpired:
        return f"a run of {RUN_WINDOWS} windows took more than {_WAIT_S:g} s", "limits"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace")[-_SAID_BYTES:].strip()
    if done.returncode == _FAILED:
        return f"ONNX Runtime cannot load or run it: {said}", "runtime"
    return f"it takes more than {MEMORY_BYTES >> 20} MiB or {CPU_S} s for {RUN_WINDOWS} windows, or crashes", "limits"


def _bound(file_bytes: int) -> None:
    """From here on this process takes so much more memory at most, and so much time; no core is left of it."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
    most = mapped + MEMORY_BYTES + 4 * file_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Tries the file on standard input. Exits with 3 when the runtime refuses it, and otherwise not with 0 either."""
    slots, onnx = int(sys.argv[1]), sys.stdin.buffer.read()
    load_runtime()  # its own memory is not the model's
    _bound(len(onnx))
    try:
        session = open_session(onnx)
        # an open first axis is the windows', any other one the slots'
        feeds = {
            one.name: np.ones(
                [
                    length if isinstance(length, int) else (slots if axis else RUN_WINDOWS)
                    for axis, length in enumerate(one.shape)
                ],
                np.float32,
            )
            for one in session.get_inputs()
        }
        session.run(None, feeds)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common base of their own
        sys.stderr.write(str(error))
        sys.exit(_FAILED)


if __name__ == "__main__":
    main()
