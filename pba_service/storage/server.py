"""How the store talks to Redis: deadlines, retries, scripts, and errors in the domain's words."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import Connection
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage.keys import MARK, link_key
from pba_service.storage.packing import packing
from pba_service.storage.repeats import NotingRetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from pba_service.storage.scripts import Script

MAX_CONNECTIONS = 32

Command = tuple[Any, ...]
Call = tuple["Sequence[bytes]", "Sequence[Any]"]
"""The keys and the arguments of one run of a script."""

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What is raised where a server is away, slow, or refuses; that no node of a Cluster answers is no `RedisError`."""

_CALLS_TOGETHER = 16
_PARTS_AT_ONCE = 4
"""Round trips of one run that are under way at a time: calls are packed while the server works on those before."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


def connection_options(timeout_s: float, *, retries: int = 3) -> dict[str, Any]:
    """What every connection has in common.

    RESP2, because an idle asynchronous RESP3 connection that the server had closed raised instead of reconnecting
    (redis-py #4252). A lost connection is tried again; a slow answer is not, for the deadline would have passed.
    """
    return {
        "protocol": 2,
        "socket_connect_timeout": timeout_s / 2,
        "socket_timeout": timeout_s,
        "retry": NotingRetry(
            ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries, supported_errors=(RedisConnectionError,)
        ),
    }


def new_client(
    options: dict[str, Any], timeout_s: float, *, retries: int = 3, met: Callable[[bytes], None] | None = None
) -> Redis:
    """A client whose pool makes callers wait for a connection, up to the deadline, where others fail at once.

    `met` is told at the beginning of each connection which run of a server it leads to, before anything is asked there.
    """
    options = {**options, **connection_options(timeout_s, retries=retries)}
    if met is not None:
        options["redis_connect_func"] = _meeting(met)
    options["connection_class"] = packing(options.get("connection_class", Connection))
    pool = BlockingConnectionPool(max_connections=MAX_CONNECTIONS, timeout=timeout_s, **options)
    return Redis.from_pool(pool)


def _meeting(met: Callable[[bytes], None]) -> Callable[[Any], Awaitable[None]]:
    async def meet(connection: Any) -> None:
        await connection.on_connect_check_health()
        await connection.send_command("INFO", "server")
        try:
            told = await connection.read_response()
        except ResponseError:  # who may not ask does without
            return
        found = re.search(rb"run_id:(\w+)", told if isinstance(told, bytes) else str(told).encode())
        if found:
            met(found[1])

    return meet


async def execute(client: Redis | RedisCluster, command: Command) -> Any:
    """Sends one command; an error that the server answers is raised."""
    return await client.execute_command(*command)


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

    forgets_last_writes = False
    """Whether another server may take this one's place, without what was written last; `on_failover` is called then."""

    on_failover: Callable[[], Awaitable[None]] | None = None
    """Writes it again; called until it does not raise `StoreUnavailableError` any more."""

    watched: Callable[[str], AbstractContextManager[None]] | None = None
    """Around each round trip; told the name of what is asked."""

    def __init__(self, timeout_s: float) -> None:
        """Takes the longest that one round trip may last, half of it for connecting."""
        self.timeout_s = timeout_s
        self.lives = 0
        """Grows when a connection leads to another run of a server than the one before: it may have lost what was
        written last, and whoever counts what happened there may have counted something else."""
        self._runs: dict[Any, bytes] = {}

    def _meets(self, place: Any) -> Callable[[bytes], None]:
        """Notes which run of a server is met at a place."""

        def met(run: bytes) -> None:
            if self._runs.get(place, run) != run or (place and place not in self._runs):
                self.lives += 1
            self._runs[place] = run

        return met

    async def run(self, script: Script, calls: Iterable[Call], *, together: int | None = None) -> list[Any]:
        """Runs a script once per call, in any order.

        Args:
            script: The script.
            calls: Its keys and arguments; made while the server works on those before, where they are made one by one.
            together: How many calls make up one round trip.

        Raises:
            StoreUnavailableError: The server is away, slow, or refuses.
        """
        left = iter(calls)
        parts = iter(lambda: list(islice(left, together or self._together)), [])
        first, second = next(parts, []), next(parts, None)
        if second is None:
            return await self._guard(script.name, self._run(script, first)) if first else []
        numbered = enumerate(chain((first, second), parts))
        replies: dict[int, list[Any]] = {}

        async def run_parts() -> None:
            for place, part in numbered:
                replies[place] = await self._guard(script.name, self._run(script, part))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_PARTS_AT_ONCE):
                    group.create_task(run_parts())
        except* StoreUnavailableError as errors:
            raise errors.exceptions[0] from None
        return [reply for place in sorted(replies) for reply in replies[place]]

    async def run_for_links(
        self, script: Script, link_ids: Sequence[str], *head: Any, tail: Sequence[Any] | None = None
    ) -> list[Any]:
        """Runs a script for links.

        Args:
            script: The script, which answers one entry for each link.
            link_ids: The links.
            head: The same arguments for each run.
            tail: After them, one argument for each link.

        Returns:
            One answer for each link.

        Raises:
            StoreUnavailableError: The server is away, slow, or refuses.
        """
        calls: list[Call] = []
        for first in range(0, len(link_ids), self.links_per_call):
            part = slice(first, first + self.links_per_call)
            args = [*head, *(tail[part] if tail else ())]
            calls.append(([link_key(link_id) for link_id in link_ids[part]], args))
        return [reply for replies in await self.run(script, calls) for reply in replies]

    async def command(self, *command: Any) -> Any:
        """Runs one command.

        Raises:
            StoreUnavailableError: The server is away, slow, or refuses.
        """
        return await self._guard(str(command[0]), self._command(command))

    @abstractmethod
    async def each_primary(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        """Sends commands together to every server that takes writes.

        Returns:
            For each its name and its answers; an error that it answers is the answer to its command.

        Raises:
            StoreUnavailableError: One of them is away or slow.
        """

    @abstractmethod
    async def beside_links(
        self, link_ids: Sequence[str], commands: Callable[[bytes], Sequence[Command]]
    ) -> list[list[Any]]:
        """Sends commands together to each server that holds any of the links.

        Args:
            link_ids: The links.
            commands: Makes the commands, given a key that the server holds and that nothing else uses.

        Returns:
            The answers of each; an error that it answers is the answer to its command.

        Raises:
            StoreUnavailableError: One of them is away or slow.
        """

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

    async def _guard(self, name: str, work: Awaitable[_T]) -> _T:
        if self.watched is None:
            return await self._in_time(work)
        with self.watched(name):
            return await self._in_time(work)

    async def _in_time(self, work: Awaitable[_T]) -> _T:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self.timeout_s):
                return await work
        except FAILURES as error:
            # What a driver says may name hosts and keys: it is logged, and callers get a neutral text.
            _log.warning("store_failed", error=f"{type(error).__name__}: {error}")
            raise StoreUnavailableError from error
        finally:
            if task and task.cancelling() > cancelled_before:
                # redis-py sends under asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes in
                # the moment in which it is done. A task that reads for ever would never end.
                raise asyncio.CancelledError


class SingleServer(Server):
    """A server that holds everything: scripts may be asked for many links at once."""

    links_per_call = 128
    holds_everything = True

    @abstractmethod
    async def _client_now(self) -> Redis:
        """A client of the server."""

    async def each_primary(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        """The one server's answers, as `Server.each_primary` says."""
        return [("the server", await self._guard("PRIMARIES", self._send(commands)))]

    async def beside_links(
        self, link_ids: Sequence[str], commands: Callable[[bytes], Sequence[Command]]
    ) -> list[list[Any]]:
        """The one server's answers, as `Server.beside_links` says."""
        return [await self._guard("BESIDE", self._send(commands(MARK)))] if link_ids else []

    async def _command(self, command: Command) -> Any:
        return await execute(await self._client_now(), command)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        client = await self._client_now()
        if len(commands) > 1:
            return await send(client, commands)
        try:
            return [await execute(client, commands[0])]
        except NoScriptError as error:
            return [error]


class StandaloneServer(SingleServer):
    """A server on its own."""

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._client = new_client(options, timeout_s, met=self._meets(None))

    async def close(self) -> None:
        """Frees connections."""
        await self._client.aclose()

    async def _client_now(self) -> Redis:
        return self._client
