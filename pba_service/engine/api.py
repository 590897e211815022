"""What a transport may ask of the service. `serving/` speaks to this and to nothing else of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pba_service.domain.errors import PbaError
    from pba_service.domain.experiments import Evidence, Record, Rule
    from pba_service.domain.forecast import LedgerEntry, Prediction
    from pba_service.domain.lifecycle import Desired, Pin, Scope
    from pba_service.domain.parameters import ParametersAnswer, ParametersAsk
    from pba_service.domain.retraining import Record as Retrainings
    from pba_service.domain.samples import Refusal, SampleBatch, Series
    from pba_service.engine.insight import Insight
    from pba_service.engine.model_ports import ReplicaReport
    from pba_service.engine.ports import LinkSummary, ModelInfo
    from pba_service.engine.stock import Known
    from pba_service.engine.subscriptions import Subscriptions
    from pba_service.engine.transfers import Transfers


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """What became of a batch: the three counts and the refusals add up to its samples."""

    stored: int
    replaced: int
    duplicates: int
    refusals: Sequence[Refusal] = ()


class Service(Protocol):
    """The service behind the transport. Every failure that a caller may be told about is a `PbaError`.

    Callers may be cancelled while they wait; nothing they share with others suffers from that.
    """

    async def push(self, batch: SampleBatch) -> PushOutcome:
        """Validates and stores samples; returns once the good ones are stored.

        Pushes take effect in the order in which they are called, also when several are under way: a correction that
        is called after the value it corrects is stored after it.

        Raises:
            StoreUnavailableError: Nothing is known of the batch; pushing it again is safe.
        """
        ...

    async def predict(self, link_id: str) -> Prediction:
        """The prediction of a link, now.

        Raises:
            LinkUnknownError: No sample of it was ever stored.
            HistoryTooShortError: Too few recent samples.
        """
        ...

    def current(self, link_id: str) -> Prediction | None:
        """What `predict` would answer, if that is known without waiting: the same object until it changes."""
        ...

    def outcomes_heard(self, link_id: str) -> int:
        """A number that is another one once outcomes of the link's parameters were reported, to whichever replica."""
        ...

    async def predict_window(self, link_id: str, series: Series) -> Prediction:
        """Predicts from the caller's own samples alone; nothing is stored.

        Raises:
            HistoryTooShortError: Too few samples.
        """
        ...

    async def batch_predict(self, link_ids: Sequence[str]) -> list[Prediction | PbaError]:
        """For each link, in order, its prediction or what `predict` would have raised."""
        ...

    async def parameters(self, ask: ParametersAsk) -> ParametersAnswer:
        """Transport parameters for a link; always answers."""
        ...

    async def links(self, *, prefix: str, region: str, after: str, limit: int) -> list[LinkSummary]:
        """Links whose id is greater than `after`, ordered by id, at most `limit`; empty filters admit any link."""
        ...

    def history(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[Series]:
        """The samples of a link with start <= time < end, in chunks, oldest first. Raises `LinkUnknownError`."""
        ...

    def ledger(self, link_id: str, start_ms: int | None, end_ms: int | None) -> AsyncIterator[list[LedgerEntry]]:
        """Ledger entries with start <= target < end, in chunks, oldest first. Raises `LinkUnknownError`."""
        ...

    def models(self) -> list[ModelInfo]:
        """The loaded models, the serving one first."""
        ...

    @property
    def insight(self) -> Insight:
        """What is behind predictions."""
        ...

    @property
    def transfers(self) -> Transfers:
        """Estimates of transfers, and what came of those that were made."""
        ...

    @property
    def subscriptions(self) -> Subscriptions:
        """The live predictions."""
        ...


class Models(Protocol):
    """The life of the models behind the transport. What changes is changed for all replicas.

    Every method that waits raises `StoreUnavailableError` while the store is away: nothing is changed then.
    """

    @property
    def desired(self) -> Desired:
        """What replicas are to converge on, as last read."""
        ...

    def report(self) -> ReplicaReport:
        """What this replica serves."""
        ...

    async def replicas(self) -> list[ReplicaReport]:
        """The living replicas, ordered by name."""
        ...

    async def known(self) -> list[Known]:
        """Every model that is loaded, lies in the folder or is published; the newest first."""
        ...

    async def activate(self, version: str) -> Desired:
        """Serves links without a pin with a version.

        Raises:
            ModelUnknownError: There is no such version.
            ModelConflictError: It cannot be loaded, or the active version is held.
        """
        ...

    async def rollback(self, from_version: str = "") -> Desired:
        """Goes back to the version that was active before, if `from_version`, unless empty, is active.

        Raises:
            ModelConflictError: It is not, there was none before, or the active version is held.
        """
        ...

    async def pin(self, pin: Pin) -> Desired:
        """Serves some links with versions of their own. Raises what `activate` raises."""
        ...

    async def unpin(self, scope: Scope, value: str) -> Desired:
        """Takes a pin away. Raises `ModelUnknownError` where there is none."""
        ...

    async def hold(self, version: str = "") -> Desired:
        """Keeps the active version until `release`; with a version, activates that first."""
        ...

    async def release(self) -> Desired:
        """Lets the active version be replaced again."""
        ...


class ModelTrials(Protocol):
    """Experiments on the models behind the transport.

    Every method that waits raises `StoreUnavailableError` while the store is away.
    """

    @property
    def rule(self) -> Rule:
        """When an experiment ends."""
        ...

    async def known(self) -> list[tuple[Record, Evidence]]:
        """The experiments that run or have ended lately, the latest first, and what they have shown."""
        ...

    async def get(self, name: str) -> tuple[Record, Evidence]:
        """An experiment and what it has shown. Raises `ModelUnknownError`."""
        ...

    async def start(self, challenger: str, *, champion: str = "", share: float = 0.0) -> Record:
        """Tries a version beside the active one, or another that serves.

        Raises:
            ModelUnknownError: There is no such version.
            ModelConflictError: It cannot be loaded, or is tried already.
        """
        ...

    async def stop(self, name: str, *, promote: bool = False) -> Record:
        """Ends an experiment; with `promote` the challenger serves from now on.

        Raises:
            ModelUnknownError: There is none of this name.
            ModelConflictError: It has ended.
        """
        ...


class ModelRetraining(Protocol):
    """Retraining of the models behind the transport.

    Every method that waits raises `StoreUnavailableError` while the store is away.
    """

    @property
    def absent(self) -> str:
        """Why this replica cannot retrain; empty where it can."""
        ...

    async def status(self) -> Retrainings:
        """What is known of retraining."""
        ...

    def due_at_ms(self, record: Retrainings) -> int:
        """When the next run is due by the interval; 0 if none is."""
        ...

    async def ask(self, *, from_scratch: bool = False) -> Retrainings:
        """Asks for a run as soon as may be.

        Raises:
            ModelConflictError: One is going on, or this replica cannot train.
        """
        ...
