"""The engine's documents in Redis.

pba:documents               sorted set, all scores 0: their names
pba:{doc:<name>}:d          hash: version ("v") and content ("c")
pba:{doc:<name>}:f          hash: the fields beside it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.storage import scripts
from pba_service.storage.pairs import pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pba_service.storage.server import Server

_NAMES = b"pba:documents"


class RedisDocuments:
    """The `Documents` of the engine's ports. It borrows a server, and does not close it."""

    def __init__(self, server: Server) -> None:
        """Takes where it all is."""
        self._server = server

    async def read(self, name: str) -> tuple[int, bytes]:
        """A document and its version; version 0 and nothing where there is none."""
        version, content = await self._server.command("HMGET", _key(name, "d"), "v", "c")
        return int(version or 0), content or b""

    async def write(self, name: str, content: bytes, *, read_version: int) -> bool:
        """Writes the version after `read_version` if that is still the stored one; says whether it was."""
        if read_version == 0:  # known by name before it exists: a name without a document is passed over
            await self._server.command("ZADD", _NAMES, 0, name)
        [written] = await self._server.run(scripts.WRITE_DOCUMENT, [([_key(name, "d")], [read_version, content])])
        return bool(written)

    async def names(self, prefix: str) -> list[str]:
        """The documents whose name begins so, in order."""
        low, high = f"[{prefix}".encode(), b"(" + prefix.encode() + b"\xff"
        found = await self._server.command("ZRANGEBYLEX", _NAMES, low, high)
        return [name.decode() for name in found]

    async def remove(self, name: str) -> None:
        """Takes a document and its table away."""
        await self._server.command("DEL", _key(name, "d"), _key(name, "f"))
        await self._server.command("ZREM", _NAMES, name)

    async def set_fields(self, name: str, fields: Mapping[str, bytes]) -> None:
        """Sets fields of the document's table."""
        if fields:
            flat = [part for pair in fields.items() for part in pair]
            await self._server.command("HSET", _key(name, "f"), *flat)

    async def fields(self, name: str) -> dict[str, bytes]:
        """The document's table."""
        found = await self._server.command("HGETALL", _key(name, "f"))
        return {field.decode(): value for field, value in pairs(found)}

    async def drop_fields(self, name: str, fields: Sequence[str]) -> None:
        """Takes fields out of the document's table."""
        if fields:
            await self._server.command("HDEL", _key(name, "f"), *fields)


def _key(name: str, part: str) -> bytes:
    return f"pba:{{doc:{name}}}:{part}".encode()
