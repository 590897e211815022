"""The service phones nobody: ONNX Runtime would, on import, unless told before.

It keeps silent by itself where CI is set, so these run without that variable.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOAD_AND_RUN = """
from pathlib import Path
import numpy as np
from pba_service.runtime.session import load_model
model = load_model(Path("models"))
model.predict(np.zeros((3, model.info.window_slots, 6), np.float32), np.full(3, 60_000))
print("done")
"""
OWN_SOCKET = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
"""


def run(home, *prefix, also=""):
    kept = {key: value for key, value in os.environ.items() if key not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    environment = kept | {"HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*prefix, sys.executable, "-c", LOAD_AND_RUN + also]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"


def test_loading_a_model_leaves_no_file_behind(tmp_path):
    run(tmp_path)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the system calls; it is not installed")
def test_loading_a_model_opens_no_socket(tmp_path):
    trace = tmp_path / "trace"
    home = tmp_path / "home"
    home.mkdir()
    run(home, "strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(trace), also=OWN_SOCKET)
    sockets = [call for call in trace.read_text().splitlines() if "AF_INET" in call]
    assert len(sockets) == 1, sockets  # our own, which shows that others would be seen
