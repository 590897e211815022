"""The load generator: a process of its own that runs the functions it is told to.

    with Generator() as generator:
        result = generator.run("benchmarks.harness.load:unary", target="127.0.0.1:50051", ...)

The functions are coroutines that take and return what JSON can hold. Next to what a function returns, `run` gives the
processor time that the process took and how long it lasted.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Generator:
    """The process; a context manager."""

    def __enter__(self) -> Self:
        """Starts it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name if __spec__ else "benchmarks.harness.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._process.communicate()

    def run(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Runs `module:function` there.

        Returns:
            What it returned, and `cpu_s` and `elapsed_s`.

        Raises:
            RuntimeError: It failed; its traceback is on stderr.
        """
        assert self._process.stdin  # noqa: S101 - a pipe
        assert self._process.stdout  # noqa: S101 - a pipe
        self._process.stdin.write(json.dumps([function, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator died in {function}")
        result: dict[str, Any] = json.loads(line)
        return result


def _serve() -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        module, function = name.split(":")
        gc.collect()
        gc.freeze()
        started, cpu = time.perf_counter(), time.process_time()
        result = asyncio.run(getattr(importlib.import_module(module), function)(**arguments))
        result |= {"cpu_s": time.process_time() - cpu, "elapsed_s": time.perf_counter() - started}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    _serve()
