"""What the service knows and has learned: links, the accuracy ledger, explanations, models, its own health."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from pba_client.types import Prediction, Quantiles, Sample


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The four metrics; None where there is no value."""

    bandwidth_mbps: float | None = None
    latency_ms: float | None = None
    packet_loss_ratio: float | None = None
    jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One prediction beside what came true.

    Attributes:
        made_at: When it was made.
        target: The time that it was made for.
        measured_at: When the sample it is compared with was measured.
        predicted: What was predicted.
        actual: What was measured.
        absolute_error: The difference.
        confidence: The confidence it was given.
        hit: Whether bandwidth and latency came within 20 % of the predicted ones.
        model_version: The model that took part.
    """

    made_at: datetime
    target: datetime
    measured_at: datetime
    predicted: MetricValues
    actual: MetricValues
    absolute_error: MetricValues
    confidence: float
    hit: bool
    model_version: str


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """What is known of a link."""

    link_id: str
    node: str
    peer: str
    region: str
    sample_count: int
    newest_sample: Sample | None
    newest_prediction: Prediction | None


@dataclass(frozen=True, slots=True)
class ModelScore:
    """A test score: a forecaster's mean absolute error on a metric, divided by that of repeating the last value."""

    metric: str
    forecaster: str
    mae_ratio: float


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a model was trained on, beside simulated links; times are None where they are not known."""

    rows: int
    links: int
    fingerprint_sha256: str
    first_measured_at: datetime | None
    last_measured_at: datetime | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model, as its manifest describes it, and where it is.

    Attributes:
        serving: Whether it serves links without a pin, on the replica that answered.
        loaded: Whether that replica has loaded it.
        published: Whether replicas can get it through the store.
        location: Where it lies in that replica's model folder; empty where it does not.
        parent_version: The version it was made from; empty for one trained from scratch.
        training: What it was trained on; None where its manifest does not say.
        refusal: Why that replica did not load it when it tried; empty where it did not.
    """

    name: str
    version: str
    serving: bool
    checksum_sha256: str
    created_at: datetime
    features: tuple[str, ...]
    window_slots: int
    horizons: tuple[timedelta, ...]
    quantile_levels: tuple[float, ...]
    parameter_count: int
    scores: tuple[ModelScore, ...]
    loaded: bool = True
    published: bool = False
    location: str = ""
    parent_version: str = ""
    training: TrainingData | None = None
    refusal: str = ""


class PinScope(Enum):
    """What a pin goes by; of the pins that fit a link the first in this order decides."""

    LINK = 1
    PREFIX = 2
    NODE = 3
    PEER = 4
    REGION = 5


@dataclass(frozen=True, slots=True)
class ModelPin:
    """Some links are served by the first of these versions that a replica has loaded."""

    scope: PinScope
    value: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is desired of the models, on all replicas.

    Attributes:
        revision: Counts changes.
        active_version: Serves links without a pin.
        previous_versions: Those that were active before, the latest first.
        held: Whether the active version is held against whatever arrives.
        pins: Which links are served by versions of their own.
    """

    revision: int
    active_version: str
    previous_versions: tuple[str, ...]
    held: bool
    pins: tuple[ModelPin, ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica says of itself.

    Attributes:
        name: Its name.
        serving_version: With which it serves links without a pin.
        loaded_versions: Every version it has loaded.
        refused: By version why it could not load what it should have.
        revision: Of the state that it follows.
        started_at: When it started.
        answering: Whether it is the one that answered.
    """

    name: str
    serving_version: str
    loaded_versions: tuple[str, ...]
    refused: dict[str, str]
    revision: int
    started_at: datetime
    answering: bool


class Health(Enum):
    """What the service says of its own health."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class ForecasterWeight:
    """What a forecaster, such as model, last_value or median_10, counts for: 0 to 1."""

    forecaster: str
    weight: float


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """What was learned of one metric of a link.

    Attributes:
        metric: Its name, as in a sample.
        settled: Predictions compared with what came true so far.
        mean_absolute_error: The recent one, in the metric's unit; None before the first comparison.
        weights: What each forecaster counts for; they add up to 1.
    """

    metric: str
    settled: int
    mean_absolute_error: float | None
    weights: tuple[ForecasterWeight, ...]


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """All about a link.

    Attributes:
        summary: What is known of it.
        metrics: What was learned of each metric.
        hit_ratio: Share of the recent predictions whose bandwidth and latency came true within 20 %.
        pending: Predictions whose target has not come yet.
    """

    summary: LinkSummary
    metrics: tuple[MetricRecord, ...]
    hit_ratio: float
    pending: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """How much one input moved a forecast.

    Attributes:
        input: The metric, as in a sample, or clock.
        lag: Slots before the newest one; the last of an input stands for all older slots too.
        value: In the unit of the forecast.
    """

    input: str
    lag: int
    value: float


@dataclass(frozen=True, slots=True)
class ForecasterContribution:
    """What a forecaster contributed to the served value: its weight, 0 to 1, and its forecast."""

    forecaster: str
    weight: float
    forecast: float


@dataclass(frozen=True, slots=True)
class MetricExplanation:
    """What the forecast of one metric rests on; the attributions add up to `model_forecast - baseline_forecast`.

    Attributes:
        metric: The metric, as in a sample.
        model_forecast: The model's own forecast.
        baseline_forecast: What the model forecasts when nothing moves.
        attributions: How much each input moved it.
        contributions: What each forecaster contributed to the served value.
    """

    metric: str
    model_forecast: float
    baseline_forecast: float
    attributions: tuple[Attribution, ...]
    contributions: tuple[ForecasterContribution, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a prediction rests on, metric by metric."""

    prediction: Prediction
    metrics: tuple[MetricExplanation, ...]


@dataclass(frozen=True, slots=True)
class HorizonForecast:
    """The model's own forecast at one of its horizons: quantiles of each metric, not calibrated on the link."""

    horizon: timedelta
    bandwidth_quantiles: Quantiles
    latency_quantiles: Quantiles
    packet_loss_quantiles: Quantiles
    jitter_quantiles: Quantiles


@dataclass(frozen=True, slots=True)
class PredictionPath:
    """A prediction, and the model's forecasts at all of its horizons, nearest first."""

    prediction: Prediction
    horizons: tuple[HorizonForecast, ...]
