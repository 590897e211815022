"""`pba push` and `pba import`: a file of measurements as it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pba_client import Client, Columns, InvalidRequestError, Link, PushResult
from pba_service.cli import connect
from pba_service.cli.told import CommandError, ExitCode, tell
from pba_service.files import read_batches

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.domain.samples import SampleBatch
    from pba_service.files import RowFault

SHOWN_FAULTS = 5
"""Unusable rows told one by one; the others are only counted."""


def columns_of(batch: SampleBatch) -> Columns:
    """A batch as the client sends it."""
    bits = batch.present[:, 0] | batch.present[:, 1] * 2 | batch.present[:, 2] * 4 | batch.present[:, 3] * 8
    values = batch.values.copy()
    values[~batch.present] = 0
    return Columns(
        links=[Link(one.link_id, one.node, one.peer, one.region) for one in batch.links],
        link_index=batch.link_index.tolist(),
        measured_at_ms=batch.measured_at_ms.tolist(),
        bandwidth_mbps=values[:, 0].tolist(),
        latency_ms=values[:, 1].tolist(),
        packet_loss_ratio=values[:, 2].tolist(),
        jitter_ms=values[:, 3].tolist(),
        present=bits.astype("uint8").tobytes(),
    )


class Outcome:
    """What became of many batches: counts, and why samples were refused."""

    def __init__(self) -> None:
        self.total = PushResult()
        self.reasons: Counter[str] = Counter()

    def add(self, result: PushResult) -> None:
        """Counts a batch."""
        self.total = PushResult(
            self.total.stored + result.stored,
            self.total.duplicates + result.duplicates,
            self.total.replaced + result.replaced,
            self.total.refused + result.refused,
        )
        self.reasons.update(f"{refusal.field} {refusal.description}" for refusal in result.refusals)

    def push(self, client: Client, batch: SampleBatch) -> None:
        """Pushes a batch and counts it; a batch that is refused altogether is no reason to stop."""
        try:
            self.add(client.push_columns(columns_of(batch)))
        except InvalidRequestError as error:
            why = error.violations[0].description if error.violations else error.message
            self.add(PushResult(refused=len(batch)))
            self.reasons[why] += len(batch)

    def text(self) -> str:
        """In one line."""
        total = self.total
        line = f"stored {total.stored}, replaced {total.replaced}, already there {total.duplicates}"
        if total.refused:
            why = "; ".join(f"{count} x {reason}" for reason, count in self.reasons.most_common(3))
            line += f", refused {total.refused} ({why})"
        return line


def push_file(file: Path, target: str, *, link_id: str, strict: bool) -> None:
    """Pushes a file.

    Raises:
        MeasurementFileError: The file cannot be read, or with `strict` a row cannot be used.
        CommandError: Some rows were not stored.
    """
    outcome, unusable = Outcome(), 0

    def note(fault: RowFault) -> None:
        nonlocal unusable
        unusable += 1
        if unusable <= SHOWN_FAULTS:
            tell(f"{file}: {fault}")

    with connect.client(target) as client:
        for batch in read_batches(file, link_id=link_id, on_fault=None if strict else note):
            outcome.push(client, batch)
    tell(outcome.text())
    if unusable:
        raise CommandError(f"{unusable} rows of {file} could not be used", ExitCode.FAILED)
    if outcome.total.refused:
        raise CommandError(f"the service refused {outcome.total.refused} samples", ExitCode.FAILED)
