"""What goes to the service and comes back: frozen values, times as aware datetimes, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_client.errors import PbaClientError


def _now() -> datetime:
    return datetime.now(UTC)


class ValueSource(Enum):
    """How a value was obtained; `pba.v1.ValueSource` says more."""

    UNSPECIFIED = 0
    TRANSPORT = 1
    PROBE = 2
    PROBE_TWO_WAY = 3
    PACKET_TRAIN = 4
    OTHER = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one link. A metric that was not measured is None, never 0.

    Attributes:
        link_id: The link.
        measured_at: When it was measured, with its time zone; now unless given.
        bandwidth_mbps: Available bandwidth in Mbit/s.
        latency_ms: Round-trip time.
        packet_loss_ratio: Share of the packets lost, 0 to 1.
        jitter_ms: Interarrival jitter.
        node: The node that measured.
        peer: The node at the other end.
        region: The region that the link belongs to.
        sources: How bandwidth, latency, loss and jitter were obtained; empty: not said.

    Raises:
        ValueError: `measured_at` has no time zone.
    """

    link_id: str
    measured_at: datetime = field(default_factory=_now)
    bandwidth_mbps: float | None = None
    latency_ms: float | None = None
    packet_loss_ratio: float | None = None
    jitter_ms: float | None = None
    node: str = ""
    peer: str = ""
    region: str = ""
    sources: tuple[ValueSource, ValueSource, ValueSource, ValueSource] | tuple[()] = ()

    def __post_init__(self) -> None:
        if self.measured_at.utcoffset() is None:
            raise ValueError("measured_at needs a time zone, such as datetime.now(UTC)")


@dataclass(frozen=True, slots=True)
class Link:
    """A link named once for the samples of a column batch."""

    link_id: str
    node: str = ""
    peer: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Measurements of any number of links as columns: sample i is made of the i-th entry of each.

    Lists, arrays and numpy arrays all serve. A metric's column is either empty (not measured) or as long as
    `measured_at_ms`.

    Attributes:
        links: The links, each once.
        link_index: For each sample the position of its link in `links`.
        measured_at_ms: For each sample milliseconds since the Unix epoch, UTC.
        bandwidth_mbps: Available bandwidth in Mbit/s.
        latency_ms: Round-trip times.
        packet_loss_ratio: Shares of the packets lost, 0 to 1.
        jitter_ms: Interarrival jitters.
        present: For each sample a byte that says which of its values were measured: bit 0 bandwidth, 1 latency, 2 loss,
            3 jitter. Empty: every value of every column that is not empty.
        sources: For each sample four bytes, the numbers of `ValueSource` for bandwidth, latency, loss and jitter.
            Empty: not said.
    """

    links: Sequence[Link]
    link_index: Sequence[int]
    measured_at_ms: Sequence[int]
    bandwidth_mbps: Sequence[float] = ()
    latency_ms: Sequence[float] = ()
    packet_loss_ratio: Sequence[float] = ()
    jitter_ms: Sequence[float] = ()
    present: bytes = b""
    sources: bytes = b""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.measured_at_ms)


class RefusalReason(Enum):
    """Why a sample was refused. `UNSPECIFIED` also stands for reasons that this client does not know yet."""

    UNSPECIFIED = 0
    MISSING = 1
    NOT_FINITE = 2
    OUT_OF_RANGE = 3
    IN_THE_FUTURE = 4
    TOO_OLD = 5
    BAD_TEXT = 6
    EMPTY = 7


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused sample: its position in what was pushed, from 0, the field at fault, and why."""

    index: int
    field: str
    reason: RefusalReason
    description: str


