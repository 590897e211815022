"""Pods without Kubernetes: the manifests' start scripts, each with a name, a loopback address and a /data."""

import os
import shutil
import subprocess

import pytest

from pba_service.storage.binary import find_server
from pba_service.storage.process import GuardedProcess
from tests.process import ROOT

COMPONENTS = ROOT / "deploy" / "kubernetes" / "components"
PASSWORD = "a-password"
PORT = 6379


class Pods:
    """Some pods called redis-N, which find each other by the names that the headless Service would give them.

    A mount namespace of each process' own puts those names into /etc/hosts. The servers listen on their pod's address
    only; /data in the scripts is the pod's folder.
    """

    def __init__(self, folder, component, network):
        if shutil.which("redis-cli") is None and shutil.which("valkey-cli") is None:
            pytest.skip("neither valkey-cli nor redis-cli is installed")
        namespaces = ["unshare", "--map-root-user", "--mount", "true"]
        if shutil.which("unshare") is None or subprocess.run(namespaces, check=False, capture_output=True).returncode:
            pytest.skip("no namespaces of one's own here")
        self.folder, self._component = folder, component
        self._processes = []
        self.hosts = folder / "hosts"
        self.move(network)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()

    def move(self, network):
        """Gives every pod that starts from now on another address."""
        self._network = network
        self.hosts.write_text(
            "127.0.0.1 localhost\n" + "".join(f"{self.address(n)} redis-{n}.redis\n" for n in range(6))
        )

    def address(self, pod):
        return f"127.{self._network}.0.{10 + pod}"

    def start(self, pod, script):
        """Runs a script of the component as that pod would; returns its process."""
        process = GuardedProcess(self._command(pod, script), log=self.folder / f"{pod}-{script}.log")
        self._processes.append(process)
        return process

    def run(self, pod, script):
        """Runs one that ends; returns what it said."""
        done = subprocess.run(
            self._command(pod, script),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self):
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def _command(self, pod, script):
        data = self.folder / f"data-{pod}"
        data.mkdir(exist_ok=True)
        here = data / script
        here.write_text((COMPONENTS / self._component / script).read_text().replace("/data", str(data)))
        environment = {
            "PATH": f"{self._tools(pod)}{os.pathsep}{os.environ['PATH']}",
            "REDIS_PASSWORD": PASSWORD,
            "POD_IP": self.address(pod),
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        inside = f'mount --bind "{self.hosts}" /etc/hosts && exec sh "{here}"'
        return ["/usr/bin/env", *settings, "unshare", "--map-root-user", "--mount", "sh", "-c", inside]

    def _tools(self, pod):
        """What the image has: the server under both its names, the client, and `hostname`."""
        folder = self.folder / f"bin-{pod}"
        folder.mkdir(exist_ok=True)
        server, client = find_server(), shutil.which("valkey-cli") or shutil.which("redis-cli")
        scripts = {
            "hostname": f"echo redis-{pod}",
            "valkey-server": f'exec "{server}" "$@" --bind {self.address(pod)}',
            "valkey-sentinel": f'exec "{server}" "$@" --sentinel --bind {self.address(pod)}',
            "valkey-cli": f'exec "{client}" "$@"',
        }
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        return folder
