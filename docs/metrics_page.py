"""The page of metrics, docs/metrics.md, from the metrics that the service registers: make docs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from pba_service.observability.access import DENIALS, AccessMetrics
from pba_service.observability.metrics import Metrics
from pba_service.observability.round_trips import RoundTrips
from pba_service.serving.admission import Admission, AdmissionOptions
from pba_service.serving.counted import RpcMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric
    from prometheus_client.registry import Collector

_HEAD = """# Metrics

Made from the metrics that the service registers by `make docs`. They are at `http://HOST:9464/metrics`, one endpoint
also for several worker processes ([architecture](architecture.md#several-processes)), with the usual `process_*` and
`python_*` beside them. No label has more values than *Labels* says: nothing that callers choose is one, except link ids
and the names of experiments, and those are bounded.

| name | kind | labels | what it is |
|---|---|---|---|
"""

BOUNDS = {
    "experiment": "experiments under way; the series of one that ends go away",
    "file": "the kinds of files that are watched: at most 4",
    "grpc_code": "statuses of gRPC: 17",
    "grpc_method": "the methods of the contract, of health and of reflection: those that exist",
    "grpc_service": "the services of the contract, health, reflection",
    "grpc_type": "shapes of calls: 4",
    "grpcio": "1",
    "hit": "true, false",
    "inside": "true, false",
    "forecaster": "served, last",
    "kind": "words of the service's own: conditions of links, kinds of experiments",
    "link": "at most `PBA_METRICS_MAX_LINKS` links, those seen first; the others are counted",
    "method": "the methods of the contract",
    "metric": "the four metrics",
    "name": "the model that serves: 1",
    "onnxruntime": "1",
    "operation": "commands and scripts that the service sends: some 40",
    "outcome": "words of the service's own, a few",
    "phase": "phases of a retraining, a few words",
    "python": "1",
    "quantile": "0.05, 0.5, 0.95",
    "queue": "samples, links, updates",
    "reason": f"words of the service's own: of denials {len(DENIALS)}, of others a dozen at most",
    "source": "sources of predictions: 3",
    "status": "ends of experiments, a few words",
    "use": "counted, left_out",
    "version": "models in memory: the active one, those pinned or tried, the one before; of the service: 1",
    "way": "ways of measuring: 6",
    "what": "limits of callers: a few words",
}
"""How many values a label may have."""


def page() -> str:
    """The whole page. Raises `KeyError` for a label of which no bound is known."""
    families = sorted(_families(), key=lambda one: one[0].name)
    rows = [_row(family, labels) for family, labels in families]
    used = sorted({label for _, labels in families for label in labels})
    bounds = [f"| `{label}` | {BOUNDS[label]} |" for label in used]
    return _HEAD + "\n".join(rows) + "\n\n## Labels\n| label | values |\n|---|---|\n" + "\n".join(bounds) + "\n"


def _row(family: Metric, labels: tuple[str, ...]) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


class _Registry(CollectorRegistry):
    """Remembers what was registered, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.registered.append(collector)


def _families() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    registry = _Registry()
    Metrics(registry, max_links=1)
    AccessMetrics(registry)
    RpcMetrics(registry)
    RoundTrips(registry)
    Admission(AdmissionOptions(), registry)
    for collector in registry.registered:
        for family in collector.collect():
            # without a value of theirs they tell of no labels
            owner = collector if isinstance(collector, MetricWrapperBase) else family
            labels: tuple[str, ...] = tuple(getattr(owner, "_labelnames", ()))
            yield family, tuple(label for label in labels if label != "le")


if __name__ == "__main__":
    sys.stdout.write(page())