@dataclass(frozen=True, slots=True)
class PushResult:
    """What became of pushed samples.

    Attributes:
        stored: Samples that were new.
        duplicates: Samples that were there already with the same values.
        replaced: Samples that corrected others of the same link and time.
        refused: Samples that were not stored.
        refusals: Each refused sample.
    """

    stored: int = 0
    duplicates: int = 0
    replaced: int = 0
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()

    def followed_by(self, other: PushResult, offset: int) -> PushResult:
        """Both together, `other` being of samples that begin `offset` after those of this one."""
        moved = tuple(Refusal(r.index + offset, r.field, r.reason, r.description) for r in other.refusals)
        return PushResult(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.replaced + other.replaced,
            self.refused + other.refused,
            self.refusals + moved,
        )


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a metric's predictive distribution, in the metric's unit; None where the model gives none."""

    p05: float | None = None
    p10: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None


class PredictionSource(Enum):
    """What produced a prediction."""

    UNSPECIFIED = 0
    MODEL = 1
    COMBINED = 2
    CALLER_WINDOW = 3


class LinkConditionKind(Enum):
    """What can be wrong with a link; `pba.v1.LinkConditionKind` says when each is told."""

    UNSPECIFIED = 0
    LEVEL_SHIFT = 1
    SENSOR_STUCK = 2
    SENSOR_JUMP = 3
    OUTAGE = 4
    SILENT = 5


@dataclass(frozen=True, slots=True)
class LinkCondition:
    """What is wrong with a link.

    Attributes:
        kind: What.
        since: When it began, as far as can be told.
        strength: Of a shift its size over the largest usual one; of what lasts its samples; of a jump the factor.
        metrics: Names of the metrics that show it.
    """

    kind: LinkConditionKind
    since: datetime
    strength: float
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a link is expected to be at `valid_until`.

    Attributes:
        link_id: The link.
        made_at: The newest measurement that it knows.
        horizon: How far ahead it looks.
        valid_until: `made_at + horizon`, the time that it speaks of.
        bandwidth_mbps: Expected bandwidth; None, as for the other metrics, when the link does not measure it.
        latency_ms: Expected round-trip time.
        packet_loss_ratio: Expected loss, 0 to 1.
        jitter_ms: Expected jitter.
        bandwidth_quantiles: In Mbit/s.
        latency_quantiles: In ms.
        packet_loss_quantiles: 0 to 1.
        jitter_quantiles: In ms.
        confidence: Probability that bandwidth and latency come within 20 % of the predicted ones.
        model_version: The model that took part.
        source: What produced it.
        cadence: The link's usual time between samples.
        condition: What is wrong with the link, if anything.
        stale_since: When the service's store last answered, if it is away: newer samples may not be in this.
    """

    link_id: str
    made_at: datetime
    horizon: timedelta
    valid_until: datetime
    bandwidth_mbps: float | None
    latency_ms: float | None
    packet_loss_ratio: float | None
    jitter_ms: float | None
    bandwidth_quantiles: Quantiles
    latency_quantiles: Quantiles
    packet_loss_quantiles: Quantiles
    jitter_quantiles: Quantiles
    confidence: float
    model_version: str
    source: PredictionSource
    cadence: timedelta
    stale_since: datetime | None = None
    condition: LinkCondition | None = None


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """One link of a batch: its prediction, or the error that `predict` would have raised."""

    link_id: str
    prediction: Prediction | None
    error: PbaClientError | None

    def unwrap(self) -> Prediction:
        """The prediction; raises the error when there is none."""
        if self.prediction is None:
            raise self.error or LookupError(f"the service said nothing about link {self.link_id!r}")
        return self.prediction


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a subscription was cut off; the snapshot after it holds the newest value of each link.

    Attributes:
        since: When the connection was lost.
        until: When it was back.
        attempts: How often it was tried.
        cause: What cut it off; None when the service ended the stream in good order.
    """

    since: datetime
    until: datetime
    attempts: int
    cause: PbaClientError | None


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """New predictions of a subscription.

    Attributes:
        predictions: The newest ones of links that changed since the update before.
        skipped_updates: Updates that newer ones overtook before they could be sent, since the subscription began.
        snapshot_complete: Whether the newest prediction of each chosen link has come by now.
        gap: Set on the first update after the subscription was cut off.
    """

    predictions: tuple[Prediction, ...]
    skipped_updates: int
    snapshot_complete: bool
    gap: Gap | None
