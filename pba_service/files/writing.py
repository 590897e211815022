"""Samples as JSONL, one JSON object per line; what `reading` reads back exactly."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from pba_service.domain.samples import LinkInfo, Series


class JsonlWriter:
    """Writes samples to a text stream."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.rows = 0

    def write(self, info: LinkInfo, series: Series) -> None:
        """Writes the samples of a link, oldest first."""
        head = json.dumps({"link_id": info.link_id}, ensure_ascii=False)[:-1]
        labels = {name: text for name in ("node", "peer", "region") if (text := getattr(info, name))}
        tail = f", {json.dumps(labels, ensure_ascii=False)[1:]}\n" if labels else "}\n"
        # str() of a float32 is the shortest text that reads back as the same float32
        names = [f', "{name}": ' for name in METRICS]
        for time, values, measured in zip(
            _iso(series.times_ms), series.values, np.isfinite(series.values).tolist(), strict=True
        ):
            metrics = "".join(
                f"{name}{value!s}" for name, value, there in zip(names, values, measured, strict=True) if there
            )
            self._stream.write(f'{head}, "measured_at": "{time}"{metrics}{tail}')
        self.rows += len(series)


def _iso(times_ms: NDArray[np.int64]) -> list[str]:
    """Times in ISO 8601, in UTC, with milliseconds only where there are any."""
    texts: list[str] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="ms").tolist()
    return [text.removesuffix(".000") + "Z" for text in texts]


@contextmanager
def replacing(file: Path) -> Iterator[IO[str]]:
    """A text stream to a file that appears, or replaces the one before, only when all is written.

    A name that ends in .gz is gzipped. A pipe or a device is written to as it is; a link stays, and what it leads to is
    replaced.
    """
    if file.exists() and not file.is_file():
        with _opened(file, zipped=False) as stream:
            yield stream
        return
    file = file.resolve()
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with _opened(partial, zipped=file.suffix.lower() == ".gz") as stream:
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
