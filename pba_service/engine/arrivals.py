"""What lies in the model folder, and what is new there and whole.

A file is read once it was the same in two looks, so one that is being copied is left alone for as long as it grows; one
that is broken is refused once, and looked at again when it changes. Blocking: runs in a thread, one call at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import ModelRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_service.engine.model_ports import FoundModel, ModelBundle, ModelFolder
    from pba_service.engine.ports import ModelInfo

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A model of the folder that is whole and says what it is.

    Attributes:
        found: Its files.
        info: What it says of itself.
        meant: Whether it is the one that `PBA_MODEL_PATH` means.
        at_start: Whether it lay there when this replica started.
    """

    found: FoundModel
    info: ModelInfo
    meant: bool
    at_start: bool

    @property
    def identity(self) -> str:
        """The same on every replica that sees the same file; another once it was written again."""
        return f"{self.info.checksum_sha256[:16]}@{self.found.written_ns}"


class Arrivals:
    """Follows the model folder.

    Attributes:
        local: By version the models that lie in the folder now, as far as they are sound; replaced as a whole.
    """

    def __init__(self, folder: ModelFolder, on_refused: Callable[[ModelRefusedError], None]) -> None:
        """Takes the folder, and who is told of what is refused."""
        self.local: dict[str, Arrival] = {}
        self._folder = folder
        self._on_refused = on_refused
        self._seen: dict[str, str] = {}
        self._read: dict[str, tuple[str, Arrival | None]] = {}

    def first(self) -> list[Arrival]:
        """Reads all that lies there: the meant model, and then those that are an ONNX file alone.

        Of several folders of models only one is meant; the others wait until they are activated or written again.
        """
        arrivals = self._look(at_start=True)
        return [arrival for arrival in arrivals if arrival.meant or arrival.found.bare]

    def look(self) -> list[Arrival]:
        """Reads what was written since the last look but one, and not since the last."""
        return self._look(at_start=False)

    def meant(self) -> ModelBundle:
        """The model that `PBA_MODEL_PATH` means. Raises `ModelRefusedError` with why there is none."""
        return self._folder.meant()

    def _look(self, *, at_start: bool) -> list[Arrival]:
        found = self._folder.scan()
        fresh = []
        for one in found:
            steady = at_start or self._seen.get(one.where) == one.stamp
            if not steady or self._read.get(one.where, ("",))[0] == one.stamp:
                continue
            arrival = self._describe(one, at_start=at_start)
            self._read[one.where] = (one.stamp, arrival)
            if arrival:
                fresh.append(arrival)
        self._seen = {one.where: one.stamp for one in found}
        self._read = {where: read for where, read in self._read.items() if where in self._seen}
        self.local = {arrival.info.version: arrival for _, arrival in self._read.values() if arrival}
        return fresh

    def _describe(self, found: FoundModel, *, at_start: bool) -> Arrival | None:
        try:
            info = self._folder.describe(self._folder.read(found))
        except ModelRefusedError as error:
            _log.warning("model_refused", where=found.where, reason=error.reason)
            self._on_refused(error)
            return None
        return Arrival(found, info, found.meant, at_start)
