"""What Prometheus is told of how right forecasts were, by the model that took part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import Counter

from pba_service.observability.links import METRICS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class _OfMetric:
    """The counters of one model and metric: finding them by their labels takes longer than counting."""

    served: Counter
    last: Counter
    inside: Counter
    outside: Counter

    def count(self, served: float, last: float, inside: int, compared: int) -> None:
        """Adds sums of errors, and how many of so many values lay inside their intervals."""
        self.served.inc(served)
        self.last.inc(last)
        self.inside.inc(inside)
        self.outside.inc(compared - inside)


class SkillMetrics:
    """Counts errors and intervals; of models that are not in memory any more the series end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics; each registry takes one of these."""
        self._errors = Counter(
            "dwcp_pba_forecast_error_total",
            "Sum of forecasts' errors as shares of the larger of predicted and actual value, of what was served and of "
            "repeating the last value, by the model that took part; their quotient is the skill.",
            ["version", "metric", "forecaster"],
            registry=registry,
        )
        self._intervals = Counter(
            "dwcp_pba_intervals_total",
            "90 % intervals that met their sample, by whether it lay inside, and by the model that took part.",
            ["version", "metric", "inside"],
            registry=registry,
        )
        self._judged: dict[str, list[_OfMetric]] = {}

    def judged(
        self, versions: Sequence[str], served: NDArray[np.float32], last: NDArray[np.float32], inside: NDArray[np.bool_]
    ) -> None:
        """Forecasts met their samples.

        Args:
            versions: n, the model that took part in each.
            served: float32[n, 4], their errors as shares of the larger of the two values; NaN where not compared.
            last: float32[n, 4], those of the last value.
            inside: bool[n, 4], whether the sample lay in the 90 % interval.
        """
        different = set(versions)
        for version in different:
            counters = self._judged.get(version)
            if counters is None:
                counters = self._judged[version] = [self._of_metric(version, metric) for metric in METRICS]
            rows = slice(None) if len(different) == 1 else np.array([one == version for one in versions])
            compared = np.isfinite(served[rows]) & np.isfinite(last[rows])
            sums = [np.where(compared, errors[rows], 0).sum(axis=0).tolist() for errors in (served, last)]
            within, all_of = (inside[rows] & compared).sum(axis=0).tolist(), compared.sum(axis=0).tolist()
            for counter, *counts in zip(counters, *sums, within, all_of, strict=True):
                counter.count(*counts)

    def _of_metric(self, version: str, metric: str) -> _OfMetric:
        errors, intervals = self._errors.labels, self._intervals.labels
        return _OfMetric(
            errors(version, metric, "served"),
            errors(version, metric, "last"),
            intervals(version, metric, "true"),
            intervals(version, metric, "false"),
        )

    def keep(self, versions: Collection[str]) -> None:
        """Ends the series of all other models."""
        for version in self._judged.keys() - set(versions):
            del self._judged[version]
            for metric in METRICS:
                for forecaster in ("served", "last"):
                    self._errors.remove(version, metric, forecaster)
                for inside in ("true", "false"):
                    self._intervals.remove(version, metric, inside)
