"""Whether something was sent to the server again, because a connection was lost before its answer."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.asyncio.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@dataclass(slots=True)
class Repeats:
    """Whether something was, or may have been, sent again: then an answer may tell of what the first sending did."""

    seen: bool = False


_repeats: ContextVar[Repeats | None] = ContextVar("repeats", default=None)


@contextmanager
def repeats() -> Iterator[Repeats]:
    """Notes whether anything that is asked of a server inside is sent again because a connection was lost."""
    noted = Repeats()
    token = _repeats.set(noted)
    try:
        yield noted
    finally:
        _repeats.reset(token)


def note_repeat() -> None:
    """Something is sent again."""
    if (noted := _repeats.get()) is not None:
        noted.seen = True


class NotingRetry(Retry):
    """redis-py's, which tells that it repeats."""

    async def call_with_retry(
        self, do: Callable[[], Awaitable[Any]], fail: Callable[..., Any], *rest: Any, **how: Any
    ) -> Any:
        """Calls, and notes each failure that it calls again after."""

        async def failed(*error: Any) -> Any:
            note_repeat()
            return await fail(*error)

        return await super().call_with_retry(do, failed, *rest, **how)
