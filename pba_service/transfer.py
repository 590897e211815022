"""Samples from a file into the service and back: what `PBA_DATA_PATH` asks for."""

from __future__ import annotations

import asyncio
import filecmp
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

import structlog

from pba_service.access.watched import FileRefusedError
from pba_service.domain.errors import DurabilityUnmetError, LinkUnknownError, PbaError
from pba_service.engine.upkeep import all_links
from pba_service.files import JsonlWriter, MeasurementFileError, RowFault, read_batches, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.engine.api import Service
    from pba_service.engine.ports import Store

KEPT_COPIES = 10
"""Copies of history files that could not be used entirely; for a further one the oldest goes."""

_log = structlog.get_logger(__name__)


async def import_history(service: Service, file: Path) -> None:
    """Pushes the samples of a file, if it is there. What cannot be used is counted and left out.

    The file will be replaced when the history is exported: if any of it could not be used, a copy is kept beside it, as
    are the copies of earlier starts.

    Raises:
        DurabilityUnmetError: Redis is not set as `PBA_DURABILITY` wants it.
        FileRefusedError: The store is away or full, or the file or its copy is out of reach; the text says which.
    """
    try:
        await _take_in(service, file)
    except DurabilityUnmetError:
        raise  # it has reasons to tell
    except (PbaError, OSError) as error:
        raise FileRefusedError(f"PBA_DATA_PATH={file} cannot be taken in: {error}") from error


async def _take_in(service: Service, file: Path) -> None:
    if not await asyncio.to_thread(file.is_file):
        return
    stored = faulty = 0

    def count(fault: RowFault) -> None:
        nonlocal faulty
        faulty += 1
        _log.debug("import_row_refused", file=file.name, fault=str(fault))

    try:
        for batch in read_batches(file, on_fault=count):
            outcome = await service.push(batch)
            stored += outcome.stored + outcome.replaced
            faulty += len(outcome.refusals)
    except MeasurementFileError as error:
        faulty += 1
        _log.error("import_failed", file=file.name, reason=str(error))
    _log.info("history_imported", file=file.name, stored=stored, refused=faulty)
    if faulty:
        kept = await asyncio.to_thread(_keep, file)
        _log.warning("import_incomplete", file=file.name, refused=faulty, kept=kept.name)


def _keep(file: Path) -> Path:
    """Copies a file to a name that ends in .kept, unless that is it already; older copies become .kept.1 and so on."""
    copies = [file.with_name(f"{file.name}.kept" + (f".{age}" if age else "")) for age in range(KEPT_COPIES)]
    newest = copies[0]
    # a start that fails later comes again, with the same file
    if not (newest.is_file() and filecmp.cmp(file, newest)):
        for older, newer in pairwise(reversed(copies)):
            if newer.exists():
                newer.replace(older)
        shutil.copy2(file, newest)
    return newest


async def export_history(store: Store, file: Path, imported: asyncio.Event) -> None:
    """Writes all samples to a file, which appears only when it is complete. A store that is away is logged.

    Where the file was not read to its end before, it stays: it has what the store has not.
    """
    if not imported.is_set():
        _log.warning("history_not_exported", file=file.name, reason="the service stopped before it was read")
        return
    try:
        with replacing(file) as stream:
            writer = JsonlWriter(stream)
            async for link in all_links(store):
                try:
                    async for series in store.history(link.info.link_id, None, None):
                        writer.write(link.info, series)
                except LinkUnknownError:
                    continue  # its samples expired meanwhile
    except (PbaError, OSError) as error:
        _log.error("export_failed", file=file.name, reason=str(error))
    else:
        _log.info("history_exported", file=file.name, samples=writer.rows)
