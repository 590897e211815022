"""Every Prometheus metric of the service but those of its calls, behind methods that say what happened.

Names that dashboards know (`dwcp_pba_*` as documented) are verbatim; new ones count seconds and bytes. What is told is
described by its shape only: this package stands beside the domain and knows nothing of it.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from itertools import product
from typing import TYPE_CHECKING, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from pba_service.observability.bulk import BulkHistogram
from pba_service.observability.links import METRICS, LinkTable
from pba_service.observability.retraining import RetrainingMetrics
from pba_service.observability.skill import SkillMetrics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from enum import Enum

    import numpy as np
    from numpy.typing import NDArray

_LATENCY_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_EFFECTIVENESS = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 2.0)
_RETRANSMITTED = (0.0, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_LAG_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096, 10_000)

REASONS = ("missing", "not_finite", "out_of_range", "in_the_future", "too_old", "bad_text", "empty")
REFUSALS = ("unreadable", "limits", "manifest", "checksum", "runtime", "signature", "golden")
WAYS = ("unspecified", "transport", "probe", "probe_two_way", "packet_train", "other")
SOURCES = ("model", "combined", "caller_window")
"""Labels that stand at 0 from the beginning, so that the first of each kind shows in a rate."""


class ExperimentEvidence(Protocol):
    """What an experiment has shown."""

    @property
    def periods(self) -> int:
        """Observations."""
        ...

    @property
    def promote_wealth(self) -> float:
        """Against "not better"."""
        ...

    @property
    def reject_wealth(self) -> float:
        """Against "not worse"."""
        ...

    @property
    def advantage(self) -> float:
        """Mean observation."""
        ...


class MadePrediction(Protocol):
    """A prediction."""

    @property
    def link_id(self) -> str:
        """The link."""
        ...

    @property
    def confidence(self) -> float:
        """0 to 1."""
        ...

    @property
    def source(self) -> Enum:
        """What produced it."""
        ...

    @property
    def quantiles(self) -> NDArray[np.float32]:
        """float32[4, 5] at 0.05, 0.1, 0.5, 0.9 and 0.95; NaN where nothing is predicted."""
        ...


def service_registry() -> CollectorRegistry:
    """A registry that already tells of the process, the interpreter and its garbage collector."""
    # a second series for each counter, which nobody asked for
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Metrics:
    """What the service tells Prometheus.

    Args:
        registry: Where the metrics are registered; each registry takes one of these.
        max_links: How many links get series of their own.
    """

    def __init__(self, registry: CollectorRegistry, max_links: int) -> None:
        self._links = LinkTable(max_links)
        registry.register(self._links)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._samples = counter("dwcp_pba_samples_total", "Pushed samples, by what became of them.", "outcome")
        self._values = counter(
            "dwcp_pba_values_total", "Values of pushed samples that say how they were obtained.", "metric", "way"
        )
        self._refused = counter("dwcp_pba_samples_refused_total", "Refused samples, by the reason.", "reason")
        self._ingest_size = histogram("dwcp_pba_ingest_batch_samples", "Samples written to the store at once.", _SIZES)

        self._predictions = counter("dwcp_pba_predictions_total", "Predictions made, by what produced them.", "source")
        self._latency = BulkHistogram(
            "dwcp_pba_prediction_latency_ms", "Time to make a prediction in ms.", _LATENCY_MS, registry
        )
        self._model_version = gauge("dwcp_pba_model_version", "1 for the model that serves.", "name", "version")
        self._models_loaded = gauge("dwcp_pba_models_loaded", "Models in memory.")
        self._models_missing = gauge("dwcp_pba_models_missing", "Desired models that are not loaded here.")
        self._models_revision = gauge("dwcp_pba_models_revision", "The desired state of the models followed here.")
        self._models_proved = counter("dwcp_pba_model_loads_total", "Models loaded and proved.")
        self._models_refused = counter("dwcp_pba_models_refused_total", "Models refused, by what was wrong.", "reason")
        self.retraining = RetrainingMetrics(registry)
        self._pairs = counter(
            "dwcp_pba_experiment_pairs_total", "Links' paired forecasts that met their samples, by use.", "use"
        )
        self._experiments = counter(
            "dwcp_pba_experiments_total", "Experiments that ended and were acted on, by how.", "kind", "status"
        )
        self._experiment_wealth = gauge(
            "dwcp_pba_experiment_wealth", "Evidence so far: 1 over the error rate decides.", "experiment", "outcome"
        )
        self._experiment_advantage = gauge(
            "dwcp_pba_experiment_advantage_ratio", "Mean advantage of the challenger in usual errors.", "experiment"
        )
        self._experiment_periods = gauge(
            "dwcp_pba_experiment_periods", "Periods that have been observed.", "experiment"
        )
        self._conditions = gauge(
            "dwcp_pba_links_condition", "Links with which something is wrong now, by what it is.", "kind"
        )
        self._ledger = counter("dwcp_pba_ledger_entries_total", "Predictions compared with what came.", "hit")

        self.skill = SkillMetrics(registry)
        self._refresh_size = histogram("dwcp_pba_refresh_batch_links", "Links brought up to date at once.", _SIZES)
        self._refresh_lag = BulkHistogram(
            "dwcp_pba_refresh_lag_seconds", "Time from a link's change to its stored prediction.", _LAG_S, registry
        )
        self._conflicts = counter("dwcp_pba_commit_conflicts_total", "Commits that another writer was faster with.")
        self._store_errors = counter("dwcp_pba_store_errors_total", "Times that the store was away or too slow.")

        self._circuit = gauge("dwcp_pba_store_circuit_open", "1 while calls of the store are refused at once.")
        self._stale = counter("dwcp_pba_stale_reads_total", "Predictions given from memory while the store was away.")

        self._effectiveness = histogram(
            "dwcp_pba_amst_effectiveness_ratio", "Achieved over expected goodput, as nodes report.", _EFFECTIVENESS
        )
        self._retransmitted = histogram(
            "dwcp_pba_amst_retransmitted_ratio", "Share of segments retransmitted, as nodes report.", _RETRANSMITTED
        )

        build = gauge(
            "dwcp_pba_build_info", "1; its labels say what runs.", "version", "python", "onnxruntime", "grpcio"
        )
        build.labels(installed("pba"), platform.python_version(), installed("onnxruntime"), installed("grpcio")).set(1)
        self._loop_lag = gauge(
            "dwcp_pba_event_loop_lag_seconds", "How late the event loop was at its latest in the last 15 seconds."
        )

        self._tasks = gauge("dwcp_pba_tasks", "Tasks of the event loop that have not ended.")
        self._queues = gauge(
            "dwcp_pba_queue_length",
            "The longest in 15 seconds: samples to be stored, links to be advanced, updates of one subscriber.",
            "queue",
        )
        self._memory_misses = counter(
            "dwcp_pba_memory_misses_total", "Predictions asked for that were not in memory, and read from the store."
        )
        self._subscribers = gauge("dwcp_pba_subscribers", "Open prediction streams.")
        self._skipped = counter(
            "dwcp_pba_skipped_updates_total", "Updates that newer ones overtook before a subscriber read them."
        )
        # found by their labels once, since that takes longer than counting
        self._samples_of = {
            outcome: self._samples.labels(outcome) for outcome in ("stored", "duplicate", "replaced", "refused")
        }
        for metric, way in product(METRICS, WAYS):
            self._values.labels(metric, way)
        for reason in REFUSALS:
            self._models_refused.labels(reason)
        for reason in REASONS:
            self._refused.labels(reason)
        for source in SOURCES:
            self._predictions.labels(source)
        self._came_true, self._came_false = (self._ledger.labels(hit) for hit in ("true", "false"))

    def samples_pushed(self, *, stored: int, duplicates: int, replaced: int, refused: Iterable[Enum] = ()) -> None:
        """A batch was answered."""
        for outcome, count in (("stored", stored), ("duplicate", duplicates), ("replaced", replaced)):
            if count:
                self._samples_of[outcome].inc(count)
        for reason in refused:
            self._samples_of["refused"].inc()
            self._refused.labels(reason.name.lower()).inc()

    def ingest_batch(self, samples: int) -> None:
        """So many samples were written to the store at once."""
        self._ingest_size.observe(samples)

    def link_current(self, link_id: str, measured_at_ms: int, values: NDArray[np.float32]) -> None:
        """A sample (float32[4], NaN where absent) was stored; it is current if none newer is known."""
        self._links.current(link_id, measured_at_ms, values.tolist())

    def values_obtained(self, counts: NDArray[np.int64]) -> None:
        """Values of samples that said so were obtained in these ways: int64[4, len(WAYS)]."""
        for metric, of_metric in zip(METRICS, counts.tolist(), strict=True):
            for way, count in zip(WAYS, of_metric, strict=True):
                self._values.labels(metric, way).inc(count)

    def links_pushed(
        self,
        link_ids: Sequence[str],
        measured_at_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        added: NDArray[np.int64],
    ) -> None:
        """Samples of n links were stored.

        Args:
            link_ids: The links.
            measured_at_ms: int64[n], of the newest sample of each.
            values: float32[n, 4], that sample; NaN where absent. It is current if none newer is known.
            added: int64[n], how many of each link's samples were new.
        """
        self._links.pushed(link_ids, measured_at_ms, values, added)

    def link_sample_count(self, link_id: str, count: int) -> None:
        """So many samples of a link are stored now."""
        self._links.sample_count(link_id, count)

    def labelled_links(self) -> set[str]:
        """The links that have series of their own."""
        return self._links.labelled()

    def link_forgotten(self, link_id: str) -> None:
        """A link has no samples any more: its series end."""
        self._links.forget(link_id)

    def predictions_made(self, predictions: Sequence[MadePrediction]) -> None:
        """Predictions were made here."""
        sources = [prediction.source for prediction in predictions]
        while sources:  # most often all of one; a look-up of each would take longer than all else
            source = sources[0]
            others = [other for other in sources if other is not source]
            self._predictions.labels(source.name.lower()).inc(len(sources) - len(others))
            sources = others
        for prediction in predictions:
            self._links.predicted(prediction.link_id, prediction.confidence, prediction.quantiles)

    def prediction_latency(self, seconds: float, predictions: int = 1) -> None:
        """Each of some predictions, made together, took so long from the start of its making until it could be used."""
        self._latency.observe(seconds * 1000, predictions)

    def ledger_scored(self, link_ids: Sequence[str], errors: NDArray[np.float32], hits: int) -> None:
        """Targets of predictions came and the entries were stored.

        Args:
            link_ids: k, the link of each; one may come several times.
            errors: float32[k, 4], shares of the larger of the predicted and the actual value; NaN where not compared.
            hits: How many came true.
        """
        self._came_true.inc(hits)
        self._came_false.inc(len(link_ids) - hits)
        self._links.scored(link_ids, errors.tolist())

    def conditions(self, links: Mapping[str, int]) -> None:
        """So many links are in each condition."""
        for kind, count in links.items():
            self._conditions.labels(kind).set(count)

    def pairs_settled(self, counted: int, left_out: int) -> None:
        """Links whose pairs of forecasts, tried against each other, met their samples."""
        self._pairs.labels("counted").inc(counted)
        self._pairs.labels("left_out").inc(left_out)

    def experiment(self, name: str, evidence: ExperimentEvidence) -> None:
        """What an experiment has shown so far."""
        self._experiment_wealth.labels(name, "promote").set(evidence.promote_wealth)
        self._experiment_wealth.labels(name, "reject").set(evidence.reject_wealth)
        self._experiment_advantage.labels(name).set(evidence.advantage)
        self._experiment_periods.labels(name).set(evidence.periods)

    def experiment_forgotten(self, name: str) -> None:
        """An experiment is over: its series end."""
        for outcome in ("promote", "reject"):
            with contextlib.suppress(KeyError):
                self._experiment_wealth.remove(name, outcome)
        for family in (self._experiment_advantage, self._experiment_periods):
            with contextlib.suppress(KeyError):
                family.remove(name)

    def experiment_ended(self, kind: str, status: str) -> None:
        """An experiment of a kind ended so, and that was acted on here."""
        self._experiments.labels(kind, status).inc()

    def model_serving(self, name: str, version: str) -> None:
        """A model serves from now on, instead of the one before."""
        self._model_version.clear()
        self._model_version.labels(name, version).set(1)

    def models_loaded(self, versions: Collection[str]) -> None:
        """These models are in memory."""
        self._models_loaded.set(len(versions))
        self.skill.keep(versions)

    def models_converged(self, *, revision: int, missing: int) -> None:
        """A desired state is followed, but for so many of its models."""
        self._models_revision.set(revision)
        self._models_missing.set(missing)

    def model_proved(self) -> None:
        """A model was loaded and gave the answers that its manifest promises."""
        self._models_proved.inc()

    def model_refused(self, reason: str) -> None:
        """A model was refused; the reason is one of a few words."""
        self._models_refused.labels(reason).inc()

    def refreshed(self, links: int) -> None:
        """So many links were brought up to date at once."""
        self._refresh_size.observe(links)

    def refresh_lag(self, seconds: float, links: int = 1) -> None:
        """Each of some links' changes was taken into account so long after it was known."""
        self._refresh_lag.observe(seconds, links)

    def outcome_reported(self, effectiveness: float | None, retransmitted_ratio: float) -> None:
        """A node told what came of its transport parameters; effectiveness None: nothing was expected of them."""
        if effectiveness is not None:
            self._effectiveness.observe(effectiveness)
        self._retransmitted.observe(retransmitted_ratio)

    def commit_conflicts(self, count: int = 1) -> None:
        """Another writer was faster."""
        self._conflicts.inc(count)

    def store_failed(self) -> None:
        """The store was away or too slow."""
        self._store_errors.inc()

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop was, at its latest in the recent past."""
        self._loop_lag.set(seconds)

    def tasks(self, count: int) -> None:
        """So many tasks have not ended."""
        self._tasks.set(count)

    def queue(self, name: str, length: int) -> None:
        """So long was a queue at its longest in the recent past."""
        self._queues.labels(name).set(length)

    def memory_missed(self, predictions: int) -> None:
        """So many predictions had to be read from the store."""
        self._memory_misses.inc(predictions)

    def store_circuit(self, is_open: bool) -> None:  # noqa: FBT001 - it is what is told
        """The store is asked no more, or is asked again."""
        self._circuit.set(is_open)

    def stale_reads(self, count: int) -> None:
        """So many predictions were given from memory."""
        self._stale.inc(count)

    def subscribers(self, count: int) -> None:
        """So many prediction streams are open."""
        self._subscribers.set(count)

    def updates_skipped(self, count: int) -> None:
        """A subscriber was too slow for so many updates."""
        self._skipped.inc(count)


def installed(package: str) -> str:
    """A package's version; empty in a checkout that is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
