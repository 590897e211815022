"""The service as a process of its own, for tests that go the whole way.

with ServiceProcess(tmp_path) as service:
    with service.client() as client: ...
    service.kill(); service.start()      # the same data, other ports unless they were chosen
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from pba_client import Client, Health, Options, PbaClientError, Timeouts

PATIENT = Options(timeouts=Timeouts(call_s=30, bulk_s=60))
"""Deadlines that hold on a machine that is busy with other tests."""

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
ROOT = Path(__file__).parents[1]


class ServiceProcess:
    """`python -m pba_service serve`, from the moment it serves to the moment it has ended.

    Attributes:
        grpc_port: Where it answers.
        metrics_port: Where Prometheus scrapes.
    """

    def __init__(
        self, folder, *, redis_url="", environment=None, arguments=("serve",), stdout=None, module="pba_service"
    ):
        """Starts nothing yet.

        Args:
            folder: For logs, and for data unless `redis_url` is given; data outlive the process.
            redis_url: A server of the test's own; empty: the service's embedded one.
            environment: More PBA_* variables.
            arguments: The command.
            module: What Python runs with them.
            stdout: Where its output goes; None: into the log.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "service.log"
        self.grpc_port = self.metrics_port = 0
        self._arguments = arguments
        self._stdout = stdout
        self._module = module
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PBA_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
            "PBA_GRPC_PORT": "0",
            "PBA_METRICS_PORT": "0",
            "PBA_LOG_FORMAT": "json",
            **({"PBA_REDIS_URL": redis_url} if redis_url else {}),
            **(environment or {}),
        }
        self._scratch = None
        self.process = None

    @property
    def target(self):
        return f"127.0.0.1:{self.grpc_port}"

    def client(self, options=None):
        return Client(self.target, options or PATIENT)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        if self._scratch:
            self._scratch.cleanup()

    def start(self):
        """Returns when the service says that it is serving."""
        if self._scratch is None and "PBA_DATA_DIR" not in self._environment:
            # the embedded server's socket lies there, and the path of a socket must be short
            self._scratch = tempfile.TemporaryDirectory(prefix="pba-", ignore_cleanup_errors=True)
            self._environment["PBA_DATA_DIR"] = self._scratch.name
        ports = self.folder / "ports.json"
        ports.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module, *self._arguments],
                env={**self._environment, "PBA_PORTS_FILE": str(ports)},
                stdin=subprocess.DEVNULL,
                stdout=self._stdout or log,
                stderr=log,
                cwd=self.folder,
            )
        self.wait_until(ports.exists, "write its ports")
        found = json.loads(ports.read_text())
        self.grpc_port, self.metrics_port = found["grpc_port"], found["metrics_port"]
        with self.client() as client:
            self.wait_until(lambda: _is_serving(client), "serve")

    def stop(self, timeout_s=STOP_TIMEOUT_S, kind=signal.SIGTERM):
        """Asks it to stop, waits, and returns its exit code."""
        self.process.send_signal(kind)
        return self.process.wait(timeout_s)

    def kill(self):
        """Ends it at once, if it has not ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)

    def metrics(self):
        """What Prometheus would scrape, as text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def wait_until(self, condition, what, timeout_s=START_TIMEOUT_S):
        """Waits for a condition; fails with the log when it does not come, or the service ends before."""
        deadline = time.monotonic() + timeout_s
        while not (answer := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                state = "has ended" if self.process.poll() is not None else f"did not {what} within {timeout_s:g} s"
                raise AssertionError(f"the service {state}; its log ends:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)
        return answer


def _is_serving(client):
    try:
        return client.health() is Health.SERVING
    except PbaClientError:
        return False
