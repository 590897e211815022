"""A caller: its name, its roles, and the links that it may touch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from pba_service.domain.samples import text_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_PATTERNS = 1_000
"""Links, prefixes and regions that one caller may be given by name."""


class Role(Enum):
    """What a caller is there for; a caller may have several roles."""

    NODE = "node"
    """Pushes samples of its own links, and reads these."""
    SUBSCRIBER = "subscriber"
    """Reads the links that it was given, by pattern or by region."""
    ADMIN = "admin"
    """Manages models, and may do everything else."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Links by id, or by how their ids begin.

    Attributes:
        ids: Whole ids.
        prefixes: Beginnings of ids; the empty one begins every id.
    """

    ids: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Reads patterns: `fra-1/*` is every id that begins with `fra-1/`, `*` every id, anything else one id.

        Raises:
            ValueError: A text is no pattern.
        """
        ids: set[str] = set()
        prefixes: set[str] = set()
        for text in texts:
            stem = text.removesuffix("*")
            if "*" in stem or text_fault(stem, required=text == stem):
                raise ValueError(f"{text!r} is neither a link id nor the beginning of one followed by *")
            (ids if stem == text else prefixes).add(stem)
        return cls(frozenset(ids), tuple(sorted(prefixes)))

    def cover(self, link_id: str) -> bool:
        """Whether a link is meant."""
        return link_id in self.ids or link_id.startswith(self.prefixes)

    @property
    def outermost(self) -> tuple[str, ...]:
        """The prefixes without those that begin with another: each id is under one of them at most."""
        kept: list[str] = []
        for prefix in sorted(self.prefixes):  # what a prefix begins comes right after it
            if not (kept and prefix.startswith(kept[-1])):
                kept.append(prefix)
        return tuple(kept)

    @property
    def everything(self) -> bool:
        """Whether every link is meant."""
        return "" in self.prefixes


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose identity is proven.

    Attributes:
        name: Unique among callers; a node says it, or nothing, as the `node` of its links.
        roles: What it is there for.
        links: A node's own links: those that it pushes.
        reads: What a subscriber reads.
        regions: Regions of which a subscriber reads every link.
        expires_at_s: When the proof ends, in seconds since the epoch; None: while it is not withdrawn.
    """

    name: str
    roles: frozenset[Role]
    links: Patterns = field(default_factory=Patterns)
    reads: Patterns = field(default_factory=Patterns)
    regions: frozenset[str] = frozenset()
    expires_at_s: float | None = None

    def owns(self, link_id: str) -> bool:
        """Whether it may write a link. Nothing stored has a say in it, so no link can be taken over."""
        return Role.ADMIN in self.roles or (Role.NODE in self.roles and self.links.cover(link_id))

    def reads_by_id(self, link_id: str) -> bool:
        """Whether it may read a link, whatever the link's region."""
        return self.owns(link_id) or (Role.SUBSCRIBER in self.roles and self.reads.cover(link_id))

    @property
    def readable_regions(self) -> frozenset[str]:
        """Regions of which it may read every link."""
        return self.regions if Role.SUBSCRIBER in self.roles else frozenset()

    @property
    def readable(self) -> Patterns:
        """All patterns of links that it may read."""
        found = [self.links] if Role.NODE in self.roles else []
        found += [self.reads] if Role.SUBSCRIBER in self.roles else []
        return Patterns(
            frozenset[str]().union(*(patterns.ids for patterns in found)),
            tuple(sorted({prefix for patterns in found for prefix in patterns.prefixes})),
        )

    @property
    def reads_everything(self) -> bool:
        """Whether there is no link that it may not read."""
        return Role.ADMIN in self.roles or self.readable.everything


def caller_of(name: object, claims: Mapping[str, Any], expires_at_s: float | None = None) -> Caller:
    """A caller from what a file or a token says of it.

    Args:
        name: Its name.
        claims: `roles`, `links`, `reads` and `regions`, each a list of texts; others are ignored. Roles that this
            service does not know are ignored as well. The links of a node are `<name>/*` unless they are said.
        expires_at_s: When the proof ends.

    Raises:
        ValueError: With what is wrong.
    """
    if not isinstance(name, str) or "*" in name or text_fault(name, required=True):
        raise ValueError("a caller's name has 1 to 128 printable bytes and no *")
    known = {role.value: role for role in Role}
    roles = frozenset(known[text] for text in _texts(claims, "roles") if text in known)
    links = Patterns.of(_texts(claims, "links") if "links" in claims else [f"{name}/*"])
    regions = _texts(claims, "regions")
    if any(text_fault(region, required=True) for region in regions):
        raise ValueError("a region has 1 to 128 printable bytes")
    return Caller(name, roles, links, Patterns.of(_texts(claims, "reads")), frozenset(regions), expires_at_s)


def _texts(claims: Mapping[str, Any], key: str) -> list[str]:
    value = claims.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_PATTERNS or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key} is a list of at most {MAX_PATTERNS} texts")
    return value
