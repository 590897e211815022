"""Measurements out of what Prometheus scraped of the service.

The service tells the newest sample of each link, again at every scrape, and when it was measured. That time makes them
samples again: what was told twice is one sample, and a silence stays a gap. Of samples between two points in time that
were asked for only the last is seen.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pba_service.domain.samples import METRICS, Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIME = "dwcp_pba_newest_sample_timestamp_seconds"
VALUES = tuple(f"dwcp_pba_current_{metric}" for metric in METRICS)
LINK = "link"

Answer: TypeAlias = "Sequence[Mapping[str, Any]]"
"""A range query's `result`: series with `metric`, their labels, and `values`, pairs of seconds and a number as text."""

_LATEST_S = 2.0**43
_LARGEST = float(np.finfo(np.float32).max)

_Source: TypeAlias = tuple[tuple[str, str], ...]
_Point: TypeAlias = tuple[_Source, float]


def read_answer(data: bytes) -> Answer:
    """The series of a range query's answer, as it came over HTTP. Raises `ValueError` when it is none."""
    try:
        found = json.loads(data)["data"]["result"]
        for series in found:
            if not all(isinstance(text, str) for text in series["metric"].values()):
                raise ValueError("not what a range query answers: a label is no text")
            _numbers(series["values"])
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not what a range query answers ({type(error).__name__})") from error
    return list(found)


def new_samples(times: Answer, values: Sequence[Answer], newest_ms: dict[str, int]) -> dict[str, Series]:
    """The samples of each link that are newer than those known, oldest first.

    Args:
        times: Of `TIME`.
        values: Of each of `VALUES`, at the same points.
        newest_ms: When the newest sample of each link was measured, of those known; brought up to date.
    """
    told = [dict(_points(answer)) for answer in values]
    found: dict[str, dict[int, tuple[float, ...]]] = {}
    for (source, at_s), measured_s in _points(times):
        link = dict(source).get(LINK, "")
        if not link or not 0 <= measured_s < _LATEST_S:
            continue
        measured_ms = round(measured_s * 1000)
        if measured_ms <= newest_ms.get(link, -1):
            continue
        row = tuple(one.get((source, at_s), math.nan) for one in told)
        # what was told first of a sample counts: a scrape may meet the values of the next one under the old time
        if any(map(math.isfinite, row)):
            found.setdefault(link, {}).setdefault(measured_ms, row)
    for link, rows in found.items():
        newest_ms[link] = max(rows)
    return {
        link: Series(np.array(sorted(rows), np.int64), np.array([rows[time] for time in sorted(rows)], np.float32))
        for link, rows in sorted(found.items())
    }


def _points(answer: Answer) -> list[tuple[_Point, float]]:
    """Each value that a float32 holds, under the labels that series of one source have in common and its time."""
    points: list[tuple[_Point, float]] = []
    for series in answer:
        source = tuple(sorted((name, text) for name, text in series["metric"].items() if name != "__name__"))
        points += [((source, at_s), value) for at_s, value in _numbers(series["values"]) if abs(value) <= _LARGEST]
    return points


def _numbers(values: Sequence[Sequence[Any]]) -> list[tuple[float, float]]:
    return [(float(at_s), float(text)) for at_s, text in values]
