"""A Redis Cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import AskError, ClusterError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage.keys import link_key
from pba_service.storage.repeats import note_repeat
from pba_service.storage.server import (
    FAILURES,
    MAX_CONNECTIONS,
    Server,
    connection_options,
    execute,
    new_client,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pba_service.storage.address import Address
    from pba_service.storage.server import Command

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)

_KEY_OF_SCRIPT = 3
"""Position of the first key in EVAL and EVALSHA."""

_MOVING_S = 0.02
"""How long to wait before asking again for a link whose slot is on its way to another node."""


class ClusterServer(Server):
    """A Cluster: scripts go to the nodes of their links, all those of a node in one round trip.

    redis-py refuses scripts in a Cluster's pipeline, and one round trip for each is several times slower. So its
    Cluster client says which node holds a link, and that node gets a pipeline of its own. What has moved meanwhile goes
    through the Cluster client, which learns where to. Links of a slot that is being moved wait until it has been. A
    node that hangs, whose machine is gone, or that is cut off from the others, tells nobody that one of them took its
    place: after a failure they are asked.
    """

    links_per_call = 1
    holds_everything = False
    _together = 512

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(timeout_s)
        options = {name: value for name, value in address.options.items() if name not in {"connection_class", "db"}}
        self._node_options = {name: value for name, value in address.options.items() if name != "db"}
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            ssl=address.tls,
            **options,
            **connection_options(timeout_s),
        )
        self._nodes: dict[tuple[str, int], Redis] = {}
        self._starting = asyncio.Lock()
        # A Cluster's pools never make callers wait: they fail beyond their size.
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """Frees connections."""
        self._closed = True
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._client.aclose()
        for client in self._nodes.values():
            await client.aclose()

    async def each_primary(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        """Every primary's answers, as `Server.each_primary` says."""

        async def ask_all() -> list[tuple[str, list[Any]]]:
            await self._initialize()
            places = [(str(node.host), int(node.port)) for node in self._client.get_primaries()]
            answers = await asyncio.gather(*(send(self._node(place), commands) for place in places))
            return [(f"{host}:{port}", found) for (host, port), found in zip(places, answers, strict=True)]

        return await self._guard("PRIMARIES", ask_all())

    async def beside_links(
        self, link_ids: Sequence[str], commands: Callable[[bytes], Sequence[Command]]
    ) -> list[list[Any]]:
        """The answers of each node that holds a link, as `Server.beside_links` says."""

        async def ask_holders() -> list[list[Any]]:
            await self._initialize()
            keys: dict[tuple[str, int], bytes] = {}
            for link_id in link_ids:
                key = link_key(link_id) + b":w"
                node = self._client.get_node_from_key(key.decode())
                if node is None:
                    raise RedisError("a slot is not covered")
                keys.setdefault((str(node.host), int(node.port)), key)
            found = [send(self._node(place), commands(key)) for place, key in keys.items()]
            return list(await asyncio.gather(*found))

        return await self._guard("BESIDE", ask_holders())

    async def _guard(self, name: str, work: Awaitable[_T]) -> _T:
        try:
            return await super()._guard(name, work)
        except StoreUnavailableError:
            if not self._closed and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look(), name="cluster-look")
            raise

    async def _look(self) -> None:
        """Asks which node holds what; beside the calls, since the first one that is asked may be the one that hangs."""
        if not self._client.get_nodes():  # the next call asks before anything else
            return
        try:
            await self._client.nodes_manager.initialize()
        except FAILURES as error:
            _log.warning("cluster_not_seen", error=f"{type(error).__name__}: {error}")

    async def _command(self, command: Command) -> Any:
        async with self._slots:
            try:
                return await execute(self._client, command)
            except AttributeError as error:
                # redis-py knows no node that holds no slot, and stumbles when it is sent to one that gets its first
                raise ClusterError("a slot moves to a node that is not known yet") from error

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        await self._initialize()
        commands = [guarded(command) for command in commands]
        by_node: dict[tuple[str, int], list[int]] = {}
        for i, command in enumerate(commands):
            node = self._client.get_node_from_key(command[_KEY_OF_SCRIPT])
            by_node.setdefault((node.host, int(node.port)) if node else ("", 0), []).append(i)
        replies: list[Any] = [None] * len(commands)

        async def ask(place: tuple[str, int], positions: list[int]) -> None:
            for i, reply in zip(positions, await self._ask(place, [commands[i] for i in positions]), strict=True):
                replies[i] = reply

        await asyncio.gather(*(ask(place, positions) for place, positions in by_node.items()))
        astray = [i for i, reply in enumerate(replies) if isinstance(reply, _ASTRAY)]
        if astray:
            again = await asyncio.gather(*(self._follow(commands[i]) for i in astray))
            for i, reply in zip(astray, again, strict=True):
                replies[i] = reply
        return replies

    async def _ask(self, place: tuple[str, int], commands: Sequence[Command]) -> list[Any]:
        """Sends commands to a node; where it cannot be reached, that is the answer to each."""
        try:
            return await send(self._node(place), commands)
        except (RedisConnectionError, OSError) as error:
            note_repeat()
            return [_AwayError(error)] * len(commands)

    async def _initialize(self) -> None:
        async with self._starting:
            await self._client.initialize()

    def _node(self, place: tuple[str, int]) -> Redis:
        host, port = place
        if place not in self._nodes:
            self._nodes[place] = new_client(
                {**self._node_options, "host": host, "port": port},
                self.timeout_s,
                retries=0,
                met=self._meets(place),
            )
        return self._nodes[place]

    async def _follow(self, command: Command) -> Any:
        """Sends a command wherever its key is now; an error that the server answers is the answer.

        While its slot is being moved it is sent again, until the caller's deadline.
        """
        while True:
            try:
                return await self._command(command)
            except RedisError as error:
                # what redis-py raises when it was sent to and fro too often, and `_command` where it cannot go
                if type(error) is not ClusterError:
                    return error
            await asyncio.sleep(_MOVING_S)


def guarded(command: Command) -> Command:
    """A script of a link so that no node runs it while the link's slot is being moved.

    The key it is given is only what those of the link begin with, and never there itself. While a slot is being moved,
    the node that gives it away sends whoever asks for a key that is not there to the one that takes it, and that one
    runs a script of a single key: the link would begin there once more, without what the other node still holds. A
    script of several keys, of which some are not there, is told to try again.
    """
    key = command[_KEY_OF_SCRIPT]
    if not key.endswith(b"}"):
        return command
    name, body, count, *rest = command
    return name, body, count + 1, *rest[:count], key + b":-", *rest[count:]


class _AwayError(Exception):
    """A node could not be reached; another may have taken its place."""


_ASTRAY = (MovedError, AskError, TryAgainError, _AwayError)
