"""What the life of models needs of the world outside. `storage/`, `runtime/` and tests implement these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pba_service.domain.lifecycle import Desired
    from pba_service.engine.ports import Model, ModelInfo


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A model on its way: what a file or the store said it is, nothing of it believed yet.

    Attributes:
        where: For operators: the file, or the store.
        manifest: JSON as `runtime.manifest` reads it.
        onnx: The graph.
    """

    where: str
    manifest: bytes = field(repr=False)
    onnx: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model's files in the model folder, as far as their directory tells.

    Attributes:
        where: The ONNX file or the model's folder; the same for as long as it is not renamed.
        stamp: Changes when a file is written or replaced.
        written_ns: When one of its files was written last, since the Unix epoch.
        bare: Whether it is an ONNX file without a manifest.
        meant: Whether it is the one that `PBA_MODEL_PATH` means.
    """

    where: str
    stamp: str
    written_ns: int
    bare: bool = False
    meant: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says of itself, again and again, for as long as it lives.

    Attributes:
        replica: Its name, unique among the living.
        serving: The version that serves links without a pin; empty when none does.
        loaded: Every version it has loaded.
        refused: Versions it should have and could not load, with the reason.
        revision: Of the desired state that it has converged on.
        started_at_ms: When it started.
    """

    replica: str
    serving: str
    loaded: tuple[str, ...]
    refused: Mapping[str, str]
    revision: int
    started_at_ms: int


class ModelFolder(Protocol):
    """The model folder of this replica. Blocking: called in a thread."""

    def scan(self) -> list[FoundModel]:
        """What lies there now, the one that `PBA_MODEL_PATH` means first; of several it may mean none."""
        ...

    def read(self, found: FoundModel) -> ModelBundle:
        """Reads a model's files. Raises `ModelRefusedError`."""
        ...

    def meant(self) -> ModelBundle:
        """Reads the model that `PBA_MODEL_PATH` means. Raises `ModelRefusedError` with why there is none."""
        ...

    def describe(self, bundle: ModelBundle) -> ModelInfo:
        """What a bundle says of itself, its checksum checked, its graph not. Raises `ModelRefusedError`."""
        ...

    def load(self, bundle: ModelBundle) -> Model:
        """Loads a model, proves it against its golden windows and warms it up. Raises `ModelRefusedError`."""
        ...


class ModelRegistry(Protocol):
    """What all replicas share of models.

    Every method raises `StoreUnavailableError` when the store is away or too slow.
    """

    async def desired(self) -> Desired:
        """What replicas are to converge on; revision 0 where nothing was ever decided."""
        ...

    async def propose(self, desired: Desired, *, read_revision: int) -> bool:
        """Stores a desired state if its revision is still `read_revision`; says whether it was."""
        ...

    async def catalogue(self) -> list[ModelInfo]:
        """What the published models say of themselves, the newest first."""
        ...

    async def publish(self, bundle: ModelBundle, info: ModelInfo) -> None:
        """Gives a model to all replicas. It appears whole, or not at all; publishing it again changes nothing.

        Raises:
            ModelConflictError: Another file is published under this version.
            CapacityExceededError: It is too large to be shared so.
        """
        ...

    async def fetch(self, version: str) -> ModelBundle | None:
        """A published model; None where there is none."""
        ...

    async def forget(self, versions: Sequence[str]) -> None:
        """Takes published models away."""
        ...

    async def report(self, report: ReplicaReport, ttl_s: float) -> None:
        """Says that a replica lives and what it serves, for so long."""
        ...

    async def leave(self, replica: str) -> None:
        """Says that a replica ends."""
        ...

    async def replicas(self) -> list[ReplicaReport]:
        """The living replicas, ordered by name."""
        ...
