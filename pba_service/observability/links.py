"""What Prometheus is told of single links, read from a plain table when it asks.

A gauge object per link and metric would cost far more than the link itself, and a label per link grows without end:
so the first links that are seen get labels, up to a bound, and the others are only counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from prometheus_client import Metric

ACCURACY_WEIGHT = 0.02
"""Weight of the newest error in the mean accuracy, so that it speaks of about the last 50; at first all count alike."""

METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")
"""The order of values, as everywhere in the service."""

_CURRENT = (
    ("dwcp_pba_current_bandwidth_mbps", "Newest measured bandwidth of the link in Mbit/s."),
    ("dwcp_pba_current_latency_ms", "Newest measured round-trip time of the link in ms."),
    ("dwcp_pba_current_packet_loss_ratio", "Newest measured loss of the link, 0 to 1."),
    ("dwcp_pba_current_jitter_ms", "Newest measured jitter of the link in ms."),
)

_PREDICTED = (
    ("dwcp_pba_predicted_bandwidth_mbps", "Newest predicted bandwidth of the link in Mbit/s, by quantile."),
    ("dwcp_pba_predicted_latency_ms", "Newest predicted round-trip time of the link in ms, by quantile."),
    ("dwcp_pba_predicted_packet_loss_ratio", "Newest predicted loss of the link, 0 to 1, by quantile."),
    ("dwcp_pba_predicted_jitter_ms", "Newest predicted jitter of the link in ms, by quantile."),
)
_SHOWN_QUANTILES = ((0, "0.05"), (2, "0.5"), (4, "0.95"))
"""Where they stand in a prediction's quantiles, and how the label says it."""


@dataclass(slots=True)
class _Link:
    """The newest of one link; NaN is what is not known, and not exposed."""

    measured_at_ms: int = -1
    current: Sequence[float] = (math.nan,) * len(METRICS)
    confidence: float = math.nan
    quantiles: NDArray[np.float32] | None = None
    sample_count: float = math.nan
    accuracy: list[float] = field(default_factory=lambda: [math.nan] * len(METRICS))
    scored: list[int] = field(default_factory=lambda: [0] * len(METRICS))


