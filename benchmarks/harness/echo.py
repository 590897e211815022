"""The control for calls: a bare grpc.aio server that answers fixed bytes, `python -m benchmarks.harness.echo 220`.

Prints its port. The argument is the size of the answer. With a model's folder behind it, it runs ONNX Runtime on one
window for each call as well: what serving a model costs when nothing else is done.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np

PATH = "/bench.Echo/Call"


class Handlers(grpc.GenericRpcHandler):
    """Answers `PATH`."""

    def __init__(self, answer: Any) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(answer)  # no serializers: bytes in, bytes out

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of the one method."""
        return self._handler if handler_call_details.method == PATH else None  # type: ignore[attr-defined]  # untyped


async def main(size: int, model: Path | None) -> None:
    """Serves until killed."""
    payload = bytes(size)

    async def echo(_request: bytes, _context: Any) -> bytes:
        return payload

    async def infer(_request: bytes, _context: Any) -> bytes:
        session.run(["forecast"], feeds)
        return payload

    answer = echo
    if model:
        from benchmarks.harness.raw import feeds_of, open_bare  # noqa: PLC0415 - the echo must not load it

        session, wants_step, slots = open_bare(model)
        feeds = feeds_of(np.ones((1, slots, 6), np.float32), wants_step=wants_step)
        answer = infer
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handlers(answer),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
