"""One answer to Prometheus from the metrics of several processes.

Counters and histograms are added up. Of a process that ended the last values known are kept and still added, so that no
sum ever falls. A gauge is the greatest of the processes', a few are sums. Series of single links come from the process
that knows the link's newest sample, and of as many links as one process would show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Labels = tuple[tuple[str, str], ...]
Values = dict[tuple[str, Labels], float]
"""By sample name and labels."""

LINK = "link"
NEWEST = "dwcp_pba_newest_sample_timestamp_seconds"

SUMMED_GAUGES = frozenset(
    {
        "dwcp_pba_redis_round_trips",
        "dwcp_pba_subscribers",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
)
LEAST_GAUGES = frozenset({"process_start_time_seconds"})

_ADDED = ("counter", "histogram", "summary")


def merge(processes: Sequence[Iterable[Metric]], ended: Iterable[Metric], max_links: int) -> list[Metric]:
    """The metrics of all processes as those of one.

    Args:
        processes: What each process tells; the first is the one that goes through all links.
        ended: What `add` made of those that ended.
        max_links: Links that get series of their own.
    """
    told = [list(metrics) for metrics in processes]
    owners = _owners(told, max_links)
    merged: dict[str, tuple[Metric, Values]] = {}
    for place, metrics in enumerate([*told, list(ended)]):
        for metric in metrics:
            first, values = merged.setdefault(metric.name, (metric, {}))
            _take(first, values, metric, place, owners)
    return [_metric(first, values) for first, values in merged.values()]


def add(total: Iterable[Metric], ended: Iterable[Metric]) -> list[Metric]:
    """Counters and histograms of processes that ended, with those of one more."""
    merged: dict[str, tuple[Metric, Values]] = {}
    for metric in [*total, *ended]:
        if metric.type in _ADDED:
            first, values = merged.setdefault(metric.name, (metric, {}))
            _take(first, values, metric, 0, {})
    return [_metric(first, values) for first, values in merged.values()]


def _take(first: Metric, values: Values, metric: Metric, place: int, owners: dict[str, int]) -> None:
    """Adds one process's values of a metric to those taken so far."""
    summed = first.type in _ADDED or first.name in SUMMED_GAUGES
    for sample in metric.samples:
        if LINK in sample.labels and first.type not in _ADDED:
            if owners.get(sample.labels[LINK]) == place:
                values[sample.name, tuple(sample.labels.items())] = sample.value
            continue
        key = sample.name, tuple(sample.labels.items())
        if key not in values:
            values[key] = sample.value
        elif summed:
            values[key] += sample.value
        else:
            values[key] = (min if first.name in LEAST_GAUGES else max)(values[key], sample.value)


def _owners(told: Sequence[list[Metric]], max_links: int) -> dict[str, int]:
    """For each link that is shown the process that knows its newest sample; the later one where two know the same.

    The later one, since the first knows all links from going through them, and the others from the samples themselves.
    Links that the first process shows come first: what it shows is made good every round.
    """
    newest: dict[str, tuple[float, int]] = {}
    for place, metrics in enumerate(told):
        for sample in next((metric.samples for metric in metrics if metric.name == NEWEST), []):
            link = sample.labels[LINK]
            newest[link] = max(newest.get(link, (sample.value, place)), (sample.value, place))
    return {link: place for link, (_, place) in list(newest.items())[:max_links]}


def _metric(like: Metric, values: Values) -> Metric:
    metric = Metric(like.name, like.documentation, like.type)
    for (name, labels), value in values.items():
        metric.add_sample(name, dict(labels), value)
    return metric
