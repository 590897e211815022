"""The control for streams: a bare grpc.aio server that sends each subscriber messages of one prediction.

`python -m benchmarks.harness.fanout 230`: the argument is the size of a message. It prints its port. A request says how
many messages are wanted, as four bytes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from benchmarks.harness.echo import PATH


class Handlers(grpc.GenericRpcHandler):
    """Answers `PATH`."""

    def __init__(self, answer: Any) -> None:
        self._handler = grpc.unary_stream_rpc_method_handler(answer)  # no serializers: bytes in, bytes out

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of the one method."""
        return self._handler if handler_call_details.method == PATH else None  # type: ignore[attr-defined]  # untyped


async def main(size: int) -> None:
    """Serves until killed."""
    payload = bytes(size)

    async def send(request: bytes, context: Any) -> None:
        for _ in range(int.from_bytes(request, "big")):
            await context.write(payload)

    server = grpc.aio.server(
        options=[("grpc.server.max_pending_requests", 20_000), ("grpc.server.max_pending_requests_hard_limit", 20_000)]
    )
    server.add_generic_rpc_handlers((Handlers(send),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
