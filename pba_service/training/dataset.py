"""From files of measurements to examples: windows, targets, weights and the split by time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.samples import METRICS, Series
from pba_service.domain.targets import realised
from pba_service.domain.window import FEATURES, horizon_ms, windows_at
from pba_service.files import MeasurementFileError, read_links
from pba_service.files.reading import FORMATS, format_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BASE_MS = 60_000
TRAIN, TUNE, TEST = 0, 1, 2
SPLIT = (0.7, 0.8)


class TooFewExamplesError(ValueError):
    """The links have too few consecutive measurements to learn anything from."""


def split_rule(split: tuple[float, float]) -> str:
    """In words, for the manifest."""
    train, tune, test = split[0], split[1] - split[0], 1 - split[1]
    return f"by time within each link: first {train:.0%} train, next {tune:.0%} tune, last {test:.0%} test".replace(
        "%", " %"
    )


SIMULATED_PREFIX = "simulated-"
"""Collections of the simulator begin with this."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One link's measurements and the collection they come from."""

    collection: str
    link_id: str
    series: Series


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Windows with what came after them.

    Attributes:
        windows: float32[n, slots, 6], raw units, oldest slot first, NaN where unknown.
        step_s: float32[n], the grid's step.
        targets: float32[n, horizons, 4], raw units, NaN where nothing was measured.
        made_at_ms: int64[n].
        part: int8[n], `TRAIN`, `TUNE` or `TEST`.
        link: int32[n], position in `links`.
        links: The link of each position, as (collection, link id).
    """

    windows: NDArray[np.float32]
    step_s: NDArray[np.float32]
    targets: NDArray[np.float32]
    made_at_ms: NDArray[np.int64]
    part: NDArray[np.int8]
    link: NDArray[np.int32]
    links: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    @property
    def collection(self) -> NDArray[np.int32]:
        """int32[n], position of each window's collection in `collections`."""
        names = self.collections
        of_link = np.array([names.index(collection) for collection, _ in self.links], np.int32)
        return of_link[self.link]

    @property
    def simulated(self) -> NDArray[np.bool_]:
        """bool[n], whether each window comes from the simulator."""
        return np.array([collection.startswith(SIMULATED_PREFIX) for collection, _ in self.links])[self.link]

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections, sorted by name."""
        return tuple(sorted({collection for collection, _ in self.links}))

    def take(self, chosen: NDArray[Any]) -> Examples:
        """The examples at some positions or where a mask is True."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})


_COLUMNS = ("windows", "step_s", "targets", "made_at_ms", "part", "link")


def read_traces(path: Path) -> list[Trace]:
    """Reads a file of measurements as `pba_service.files` does, or every one in a folder.

    Links whose ids begin alike up to the first slash are a collection, which a column `dataset` brings about; those
    without a slash are one with the others of their file.

    Raises:
        MeasurementFileError: A file cannot be read, or a row of it cannot be used.
    """
    files = sorted(filter(format_of, path.iterdir())) if path.is_dir() else [path]
    if not files:
        raise MeasurementFileError(str(path), f"it holds no file that ends in one of {', '.join(FORMATS)}")
    return [
        Trace(collection if slash else file.name.partition(".")[0], name if slash else collection, link.series)
        for file in files
        for link in read_links(file)
        for collection, slash, name in [link.info.link_id.partition("/")]
    ]


def fingerprint(traces: Sequence[Trace]) -> str:
    """SHA-256 over every measurement, independent of the file format."""
    digest = hashlib.sha256()
    for trace in sorted(traces, key=lambda t: (t.collection, t.link_id)):
        digest.update(f"{trace.collection}\0{trace.link_id}\0".encode())
        digest.update(trace.series.times_ms.astype("<i8").tobytes())
        digest.update(trace.series.values.astype("<f4").tobytes())
    return digest.hexdigest()


def targets_of(series: Series, made_at_ms: NDArray[np.int64], step_ms: NDArray[np.int64], nominal_ms: int) -> Any:
    """What is measured nearest to each window's target time, at most half a step away, and when that was.

    Returns:
        float32[n, 4], NaN where absent, and int64[n, 4], the times (0 where there is no sample).
    """
    values, measured = realised(series, made_at_ms + horizon_ms(step_ms, nominal_ms), step_ms // 2)
    later = measured > made_at_ms[:, None]
    return np.where(later, values, np.float32(np.nan)), np.where(later, measured, 0)


def examples_of(
    traces: Sequence[Trace],
    *,
    slots: int,
    horizons_s: Sequence[int],
    per_link: int = 6_000,
    split: tuple[float, float] = SPLIT,
    base_ms: int = BASE_MS,
) -> Examples:
    """Builds examples of every trace, through the window builder that serves.

    Args:
        traces: The links.
        slots: Window length.
        horizons_s: Nominal horizons.
        per_link: At most this many windows per link and part, evenly spaced.
        split: Shares of each link's samples where the training and the tuning part end.
        base_ms: The configured collection interval of the service that the model is for.

    Returns:
        The examples. A target of the training part is masked where it was measured after that part.

    Raises:
        TooFewExamplesError: There is none.
    """
    columns: list[tuple[Any, ...]] = []
    for position, trace in enumerate(traces):
        series = trace.series
        bounds = [int(len(series) * share) for share in split]
        part = np.searchsorted(bounds, np.arange(len(series)), side="right").astype(np.int8)
        chosen = np.concatenate([_spaced(np.flatnonzero(part == p), per_link) for p in (TRAIN, TUNE, TEST)])
        if len(chosen) == 0:
            continue
        built = windows_at(series, chosen, slots, base_ms)
        targets = np.full((len(chosen), len(horizons_s), len(METRICS)), np.nan, np.float32)
        ends = np.append(series.times_ms, np.iinfo(np.int64).max)
        limit = ends[[*bounds, len(series)]][part[chosen]]
        for h, seconds in enumerate(horizons_s):
            values, measured = targets_of(series, built.made_at_ms, built.step_ms, seconds * 1000)
            targets[:, h] = np.where(measured < limit[:, None], values, np.nan)
        keep = built.usable & np.isfinite(targets).any(axis=(1, 2))
        link = np.full(len(chosen), position, np.int32)
        whole = (built.values, (built.step_ms / 1000).astype(np.float32), targets, built.made_at_ms, part[chosen], link)
        if keep.any():
            columns.append(tuple(column[keep] for column in whole))
    if not columns:
        raise TooFewExamplesError("no link has enough consecutive measurements for a window and a target")
    whole_columns = {name: np.concatenate([part[k] for part in columns]) for k, name in enumerate(_COLUMNS)}
    return Examples(**whole_columns, links=tuple((t.collection, t.link_id) for t in traces))


def _spaced(positions: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return positions[:: max(1, -(-len(positions) // most))]


def joined(first: Examples, second: Examples) -> Examples:
    """Both, one after the other."""
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _COLUMNS}
    columns["link"] = np.concatenate([first.link, second.link + np.int32(len(first.links))])
    return Examples(**columns, links=first.links + second.links)


def empty_windows(n: int, slots: int) -> NDArray[np.float32]:
    """float32[n, slots, 6] of NaN, the shape a model reads."""
    return np.full((n, slots, len(FEATURES)), np.nan, np.float32)
