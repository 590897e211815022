"""Which model versions are to serve whom: the state that all replicas share and converge on.

A `Desired` is never changed in place: each transition gives the next one, with the next revision, and the store takes
it only if nobody was faster (compare-and-set). So these functions hold all the rules, and need no I/O to be tested.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelConflictError, ModelUnknownError

if TYPE_CHECKING:
    from pba_service.domain.samples import LinkInfo

PREVIOUS_KEPT = 10
"""Versions that can be rolled back to, one after the other."""

OFFERS_KEPT = 256
"""Files that were offered and are remembered, so that each is acted on once, by whichever replica sees it first."""

TOGETHER = 2
"""Experiments that a champion may be in at a time: the watch over it, and a trial."""

MAX_PINS = 10_000
MAX_CHAIN = 8

_BUCKETS = 1 << 32


class Scope(Enum):
    """What a pin goes by, the most particular first: the first that fits a link decides."""

    LINK = "link"
    PREFIX = "prefix"
    NODE = "node"
    PEER = "peer"
    REGION = "region"


@dataclass(frozen=True, slots=True)
class Pin:
    """Some links are served by versions of their own.

    Attributes:
        scope: What it goes by.
        value: The link's id, what its id begins with, or its node, peer or region.
        versions: The first of these that a replica has loaded serves; when none is, the next wider pin, then the
            active version.
    """

    scope: Scope
    value: str
    versions: tuple[str, ...]

    def fits(self, link: LinkInfo) -> bool:
        """Whether it is about a link."""
        if self.scope is Scope.PREFIX:
            return link.link_id.startswith(self.value)
        said = {Scope.LINK: link.link_id, Scope.NODE: link.node, Scope.PEER: link.peer, Scope.REGION: link.region}
        return said[self.scope] == self.value


@dataclass(frozen=True, slots=True)
class Experiment:
    """A challenger beside a champion, on the links that the champion would serve.

    Both forecast every sample of these links; the pairs are remembered with the link and compared when the target has
    come (`domain.trials`).

    Attributes:
        name: Its identity, never used twice.
        champion: The version that serves.
        challenger: The version that is tried.
        share: The share of the links, 0 to 1, that the challenger serves meanwhile; 0 for a shadow.
        started_at_ms: Only forecasts made from then on count: the challenger may know what lies before.
    """

    name: str
    champion: str
    challenger: str
    share: float = 0.0
    started_at_ms: int = 0

    @property
    def key(self) -> int:
        """What stands for the name in the pairs that links remember."""
        return zlib.crc32(self.name.encode())

    def is_served_by_challenger(self, link_id: str) -> bool:
        """Whether a link is in the challenger's share: the same on every replica and after every restart."""
        # not a CRC: those of two experiments differ by a constant only, so that their shares would hang together
        digest = hashlib.blake2b(link_id.encode(), digest_size=4, key=self.key.to_bytes(4, "little")).digest()
        return int.from_bytes(digest, "little") < self.share * _BUCKETS


