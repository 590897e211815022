"""Tells gRPC's own retries when to come back, so that a refused call is made again by itself, in any language.

gRFC A6: a client whose service config lets it retry waits as long as the trailer says, and does not retry when that
says a negative number. `RetryInfo` says the same to those who read statuses.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from grpc_status import rpc_status

if TYPE_CHECKING:
    import grpc
    from google.rpc.status_pb2 import Status

KEY = "grpc-retry-pushback-ms"
SPREAD = 0.5
"""Callers refused together are told to come back over a time half as long again, or they would meet again."""

_NEVER = "-1"
_LONGEST_S = 10.0


def with_pushback(status: grpc.Status, retry_after_s: float | None, remaining_s: float | None) -> grpc.Status:
    """The same status, with the wait that gRPC's retries keep.

    Args:
        status: Of a call that was refused.
        retry_after_s: The shortest wait after which it may be let in; None: it will not be.
        remaining_s: Until the caller's deadline; None: it has none. A retry after it would only delay the refusal.
    """
    said = _NEVER
    if retry_after_s is not None and retry_after_s <= _LONGEST_S:
        wait_s = retry_after_s * (1.0 + SPREAD * random.random())  # noqa: S311 - no secret
        if remaining_s is None or wait_s < remaining_s:
            said = str(round(wait_s * 1000))
    refused: Any = status  # a named tuple, which grpc's types do not say
    told: grpc.Status = refused._replace(trailing_metadata=(*(refused.trailing_metadata or ()), (KEY, said)))
    return told


async def refuse(context: Any, status: Status, retry_after_s: float | None) -> None:
    """Ends a call with RESOURCE_EXHAUSTED and when to come back."""
    await context.abort_with_status(
        with_pushback(rpc_status.to_status(status), retry_after_s, context.time_remaining())
    )
