"""The primary that Sentinels name, whichever that is."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from pba_service.domain.errors import StoreUnavailableError
from pba_service.storage.server import SingleServer, execute, new_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from pba_service.storage.address import Address
    from pba_service.storage.server import Command

POLL_S = 0.5

_ASK_TIMEOUT_S = 0.5
_RETIRED = 2

_log = structlog.get_logger(__name__)


class SentinelServer(SingleServer):
    """Follows the primary: asks the Sentinels every half second, and drops all connections when it is another one.

    Without, a planned failover cost two of three acknowledged samples: the client went on writing to the old primary
    until that noticed that it was none any more. What was written in the last moments has to be written again:
    `on_failover` is called for that.
    """

    forgets_last_writes = True

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._address = address
        self._sentinels = [
            new_client({**address.sentinel_options, "host": host, "port": port}, _ASK_TIMEOUT_S, retries=0)
            for host, port in address.hosts
        ]
        self._primary: tuple[str, int] | None = None
        self._current: Redis | None = None
        self._retired: list[Redis] = []
        self._watcher: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._closed = False

    async def close(self) -> None:
        """Frees connections."""
        self._closed = True  # redis-py may swallow a cancellation, see Server._guard
        if self._watcher:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        current = [self._current] if self._current else []
        for client in (*self._sentinels, *self._retired, *current):
            await client.aclose()
        self._current = None

    async def _client_now(self) -> Redis:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="sentinel-watch")
        if self._current is None:
            await self._look()
        if self._current is None:
            raise RedisError(f"no Sentinel knows a primary called {self._address.service!r}")
        return self._current

    async def _command(self, command: Command) -> Any:
        client = await self._client_now()
        reply = await super()._command(command)
        self._refuse_if_replaced(client)
        return reply

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        client = await self._client_now()
        replies = await super()._send(commands)
        self._refuse_if_replaced(client)
        return replies

    def _refuse_if_replaced(self, client: Redis) -> None:
        """A primary that has been replaced acknowledges writes for a while; they are lost, and nobody repeats them."""
        if client is not self._current:
            raise RedisError("the primary was replaced meanwhile")

    async def _watch(self) -> None:
        failed_over = False
        while not self._closed:
            await asyncio.sleep(POLL_S)
            try:
                failed_over = await self._look() or failed_over
                if failed_over and self.on_failover:
                    await self.on_failover()
                    failed_over = False
            except StoreUnavailableError:
                continue  # it is written again as soon as it can be
            except Exception:  # noqa: BLE001 - a watch that ends would leave the service writing to the wrong server
                _log.exception("sentinel_watch_failed")

    async def _look(self) -> bool:
        """Turns to the primary that most Sentinels name; returns whether there was another before."""
        async with self._looking:
            answers = await asyncio.gather(*(self._ask(sentinel) for sentinel in self._sentinels))
            named = Counter(answer for answer in answers if answer)
            if not named:
                return False
            [(primary, _)] = named.most_common(1)
            if primary == self._primary or self._closed:
                return False
            before, old = self._primary, self._current
            self._primary = primary
            self._current = new_client(
                {**self._address.options, "host": primary[0], "port": primary[1]},
                self.timeout_s,
                met=self._meets(None),
            )
            if old is None:
                return False
            _log.warning("store_failed_over", before=before, after=primary)
            # What is under way on the old connections may open some again by itself: closed once more later.
            self._retired.append(old)
            await old.aclose()
            if len(self._retired) > _RETIRED:
                await self._retired.pop(0).aclose()
            return True

    async def _ask(self, sentinel: Redis) -> tuple[str, int] | None:
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                reply: Any = await execute(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service))
        except (RedisError, OSError, TimeoutError):
            return None
        return (reply[0].decode(), int(reply[1])) if reply else None
