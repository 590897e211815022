"""Sees to it that the durability that is wanted is there: asks the servers, and waits for their replicas."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import NoPermissionError, RedisError

from pba_service.domain.errors import DurabilityUnmetError, StoreUnavailableError
from pba_service.storage import durability
from pba_service.storage.durability import Durability, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pba_service.domain.samples import SampleBatch
    from pba_service.storage.durability import Facts
    from pba_service.storage.server import Server

CHECK_EVERY_S = 5.0
"""A server that was restarted with other settings, or another primary, is found out within this time."""

_CONFIG = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
_MARK_TTL_MS = 60_000
_ASK_AGAIN_MS = (2, 5, 10, 20, 50, 100)

_log = structlog.get_logger(__name__)


class Keeper:
    """Keeps a level of durability.

    Args:
        server: The store's.
        wanted: The level.
        replicas: How many replicas must have a sample before it is acknowledged, where the level waits for them.
    """

    def __init__(self, server: Server, wanted: Durability, replicas: int = 1) -> None:
        self._server = server
        self._wanted = wanted
        self._replicas = replicas
        self._told: Verdict | None = None

    async def verify(self) -> Verdict:
        """Asks the servers how they are set, and says in the log what is new about that.

        Raises:
            StoreUnavailableError: They cannot be asked.
        """
        verdict = durability.judge(self._wanted, self._replicas, await self._facts())
        if verdict != self._told:
            self._told = verdict
            for text in verdict.unknown:
                _log.warning("durability_unknown", wanted=self._wanted.value, reason=text)
            for text in verdict.unmet:
                _log.error("durability_unmet", wanted=self._wanted.value, given=verdict.given.value, reason=text)
            if not verdict.unmet:
                _log.info("durability", wanted=self._wanted.value, given=verdict.given.value)
        return verdict

    async def run(self) -> None:
        """Asks again and again, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                await self.verify()
            except StoreUnavailableError:
                continue  # whoever needs the store says so

    async def check(self) -> None:
        """Returns unless a level that was asked for is known not to be there. Raises `DurabilityUnmetError`."""
        if self._wanted is not Durability.AUTO and self._told is not None and self._told.unmet:
            raise DurabilityUnmetError(self._wanted.value, self._told.unmet)

    async def keep(self, batch: SampleBatch) -> None:
        """Returns once a batch that was stored is as safe as is wanted.

        Raises:
            DurabilityUnmetError: The servers are not set as wanted.
            StoreUnavailableError: Too few replicas have it in time; pushing it again is safe.
        """
        await self.check()
        if not self._wanted.waits_for_replicas or not batch.links:
            return
        # After the batch's own writes, so that whoever has this one has those as well. It is another connection's: what
        # a replica has of the stream of writes has no gaps.
        wait_ms = round(self._server.timeout_s / 2 * 1_000)
        waits: list[tuple[Any, ...]] = [("WAIT", self._replicas, wait_ms)]
        if self._wanted.waits_for_disks:
            # A replica that is asked answers before it has synced what it just got, and then of itself only every
            # second. Each WAITAOF asks again; once enough have it the next ones return at once.
            waits = [("WAITAOF", 1, self._replicas, pause_ms) for pause_ms in (*_ASK_AGAIN_MS, wait_ms)]
        answers = await self._server.beside_links(
            [info.link_id for info in batch.links],
            lambda key: [("SET", key, secrets.token_bytes(8), "PX", _MARK_TTL_MS), *waits],
        )
        for mark, *_, answer in answers:
            # Where the mark was refused, such as by a full server, there was nothing to wait for: any replica will do.
            if isinstance(mark, Exception) or not self._enough(answer):
                _log.warning("replicas_behind", wanted=self._replicas, answer=str(answer), mark=str(mark))
                raise StoreUnavailableError

    def _enough(self, answer: Any) -> bool:
        """Whether WAIT's count, or WAITAOF's of this server and of its replicas, is enough."""
        if isinstance(answer, list):
            return bool(answer[0] >= 1 and answer[1] >= self._replicas)
        return isinstance(answer, int) and answer >= self._replicas

    async def _facts(self) -> list[Facts]:
        asked = [("CONFIG", "GET", name) for name in _CONFIG]
        found = []
        for name, replies in await self._server.each_primary([("INFO",), *asked]):
            info, *settings = replies
            if isinstance(info, NoPermissionError):
                info = {}
            elif isinstance(info, Exception):
                raise StoreUnavailableError from info
            readable = not any(isinstance(setting, RedisError) for setting in settings)
            found.append(durability.facts(name, _pairs(settings) if readable else None, _fields(info)))
        return found


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _pairs(settings: Sequence[Any]) -> dict[str, str]:
    """CONFIG GET's answers; redis-py makes a mapping of them, or leaves them as lists."""
    pairs: dict[str, str] = {}
    for setting in settings:
        items = setting.items() if isinstance(setting, dict) else zip(setting[::2], setting[1::2], strict=True)
        pairs |= {_text(name): _text(value) for name, value in items}
    return pairs


def _fields(info: Mapping[str, Any] | bytes | str) -> dict[str, str]:
    """INFO's fields; redis-py reads some of them, which is undone."""
    if isinstance(info, bytes | str):
        lines = (_text(info)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {}
    for name, value in info.items():
        inner = ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else _text(value)
        fields[name] = inner
    return fields