@dataclass(frozen=True, slots=True)
class Desired:
    """What replicas are to converge on.

    Attributes:
        revision: Counts changes; 0 where nothing was ever decided.
        active: The version that serves links without a pin.
        previous: Versions that were active before, the latest first.
        held: Whether the active version stays until it is unpinned, whatever arrives.
        pins: Exceptions, each scope and value once.
        experiments: What is tried now.
        configured: The version that `PBA_MODEL_PATH` means, as the replica that started last saw it.
        offers: Identities of files that were acted on, the latest last: a checksum, "@", and when it was written.
    """

    revision: int = 0
    active: str = ""
    previous: tuple[str, ...] = ()
    held: bool = False
    pins: tuple[Pin, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    configured: str = ""
    offers: tuple[str, ...] = field(default=(), repr=False)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that a replica must have loaded, the active one first."""
        wanted = [self.active] if self.active else []
        for pin in self.pins:
            wanted += pin.versions
        for experiment in self.experiments:
            wanted += (experiment.champion, experiment.challenger)
        return tuple(dict.fromkeys(wanted))

    @property
    def served(self) -> frozenset[str]:
        """Every version that some link may be served with."""
        return frozenset((self.active, *(version for pin in self.pins for version in pin.versions)))

    def activated(self, version: str) -> Desired:
        """With another active version.

        Raises:
            ModelConflictError: The active version is held.
        """
        if version == self.active:
            return self
        if self.held:
            raise ModelConflictError(f"{self.active} is pinned as the active version; unpin it first")
        before = (self.active, *(one for one in self.previous if one not in {version, self.active}))
        return self._next(active=version, previous=tuple(filter(None, before))[:PREVIOUS_KEPT])

    def rolled_back(self) -> Desired:
        """With the version active that was so before; where to go back to from there is kept.

        Raises:
            ModelConflictError: There was none, or the active version is held.
        """
        if not self.previous:
            raise ModelConflictError("no version was active before this one")
        if self.held:
            raise ModelConflictError(f"{self.active} is pinned as the active version; unpin it first")
        return self._next(active=self.previous[0], previous=self.previous[1:])

    def hold(self) -> Desired:
        """With the active version held."""
        return self if self.held else self._next(held=True)

    def released(self) -> Desired:
        """With the active version no longer held."""
        return self._next(held=False) if self.held else self

    def pinned(self, pin: Pin) -> Desired:
        """With one more pin; it replaces one of the same scope and value.

        Raises:
            ModelConflictError: There are too many.
        """
        if pin in self.pins:
            return self
        others = tuple(one for one in self.pins if (one.scope, one.value) != (pin.scope, pin.value))
        if len(others) >= MAX_PINS:
            raise ModelConflictError(f"there are {MAX_PINS} pins already")
        return self._next(pins=(*others, pin))

    def unpinned(self, scope: Scope, value: str) -> Desired:
        """Without a pin. Raises `ModelUnknownError` where there is none."""
        others = tuple(one for one in self.pins if (one.scope, one.value) != (scope, value))
        if len(others) == len(self.pins):
            raise ModelUnknownError(f"pin of {scope.value} {value!r}")
        return self._next(pins=others)

    def started(self, experiment: Experiment) -> Desired:
        """With one more experiment.

        Raises:
            ModelConflictError: Both sides are the same version or in one together already, or the champion is in
                `TOGETHER` others.
        """
        if experiment.champion == experiment.challenger:
            raise ModelConflictError(f"{experiment.champion} cannot be tried against itself")
        running = [one for one in self.experiments if one.champion == experiment.champion]
        for one in running:
            if one.challenger == experiment.challenger or len(running) >= TOGETHER:
                raise ModelConflictError(f"{experiment.champion} is in the experiment {one.name!r} already")
        return self._next(experiments=(*self.experiments, experiment))

    def ended(self, name: str) -> Desired:
        """Without an experiment. Raises `ModelUnknownError` where there is none of this name."""
        others = tuple(one for one in self.experiments if one.name != name)
        if len(others) == len(self.experiments):
            raise ModelUnknownError(f"experiment {name!r}")
        return self._next(experiments=others)

    def promoted(self, champion: str, challenger: str) -> Desired:
        """With the challenger wherever the champion served: as the active version, and in pins.

        Raises:
            ModelConflictError: The champion is the active version and is held.
        """
        after = self.activated(challenger) if champion == self.active else self
        pins = tuple(
            replace(pin, versions=tuple(challenger if one == champion else one for one in pin.versions))
            for pin in after.pins
        )
        return after if pins == after.pins else self._next(active=after.active, previous=after.previous, pins=pins)

    def arrived(self, version: str, identity: str, *, meant: bool, at_start: bool, activate: bool) -> Desired:
        """With a file of a replica's model folder taken into account, once, whichever replicas see it.

        What is written while a replica watches is new unless that very file was acted on. What lies there when a
        replica starts is new if `PBA_MODEL_PATH` means another version than before; and, where it is not meant, if no
        file of that content was ever acted on. Whatever is new becomes the active version, unless that is held.

        Args:
            version: The file's.
            identity: As `offers` holds them.
            meant: Whether `PBA_MODEL_PATH` means it.
            at_start: Whether it lay there when the replica started.
            activate: Whether new files are to be activated; the first version of all is in any case.
        """
        checksum = identity.partition("@")[0]
        if not at_start:
            known = identity in self.offers
        elif meant:
            known = version == self.configured
        else:
            known = any(offer.partition("@")[0] == checksum for offer in self.offers)
        if known:
            return self
        offers = (*(offer for offer in self.offers if offer != identity), identity)[-OFFERS_KEPT:]
        after = self._next(offers=offers, configured=version if meant else self.configured)
        if self.held or (self.active and not activate):
            return after
        return replace(after.activated(version), revision=after.revision)

    def _next(self, **changes: object) -> Desired:
        return replace(self, revision=self.revision + 1, **changes)  # type: ignore[arg-type]  # fields of this class
