"""Samples from a file into the service and back: what `PBA_DATA_PATH` asks for."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import structlog

from pba_service.domain.errors import LinkUnknownError, PbaError
from pba_service.engine.upkeep import all_links
from pba_service.files import JsonlWriter, MeasurementFileError, RowFault, read_batches, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.engine.api import Service
    from pba_service.engine.ports import Store

_log = structlog.get_logger(__name__)


async def import_history(service: Service, file: Path) -> None:
    """Pushes the samples of a file, if it is there. What cannot be used is counted and left out.

    The file will be replaced when the history is exported: if any of it could not be used, a copy is kept beside it.

    Raises:
        StoreUnavailableError: The store is away.
    """
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
        kept = file.with_name(f"{file.name}.kept")
        await asyncio.to_thread(shutil.copy2, file, kept)
        _log.warning("import_incomplete", file=file.name, refused=faulty, kept=kept.name)


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
