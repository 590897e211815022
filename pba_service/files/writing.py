"""Samples as JSONL, one JSON object per line; what `reading` reads back exactly."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from pba_service.domain.samples import LinkInfo, Series


class JsonlWriter:
    """Writes samples to a text stream."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.rows = 0

    def write(self, info: LinkInfo, series: Series) -> None:
        """Writes the samples of a link, oldest first."""
        labels = {name: text for name in ("node", "peer", "region") if (text := getattr(info, name))}
        for time_ms, values in zip(series.times_ms.tolist(), series.values, strict=True):
            # str() of a float32 is the shortest text that reads back as the same float32
            metrics = {name: float(str(v)) for name, v in zip(METRICS, values, strict=True) if v == v}  # noqa: PLR0124 - NaN
            record = {"link_id": info.link_id, "measured_at": iso(time_ms), **metrics, **labels}
            self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.rows += len(series)


def iso(time_ms: int) -> str:
    """A time in ISO 8601, in UTC, with milliseconds only where there are any."""
    time = datetime.fromtimestamp(time_ms // 1000, UTC).replace(microsecond=time_ms % 1000 * 1000)
    text = time.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds")
    return text.removesuffix("+00:00") + "Z"


@contextmanager
def replacing(file: Path) -> Iterator[IO[str]]:
    """A text stream to a file that appears, or replaces the one before, only when all is written.

    A name that ends in .gz is gzipped.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with _opened(partial, zipped=file.suffix == ".gz") as stream:
            yield stream
        _to_disk(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _opened(file: Path, *, zipped: bool) -> IO[str]:
    return gzip.open(file, "wt", encoding="utf-8") if zipped else file.open("w", encoding="utf-8", newline="\n")


def _to_disk(file: Path) -> None:
    """Makes sure that the content is on the disk before the name is."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