class LinkTable(Collector):
    """Newest values by link, at most `max_links` of them.

    Written from the service's thread and read from the one that answers Prometheus: single writes of single values,
    and the reader copies the table in one step.
    """

    def __init__(self, max_links: int) -> None:
        self._max_links = max_links
        self._links: dict[str, _Link] = {}
        self._unlabelled: set[int] = set()

    def current(self, link_id: str, measured_at_ms: int, values: Sequence[float]) -> None:
        """The values of a sample; those of the newest sample stay."""
        link = self._link(link_id)
        if link is not None and measured_at_ms >= link.measured_at_ms:
            link.current = values
            link.measured_at_ms = measured_at_ms

    def predicted(self, link_id: str, confidence: float, quantiles: NDArray[np.float32]) -> None:
        """A link's newest prediction: its confidence, and float32[4, 5] at 0.05, 0.1, 0.5, 0.9 and 0.95."""
        if link := self._link(link_id):
            link.confidence, link.quantiles = confidence, quantiles

    def labelled(self) -> set[str]:
        """The links that have labels."""
        return set(self._links)

    def pushed(
        self,
        link_ids: Sequence[str],
        measured_at_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        added: NDArray[np.int64],
    ) -> None:
        """Of each of n links the newest of the samples that were stored, and how many of them were new.

        What trimming takes is told by the next `sample_count`.

        Args:
            link_ids: The links, each once.
            measured_at_ms: int64[n].
            values: float32[n, 4].
            added: int64[n].
        """
        known = list(map(self._links.get, link_ids))
        if None in known:  # of a large push most links have no labels: nothing else is done for those
            room = self._max_links - len(self._links)
            unseen = [link_id for link_id, link in zip(link_ids, known, strict=True) if link is None]
            for link_id in unseen[:room]:
                self._link(link_id)
            self._unlabelled.update(map(hash, unseen[room:]))
            known = list(map(self._links.get, link_ids))
            labelled = [place for place, link in enumerate(known) if link is not None]
            measured_at_ms, values, added = measured_at_ms[labelled], values[labelled], added[labelled]
        links = [link for link in known if link is not None]
        rows = zip(links, measured_at_ms.tolist(), values.tolist(), added.tolist(), strict=True)
        for link, at_ms, newest, count in rows:
            if at_ms >= link.measured_at_ms:
                link.current = newest
                link.measured_at_ms = at_ms
            if count:
                link.sample_count = count + (0 if math.isnan(link.sample_count) else link.sample_count)

    def sample_count(self, link_id: str, count: int) -> None:
        """How many samples of a link are stored."""
        if link := self._link(link_id):
            link.sample_count = count

    def scored(self, link_ids: Sequence[str], errors: Sequence[Sequence[float]]) -> None:
        """By which share of the larger of predicted and actual value predictions of some links were off; NaN: unknown.

        A link may come several times. What is shown is one minus that.
        """
        for link_id, of_link in zip(link_ids, errors, strict=True):
            if (link := self._link(link_id)) is None:
                continue
            means, counts = link.accuracy, link.scored
            for metric, error in enumerate(of_link):
                if error == error:  # noqa: PLR0124 - NaN is not itself
                    counts[metric] += 1
                    before = means[metric] if counts[metric] > 1 else 0.0
                    means[metric] = before + max(ACCURACY_WEIGHT, 1 / counts[metric]) * (1 - error - before)

    def forget(self, link_id: str) -> None:
        """A link that is no more; its label is free for another."""
        self._links.pop(link_id, None)
        self._unlabelled.discard(hash(link_id))

    def collect(self) -> Iterable[Metric]:
        """The families of all labelled links, and the number of the others."""
        links = list(self._links.copy().items())  # copied in one step, whatever the writer does meanwhile
        for metric, (name, help_text) in enumerate(_CURRENT):
            yield _family(name, help_text, (((i,), link.current[metric]) for i, link in links))
        yield _family(
            "dwcp_pba_confidence", "Confidence of the link's newest prediction, 0 to 1.", _column(links, "confidence")
        )
        for metric, (name, help_text) in enumerate(_PREDICTED):
            yield _family(name, help_text, _predictions(links, metric), labels=("link", "quantile"))
        yield _family(
            "dwcp_pba_sample_count",
            "Samples of the link that are stored, exact as of the last sweep.",
            _column(links, "sample_count"),
        )
        yield _family(
            "dwcp_pba_prediction_accuracy",
            "Mean of 1 - |predicted - actual| / max(predicted, actual) over about the last 50 predictions, 0 to 1.",
            (((i, METRICS[m]), value) for i, link in links for m, value in enumerate(link.accuracy)),
            labels=("link", "metric"),
        )
        yield _family(
            "dwcp_pba_newest_sample_timestamp_seconds",
            "When the link's newest sample was measured, in seconds since the Unix epoch.",
            (((i,), link.measured_at_ms / 1000 if link.measured_at_ms >= 0 else math.nan) for i, link in links),
        )
        yield GaugeMetricFamily(
            "dwcp_pba_links_unlabelled",
            "Links seen that have no series of their own, because the bound on labels is reached.",
            value=len(self._unlabelled),
        )

    def _link(self, link_id: str) -> _Link | None:
        """A link's entry, made when there is room; None when it has to do without."""
        link = self._links.get(link_id)
        if link is None and len(self._links) < self._max_links:
            self._unlabelled.discard(hash(link_id))
            link = self._links[link_id] = _Link()
        if link is None:
            self._unlabelled.add(hash(link_id))  # the hash: a million ids would weigh more than their count is worth
        return link


def _predictions(links: list[tuple[str, _Link]], metric: int) -> Iterator[tuple[tuple[str, ...], float]]:
    for link_id, link in links:
        if link.quantiles is not None:
            for place, label in _SHOWN_QUANTILES:
                yield (link_id, label), float(link.quantiles[metric, place])


def _column(links: list[tuple[str, _Link]], name: str) -> Iterator[tuple[tuple[str, ...], float]]:
    return (((link_id,), getattr(link, name)) for link_id, link in links)


def _family(
    name: str,
    help_text: str,
    rows: Iterable[tuple[tuple[str, ...], float]],
    labels: tuple[str, ...] = ("link",),
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for row, value in rows:
        if not math.isnan(value):
            family.add_metric(row, value)
    return family
