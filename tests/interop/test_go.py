"""A Go client, generated from the .proto files and compiled against the grpc-go of the system's packages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.process import ROOT, ServiceProcess

MAIN = Path(__file__).parent / "go" / "main.go"
SYSTEM_PACKAGES = Path("/usr/share/gocode")
TOOLS = ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")


@pytest.fixture(scope="module")
def go_client(tmp_path_factory):
    """The compiled client; skips where Go, its plugins or the system's grpc-go are not installed."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not (SYSTEM_PACKAGES / "src/google.golang.org/grpc").is_dir():
        pytest.skip(f"grpc-go is not among the system's packages in {SYSTEM_PACKAGES}")
    folder = tmp_path_factory.mktemp("go")
    sources = folder / "src"
    sources.mkdir()
    protos = [str(path.relative_to(ROOT / "protos")) for path in sorted((ROOT / "protos/pba/v1").glob("*.proto"))]
    generate = ["protoc", "-I", "protos", f"--go_out={sources}", f"--go-grpc_out={sources}", *protos]
    subprocess.run(generate, cwd=ROOT, check=True, timeout=60)
    command = sources / "github.com/dwcp/pba/cmd/node"
    command.mkdir(parents=True)
    shutil.copy(MAIN, command)
    environment = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{folder}:{SYSTEM_PACKAGES}"}
    build = ["go", "build", "-o", str(folder / "node"), "github.com/dwcp/pba/cmd/node"]
    done = subprocess.run(build, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "node"


def test_a_go_client_pushes_asks_and_reads_errors(go_client, tmp_path):
    with ServiceProcess(tmp_path) as service:
        run = [go_client, service.target]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    stored, parameters, refused = done.stdout.splitlines()
    assert stored == "stored 30"
    assert parameters.startswith("streams ")
    assert int(parameters.split()[1]) >= 1
    assert refused == "refused NotFound pba LINK_UNKNOWN interop/nowhere"
