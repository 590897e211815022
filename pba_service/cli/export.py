"""`pba export`: stored history as JSONL."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pba_client import LinkUnknownError
from pba_service.cli import connect
from pba_service.cli.told import CommandError, tell
from pba_service.domain.samples import METRICS, LinkInfo, Series
from pba_service.files import JsonlWriter, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pba_client import Sample

CHUNK_SAMPLES = 10_000


def export_file(
    file: Path, target: str, *, prefix: str, region: str, start: datetime | None, end: datetime | None
) -> None:
    """Writes the history of links; the file appears only when all of it is there.

    Raises:
        CommandError: The file cannot be written.
    """
    links = 0
    try:
        with connect.client(target) as client, replacing(file) as stream:
            writer = JsonlWriter(stream)
            for link in client.links(prefix=prefix, region=region):
                info = LinkInfo(link.link_id, link.node, link.peer, link.region)
                history = client.history(link.link_id, start, end)
                try:
                    while chunk := list(islice(history, CHUNK_SAMPLES)):
                        writer.write(info, series_of(chunk))
                except LinkUnknownError:
                    continue  # its samples expired meanwhile
                links += 1
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
    tell(f"wrote {writer.rows} samples of {links} links to {file}")


def series_of(samples: Sequence[Sample]) -> Series:
    """Samples of one link, oldest first, as a series."""
    return Series(
        np.array([round(one.measured_at.timestamp() * 1000) for one in samples], np.int64),
        np.array([[getattr(one, metric) for metric in METRICS] for one in samples], np.float32),
    )
