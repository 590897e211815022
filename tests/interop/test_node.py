"""A Node client with nothing of ours but the .proto files."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import google.rpc
import pytest

from tests.process import ROOT, ServiceProcess

HERE = Path(__file__).parent / "node"
PACKED = ("package.json", "package-lock.json", "client.js")


@pytest.fixture(scope="module")
def node_client(tmp_path_factory):
    """The client's folder with its packages installed; skips where there is no Node, or no registry to install from."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in PACKED:
        shutil.copy(HERE / name, folder)
    install = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install the gRPC packages: {done.stderr.strip()[-300:]}")
    return folder


def test_a_node_client_pushes_predicts_streams_and_reads_errors(node_client, tmp_path):
    environment = {
        **os.environ,
        "PROTO": str(ROOT / "protos"),
        "RPC_PROTO": str(Path(next(iter(google.rpc.__path__))).parents[1]),
    }
    with ServiceProcess(tmp_path) as service:
        done = subprocess.run(
            ["node", "client.js", service.target],
            cwd=node_client,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    assert (result["first"]["stored"], result["first"]["refused"]) == (30, 0)
    assert (result["again"]["stored"], result["again"]["duplicates"]) == (0, 30)
    (refusal,) = result["mixed"]["refusals"]
    assert (refusal["index"], refusal["field"]) == (1, "packet_loss_ratio")
    assert refusal["reason"] == "REFUSAL_REASON_OUT_OF_RANGE"

    prediction = result["prediction"]
    assert prediction["link_id"] == "interop/node-1"
    assert prediction["horizon"]["seconds"] == 900
    assert 800 < prediction["bandwidth_mbps"] < 1000
    # the loader names the field that is there; what was never measured is absent, not 0
    assert (prediction.get("_latency_ms"), prediction.get("_jitter_ms")) == ("latency_ms", None)
    assert 0 <= prediction["confidence"] <= 1

    # a subscriber sees the newest prediction first, then the one that the streamed sample causes
    assert result["seen_first"] == result["before"]
    assert result["seen_last"] == result["started"]
    assert result["acknowledged"] == {"sequence": 7, "stored": 1}
    assert result["history"] == 31
    assert result["parameters"]["parameters"]["streams"] >= 1

    assert result["unknown"]["code"] == 5
    assert result["unknown"]["details"]["google.rpc.ErrorInfo"]["reason"] == "LINK_UNKNOWN"
    assert result["invalid"]["code"] == 3
    (violation,) = result["invalid"]["details"]["google.rpc.BadRequest"]["field_violations"]
    assert "packet_loss_ratio" in violation["field"]
