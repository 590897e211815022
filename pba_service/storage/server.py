"""How the store talks to Redis: deadlines, retries, scripts, and errors in the domain's words."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from pba_service.domain.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from pba_service.storage.scripts import Script

CONNECT_TIMEOUT_S = 1.0
OPERATION_TIMEOUT_S = 2.0
MAX_CONNECTIONS = 32

Command = tuple[Any, ...]
Call = tuple["Sequence[bytes]", "Sequence[Any]"]
"""The keys and the arguments of one run of a script."""

_CALLS_TOGETHER = 16

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


def connection_options() -> dict[str, Any]:
    """What every connection has in common.

    RESP2, because an idle asynchronous RESP3 connection that the server had closed raised instead of reconnecting
    (redis-py #4252). A lost connection is tried again; a slow answer is not, for the deadline would have passed.
    """
    return {
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": OPERATION_TIMEOUT_S,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3, supported_errors=(RedisConnectionError,)),
    }


def new_client(options: dict[str, Any]) -> Redis:
    """A client whose pool makes callers wait for a connection, up to the deadline, where others fail at once."""
    options = {"connection_class": Connection, **options, **connection_options()}
    pool = BlockingConnectionPool(max_connections=MAX_CONNECTIONS, timeout=OPERATION_TIMEOUT_S, **options)
    return Redis.from_pool(pool)


async def execute(client: Redis, command: Command) -> Any:
    """Sends one command; an error that the server answers is raised."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py leaves it untyped


async def send(client: Redis, commands: Sequence[Command]) -> list[Any]:
    """Sends commands in one round trip; an error that the server answers is the answer to its command."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


class Server(ABC):
    """A standalone server, the primary behind Sentinels, or a Cluster."""

    links_per_call: int
    """For how many links one run of a script may be asked; 1 where links live on different nodes."""

    holds_everything: bool
    """Whether a script may touch the keys of links and the stream of events at once."""

    async def run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Runs a script once per call, in any order.

        Raises:
            StoreUnavailableError: The server is away, slow, or refuses.
        """
        replies: list[Any] = []
        for first in range(0, len(calls), self._together):
            replies += await self._guard(self._run(script, calls[first : first + self._together]), OPERATION_TIMEOUT_S)
        return replies

    async def command(self, *command: Any, timeout_s: float = OPERATION_TIMEOUT_S) -> Any:
        """Runs one command.

        Raises:
            StoreUnavailableError: The server is away, slow, or refuses.
        """
        return await self._guard(self._command(command), timeout_s)

    @abstractmethod
    async def close(self) -> None:
        """Frees connections."""

    @abstractmethod
    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands together; an error that the server answers is the answer to its command."""

    @abstractmethod
    async def _command(self, command: Command) -> Any:
        """Sends one command; an error that the server answers is raised."""

    _together = _CALLS_TOGETHER

    async def _run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        replies = await self._send([("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server has restarted, or is another one now; EVAL makes it remember the script
            again = await self._send(
                [("EVAL", script.body, len(calls[i][0]), *calls[i][0], *calls[i][1]) for i in unknown]
            )
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _guard(self, work: Awaitable[_T], timeout_s: float) -> _T:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except (RedisError, OSError, TimeoutError) as error:
            # What a driver says may name hosts and keys: it is logged, and callers get a neutral text.
            _log.warning("store_failed", error=repr(error))
            raise StoreUnavailableError from error


class SingleServer(Server):
    """A standalone server."""

    links_per_call = 128
    holds_everything = True

    def __init__(self, options: dict[str, Any]) -> None:
        self._client = new_client(options)

    async def close(self) -> None:
        """Frees connections."""
        await self._client.aclose()

    async def _command(self, command: Command) -> Any:
        return await execute(self._client, command)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) > 1:
            return await send(self._client, commands)
        try:
            return [await execute(self._client, commands[0])]
        except NoScriptError as error:
            return [error]
