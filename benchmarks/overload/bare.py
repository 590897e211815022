"""The control for refusals: a bare grpc.aio server that refuses every call, `python -m benchmarks.overload.bare`.

It shows how fast Python can refuse when it does nothing else. Prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.harness.echo import Handlers
from benchmarks.harness.generator import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDLESS = 1_000_000


@contextlib.contextmanager
def bare() -> Iterator[str]:
    """The server as a process; its host:port."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.overload.bare"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        try:
            assert process.stdout  # noqa: S101 - a pipe
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def main() -> None:
    """Serves until killed."""

    async def refuse(_request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    waiting = [(f"grpc.server.max_pending_requests{end}", _ENDLESS) for end in ("", "_hard_limit")]
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *waiting])
    server.add_generic_rpc_handlers((Handlers(refuse),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
