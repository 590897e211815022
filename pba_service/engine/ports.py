"""What the engine needs of the world outside. `storage/`, `runtime/` and tests implement these."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from pba_service.domain.samples import Series

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pba_service.domain.amst.feedback import TransferOutcome
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.samples import LinkInfo, SampleBatch


UNKNOWN_CHANGES = -1
CHANGES_MODULUS = 2**32

NOTHING_BESIDES = (-1, 0)
"""A stretch that holds nothing."""


class Outcome(IntEnum):
    """What became of a stored sample."""

    STORED = 0
    DUPLICATE = 1
    REPLACED = 2


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link's small learned state, opaque to the store.

    Attributes:
        version: 0 where none is stored yet; each commit writes the version after the one it read.
        blob: The encoded state, empty where none is stored yet.
    """

    version: int = 0
    blob: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a prediction of a link is made from.

    Attributes:
        link_id: The link.
        recent: Its newest samples: all of them within the `context_ms` asked for before the newest one.
        state: Its learned state.
        newest: Its newest prediction, if there is one.
        besides: Its samples of the stretch asked for besides, all of them older than `recent`.
        changes: How many changes its samples had seen (`PutResult`).
        oldest_ms: When its oldest sample was measured.
    """

    link_id: str
    recent: Series
    state: LinkState
    newest: Prediction | None
    besides: Series = field(default_factory=Series.empty)
    changes: int = UNKNOWN_CHANGES
    oldest_ms: int = 0


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a batch.

    Attributes:
        outcomes: uint8[n], the `Outcome` of each sample.
        changes: int64[links of the batch], how many changes each link's samples had seen before: each sample stored or
            replaced is one, modulo `CHANGES_MODULUS`. Whoever knew the samples as of this number knows them still once
            it has added these. `UNKNOWN_CHANGES`: nobody does, and the link may have changed though all its samples are
            duplicates (they were sent twice, and what the first time did was not heard).
    """

    outcomes: NDArray[np.uint8]
    changes: NDArray[np.int64]


@dataclass(slots=True)  # not frozen: made for every link and minute, and freezing takes longer than making
class Commit:
    """One link's new state, newest prediction and ledger entries, written together.

    Attributes:
        link_id: The link.
        read_version: The version of the state this was computed from.
        blob: The new state.
        prediction: The newest prediction; None leaves the stored one.
        ledger: Entries whose target sample has come; each replaces an entry of the same target.
    """

    link_id: str
    read_version: int
    blob: bytes
    prediction: Prediction | None
    ledger: Sequence[LedgerEntry] = field(default=())


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """What is known of a link."""

    info: LinkInfo
    sample_count: int
    newest_sample: Series
    newest_prediction: Prediction | None


class Store(Protocol):
    """The truth: samples, learned states, newest predictions, the ledger. Shared by all replicas.

    Every method raises `StoreUnavailableError` when the store is away or too slow. Every write is idempotent.
    """

    async def put(self, batch: SampleBatch) -> PutResult:
        """Stores samples (validated before) and what their links say of themselves; returns once they are stored.

        Keeps each link within the configured count and age.
        """
        ...

    async def snapshots(
        self, link_ids: Sequence[str], context_ms: Sequence[int], besides_ms: Sequence[tuple[int, int]] | None = None
    ) -> list[Snapshot | None]:
        """Reads what predictions are made from, in one round trip; None for a link that has no samples.

        Args:
            link_ids: The links.
            context_ms: For each link how long before its newest sample to read.
            besides_ms: For each link from and until how long before its newest sample to read besides; what is within
                its context is not given twice.
        """
        ...

    async def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Writes states, predictions and ledger entries, and announces the predictions to all replicas.

        Returns, for each, False when another writer was faster (the state's version is not `read_version` any more):
        then nothing of that commit has been written.
        """
        ...

    async def newest(self, link_ids: Sequence[str]) -> list[Prediction | None]:
        """The newest prediction of each link."""
        ...

    def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link with start <= time < end, in chunks, oldest first. Raises `LinkUnknownError`."""
        ...

    def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """Ledger entries with start <= target < end, in chunks, oldest first. Raises `LinkUnknownError`."""
        ...

    async def add_outcome(self, outcome: TransferOutcome) -> None:
        """Stores what came of transport parameters; replaces an outcome of the same end. Raises `LinkUnknownError`."""
        ...

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """The newest 64 outcomes of a link within the retention, oldest first. Raises `LinkUnknownError`."""
        ...

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`, ordered by id, at most `limit`."""
        ...

    async def link_infos(self, link_ids: Sequence[str]) -> list[LinkInfo | None]:
        """What is known of each link; None where it is unknown."""
        ...

    async def link_count(self, prefix: str) -> int:
        """How many links have ids that begin so; some of them may have expired a while ago."""
        ...

    def announcements(self) -> AsyncIterator[list[Prediction]]:
        """Predictions committed by any replica, this one included, from the moment of the call; never ends.

        Survives reconnects: after one, predictions that changed meanwhile are delivered as well.
        """
        ...

    def outcomes_heard(self, link_id: str) -> int:
        """A number that is another one once outcomes of the link have been stored, by whichever replica.

        Those of other replicas count as soon as they are heard of, while announcements are followed.
        """
        ...

    @property
    def announced(self) -> bool:
        """Whether somebody follows announcements here and has been given all of them up to a few seconds ago.

        What was announced last of a link is its newest prediction then, without asking.
        """
        ...

    async def check(self) -> None:
        """Returns when the store can be written and read now."""
        ...

    async def close(self) -> None:
        """Frees connections."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a model was trained on.

    Attributes:
        rows: Real measurements, beside those of simulated links.
        links: Real links.
        fingerprint_sha256: Over every measurement; empty without real ones.
        first_ms, last_ms: When the first and the last was measured; 0 where that is not said.
    """

    rows: int
    links: int
    fingerprint_sha256: str
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model says of itself, from its manifest."""

    name: str
    version: str
    checksum_sha256: str
    created_at_ms: int
    features: tuple[str, ...]
    window_slots: int
    horizons_ms: tuple[int, ...]
    quantile_levels: tuple[float, ...]
    parameter_count: int
    scores: tuple[tuple[str, str, float], ...] = ()
    """(metric, forecaster, mean absolute error relative to the last value's)."""
    parent: str = ""
    """The version it was made from: fine-tuned or quantised; empty for one trained from scratch."""
    training: TrainingData | None = None
    """What it was trained on; None where its manifest does not say."""


class Model(Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo:
        """What it says of itself."""
        ...

    def predict(self, windows: NDArray[np.float32], step_ms: NDArray[np.int64]) -> NDArray[np.float32]:
        """Runs the model.

        Args:
            windows: float32[n, window_slots, 6] as `domain.window` builds them.
            step_ms: int64[n], the grid step of each.

        Returns:
            float32[n, horizons, 4, quantile levels] in raw units, NaN for absent metrics.
        """
        ...


class Clock(Protocol):
    """Wall-clock time."""

    def __call__(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...
