"""What replicas share of models, in Redis; `docs/adr/0006-models-that-replicas-converge-on.md` says how and why."""

from __future__ import annotations

import hashlib
import secrets
import struct
from typing import TYPE_CHECKING, Any

import structlog

from pba_service.domain.errors import CapacityExceededError, ModelConflictError, StoreUnavailableError
from pba_service.domain.lifecycle import Desired
from pba_service.engine.model_ports import ModelBundle
from pba_service.storage import keys, registry_codec, scripts
from pba_service.storage.codec import StoredDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.engine.model_ports import ReplicaReport
    from pba_service.engine.ports import ModelInfo
    from pba_service.storage.server import Server

MAX_SHARED_BYTES = 64 * 1024 * 1024
"""The largest model that is given to other replicas through Redis; larger ones take a volume that all of them see."""

_PART_BYTES = 1024 * 1024
_UNFINISHED_TTL_MS = 15 * 60_000
"""Parts of an upload that was broken off are gone after so long."""

_HEAD = struct.Struct("<4sII32s")
_MAGIC = b"PBM1"

_log = structlog.get_logger(__name__)


class RedisRegistry:
    """The `ModelRegistry` of the engine's ports. It borrows a server, and does not close it."""

    def __init__(self, server: Server) -> None:
        """Takes where it all is."""
        self._server = server

    async def desired(self) -> Desired:
        """What replicas are to converge on.

        Raises:
            StoreUnavailableError: The store is away, or holds what is none of ours there.
        """
        blob = await self._server.command("HGET", keys.MODELS_DESIRED, "d")
        if blob is None:
            return Desired()
        try:
            return registry_codec.decode_desired(blob)
        except StoredDataError as error:
            _log.exception("models_desired_unreadable")
            raise StoreUnavailableError from error

    async def propose(self, desired: Desired, *, read_revision: int) -> bool:
        """Stores a desired state if its revision is still `read_revision`; says whether it was."""
        blob = registry_codec.encode_desired(desired)
        # the token tells a proposal that redis-py sends again, its answer lost, from another replica's
        args = [str(read_revision), str(desired.revision), blob, secrets.token_bytes(8)]
        [stored] = await self._server.run(scripts.MODELS_PROPOSE, [([keys.MODELS_DESIRED], args)])
        return bool(stored)

    async def catalogue(self) -> list[ModelInfo]:
        """What the published models say of themselves, the newest first."""
        found = await self._server.command("HGETALL", keys.MODELS_CATALOGUE)
        infos = []
        for name, blob in _pairs(found):
            if b":" in name:
                continue
            try:
                infos.append(registry_codec.decode_info(blob))
            except StoredDataError as error:
                _log.warning("model_unreadable", version=name.decode(errors="replace"), error=str(error))
        return sorted(infos, key=lambda info: info.created_at_ms, reverse=True)

    async def publish(self, bundle: ModelBundle, info: ModelInfo) -> None:
        """Gives a model to all replicas. It appears whole, or not at all; publishing it again changes nothing.

        Raises:
            ModelConflictError: Another file is published under this version, or parts of one that says something else
                of itself are there.
            CapacityExceededError: It is too large to be shared so.
        """
        content = bundle.manifest + bundle.onnx
        if len(content) > MAX_SHARED_BYTES:
            raise CapacityExceededError("bytes of a model that is shared through the store", limit=MAX_SHARED_BYTES)
        head = _HEAD.pack(_MAGIC, len(bundle.manifest), len(content), hashlib.sha256(content).digest())
        blob = head + content
        parts = [blob[first : first + _PART_BYTES] for first in range(0, len(blob), _PART_BYTES)]
        # under the checksum too: two replicas that upload different files under one version do not mix
        names = [_part(info, i) for i in range(len(parts))]
        known = await self._server.command("HGET", keys.MODELS_CATALOGUE, f"{info.version}:c")
        if known is not None:
            if known.decode() != info.checksum_sha256:
                raise ModelConflictError(f"another model is published as {info.version} already")
            if await self._server.command("EXISTS", *names) == len(names):
                return
        for name, part in zip(names, parts, strict=True):
            # what is there may be published by now: then it has no time to live, and must not get one
            stored = await self._server.command("SET", name, part, "NX", "PX", _UNFINISHED_TTL_MS)
            if not stored and await self._server.command("GET", name) != part:
                raise ModelConflictError(f"another upload of {info.version} is going on, or was broken off lately")
        said = registry_codec.encode_info(info)
        call = ([keys.MODELS_CATALOGUE, *names], [info.version, said, info.checksum_sha256])
        [answer] = await self._server.run(scripts.MODELS_PUBLISH, [call])
        if answer == 0:
            _log.warning("model_upload_lost", version=info.version)
            raise StoreUnavailableError
        if answer != 1:
            raise ModelConflictError(f"another model is published as {info.version} already")

    async def fetch(self, version: str) -> ModelBundle | None:
        """A published model; None where there is none, or not all of it any more."""
        found = await self._server.command("HGET", keys.MODELS_CATALOGUE, version)
        if found is None:
            return None
        try:
            info = registry_codec.decode_info(found)
        except StoredDataError:
            return None
        parts: list[bytes] = []
        size = 0
        while not parts or sum(map(len, parts)) < size:
            part = await self._server.command("GET", _part(info, len(parts)))
            if part is None or (not parts and not part.startswith(_MAGIC)):
                _log.warning("model_parts_missing", version=version, part=len(parts))
                return None
            if not parts:
                _, manifest_bytes, content_bytes, digest = _HEAD.unpack_from(part)
                size = _HEAD.size + content_bytes
            parts.append(part)
        content = b"".join(parts)[_HEAD.size :]
        if hashlib.sha256(content).digest() != digest:
            _log.warning("model_parts_damaged", version=version)
            return None
        return ModelBundle(f"the store ({version})", content[:manifest_bytes], content[manifest_bytes:])

    async def forget(self, versions: Sequence[str]) -> None:
        """Takes published models away: out of the catalogue first, so that nobody begins to read half of one."""
        infos = {info.version: info for info in await self.catalogue()}
        for version in versions:
            await self._server.command("HDEL", keys.MODELS_CATALOGUE, version, f"{version}:c")
            if version in infos:
                await self._remove_parts(infos[version])

    async def report(self, report: ReplicaReport, ttl_s: float) -> None:
        """Says that a replica lives and what it serves, for so long."""
        args = [round(ttl_s * 1000), report.replica, registry_codec.encode_report(report)]
        await self._server.run(scripts.MODELS_REPORT, [([keys.MODELS_REPLICAS], args)])

    async def leave(self, replica: str) -> None:
        """Says that a replica ends."""
        await self._server.command("HDEL", keys.MODELS_REPLICAS, replica)

    async def replicas(self) -> list[ReplicaReport]:
        """The living replicas, ordered by name."""
        [found] = await self._server.run(scripts.MODELS_REPORT, [([keys.MODELS_REPLICAS], [0])])
        reports = []
        for blob in found:
            try:
                reports.append(registry_codec.decode_report(blob))
            except StoredDataError as error:
                _log.warning("replica_unreadable", error=str(error))
        return sorted(reports, key=lambda report: report.replica)

    async def _remove_parts(self, info: ModelInfo) -> None:
        part = 0
        while await self._server.command("DEL", _part(info, part)):
            part += 1


def _part(info: ModelInfo, part: int) -> bytes:
    return keys.model_part_key(f"{info.version}:{info.checksum_sha256[:16]}", part)


def _pairs(found: Any) -> list[tuple[bytes, bytes]]:
    """The fields of a hash: RESP2 answers them in turns, and redis-py makes a dictionary of those of some clients."""
    return list(found.items()) if isinstance(found, dict) else list(zip(found[::2], found[1::2], strict=True))
