"""How well what was acknowledged is kept: what is wanted, what a server is set to, and where the two differ. Pure.

`docs/reliability.md` says what each level promises and what it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Durability(Enum):
    """What an acknowledged sample survives."""

    AUTO = "auto"
    """Whatever the server is set to; the service says what that is."""

    MEMORY = "memory"
    """The death of any service process."""

    EVERYSEC = "everysec"
    """The death of the Redis process as well."""

    ALWAYS = "always"
    """A power cut as well."""

    REPLICATED = "replicated"
    """The loss of the primary's machine: replicas have it before it is acknowledged."""

    REPLICATED_ALWAYS = "replicated_always"
    """All of these: the primary and replicas have it on disk before it is acknowledged."""

    @property
    def waits_for_replicas(self) -> bool:
        """Whether an acknowledgement waits for replicas."""
        return self in {Durability.REPLICATED, Durability.REPLICATED_ALWAYS}

    @property
    def waits_for_disks(self) -> bool:
        """Whether it waits until they have it on disk."""
        return self is Durability.REPLICATED_ALWAYS


@dataclass(frozen=True, slots=True)
class Facts:
    """What one primary says of itself; None where it does not say.

    Attributes:
        name: Which of several it is.
        version: Its version, such as (7, 0, 15).
        append_only: Whether it writes an append-only file.
        sync: When it syncs that file: always, everysec or no.
        evicts: Whether it removes keys when memory is short.
        replicas: Replicas that are connected and follow.
        disk_error: Whether its last write to disk failed.
    """

    name: str
    version: tuple[int, ...] | None
    append_only: bool | None
    sync: str | None
    evicts: bool | None
    replicas: int | None
    disk_error: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where servers differ from what is wanted.

    Attributes:
        given: The best level that all of them fulfil, as far as they say.
        unmet: What is not fulfilled, a sentence each.
        unknown: What they do not say.
    """

    given: Durability
    unmet: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


_WAITAOF_SINCE = (7, 2)


def facts(name: str, config: Mapping[str, str] | None, info: Mapping[str, str]) -> Facts:
    """Reads what a server said.

    Args:
        name: Which of several it is.
        config: Its settings; None where asking for them is forbidden.
        info: Its INFO, as fields; none where asking for it is forbidden.
    """
    append_only: bool | None = info.get("aof_enabled") == "1" if "aof_enabled" in info else None
    sync = evicts = None
    if config is not None:
        append_only = config.get("appendonly") == "yes"
        sync = config.get("appendfsync")
    policy = (config or {}).get("maxmemory-policy") or info.get("maxmemory_policy")
    limit = (config or {}).get("maxmemory") or info.get("maxmemory")
    if policy is not None and limit is not None:
        evicts = limit != "0" and policy != "noeviction"
    slaves = [value for key, value in info.items() if key.startswith("slave") and key[5:].isdigit()]
    version = info.get("valkey_version") or info.get("redis_version")
    return Facts(
        name=name,
        version=tuple(int(part) for part in version.split(".") if part.isdigit()) if version else None,
        append_only=append_only,
        sync=sync,
        evicts=evicts,
        replicas=sum("state=online" in slave for slave in slaves) if info else None,
        disk_error="err" in {info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status")},
    )


def judge(wanted: Durability, replicas: int, primaries: Iterable[Facts]) -> Verdict:
    """Compares what is wanted with what every primary says of itself.

    Args:
        wanted: The level.
        replicas: How many replicas must have a sample, where the level waits for them.
        primaries: The servers that take writes.
    """
    unmet: list[str] = []
    unknown: list[str] = []
    given = Durability.ALWAYS
    for one in primaries:
        given = min(given, _given(one), key=_ORDER.index)
        if one.evicts:
            unmet.append(f"{one.name} evicts keys when memory is short: set maxmemory-policy to noeviction")
        elif one.evicts is None:
            unknown.append(f"{one.name} does not say whether it evicts keys when memory is short")
        if wanted in _NEEDS:
            _compare(one, _NEEDS[wanted], unmet, unknown)
        _compare_replicas(one, wanted, replicas, unmet, unknown)
    return Verdict(given, tuple(unmet), tuple(unknown))


_ORDER = [Durability.MEMORY, Durability.EVERYSEC, Durability.ALWAYS]
_NEEDS = {
    Durability.EVERYSEC: ("everysec", "always"),
    Durability.ALWAYS: ("always",),
    Durability.REPLICATED_ALWAYS: ("everysec", "always"),  # WAITAOF waits for the sync, whichever brings it about
}


def _given(one: Facts) -> Durability:
    if not one.append_only or one.sync not in {"everysec", "always"}:
        return Durability.MEMORY
    return Durability.ALWAYS if one.sync == "always" else Durability.EVERYSEC


def _compare(one: Facts, accepted: tuple[str, ...], unmet: list[str], unknown: list[str]) -> None:
    if one.append_only is None:
        unknown.append(f"{one.name} does not say whether it writes an append-only file")
    elif not one.append_only:
        unmet.append(f"{one.name} writes no append-only file: set appendonly to yes")
    elif one.sync is None:
        unknown.append(f"{one.name} does not say when it syncs, CONFIG being forbidden: it must be {accepted[0]}")
    elif one.sync not in accepted:
        unmet.append(f"{one.name} syncs {one.sync}: set appendfsync to {accepted[0]}")


def _compare_replicas(one: Facts, wanted: Durability, replicas: int, unmet: list[str], unknown: list[str]) -> None:
    if wanted.waits_for_replicas:
        if one.replicas is None:
            unknown.append(f"{one.name} does not say how many replicas it has, INFO being forbidden")
        elif one.replicas < replicas:
            unmet.append(f"{one.name} has {one.replicas} of the {replicas} replicas wanted")
    if wanted.waits_for_disks:
        if one.version is None:
            unknown.append(f"{one.name} does not say whether it can wait for disks, INFO being forbidden")
        elif one.version < _WAITAOF_SINCE:
            unmet.append(f"{one.name} is too old to wait for disks: WAITAOF came with Redis 7.2")
