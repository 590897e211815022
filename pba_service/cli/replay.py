"""`pba replay`: measurements of long ago as if they happened now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.cli import connect
from pba_service.cli.links import now_ms
from pba_service.cli.progress import Progress
from pba_service.cli.push import Outcome, columns_of
from pba_service.cli.told import CommandError, ExitCode, tell
from pba_service.domain.samples import LinkInfo, SampleBatch
from pba_service.files import read_links

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path

    from numpy.typing import NDArray

    from pba_client import Client
    from pba_service.files import LinkMeasurements

CHUNK_SAMPLES = 10_000
TICK_S = 0.1
SHOWN_FAULTS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is sent when: n samples in the order of sending.

    Attributes:
        links: The links.
        link_index: int32[n].
        times_ms: int64[n], shifted.
        values: float32[n, 4].
        send_s: float64[n], seconds after the start; 0 for the part that is dated back.
    """

    links: tuple[LinkInfo, ...]
    link_index: NDArray[np.int32]
    times_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    send_s: NDArray[np.float64]

    @property
    def backdated(self) -> int:
        """Samples that are sent at once."""
        return int(np.searchsorted(self.send_s, 0.0, side="right"))

    def since(self, time_ms: int) -> Plan:
        """The samples from a time on."""
        kept = self.times_ms >= time_ms
        return Plan(self.links, self.link_index[kept], self.times_ms[kept], self.values[kept], self.send_s[kept])

    def batches(self, first: int, end: int) -> Iterator[SampleBatch]:
        """The samples [first, end) as batches that one push can carry."""
        for start in range(first, end, CHUNK_SAMPLES):
            part = slice(start, min(start + CHUNK_SAMPLES, end))
            values = self.values[part]
            used, index = np.unique(self.link_index[part], return_inverse=True)
            links = tuple(self.links[position] for position in used.tolist())
            yield SampleBatch(links, index.astype(np.int32), self.times_ms[part], values, np.isfinite(values))


def plan(
    measured: Sequence[LinkMeasurements], *, start_ms: int, speed: float, past_ms: int, prefix: str, together: bool
) -> Plan:
    """Decides what is sent when, and by how much times are shifted.

    A sample `l` ms into the live part is sent `l / speed` ms after the start. All samples of a link are shifted alike,
    such that none is ever in the future and the last one, at speed 1 or more, is sent at its own time.

    Args:
        measured: The links, none without samples.
        start_ms: The time now.
        speed: How many times faster than measured; 0: everything at once.
        past_ms: Length of the part that is sent at once; at most half of what there is, unless speed is 0.
        prefix: Put before each link id.
        together: Whether all links are shifted alike.
    """
    starts = np.array([one.series.times_ms[0] for one in measured])
    ends = np.array([one.series.times_ms[-1] for one in measured])
    if together:
        starts, ends = np.full_like(starts, starts.min()), np.full_like(ends, ends.max())
    split = np.where(speed > 0, starts + np.minimum(past_ms, (ends - starts) // 2), ends)
    pace = 1.0 / speed if speed > 0 else 0.0
    # above speed 1 times run ahead of the clock, which must not catch up with them before the end
    lead_ms = np.rint((ends - split) * max(1.0 - pace, 0.0)).astype(np.int64)
    shift = start_ms - split - lead_ms

    index = np.repeat(np.arange(len(measured), dtype=np.int32), [len(one.series) for one in measured])
    times = np.concatenate([one.series.times_ms for one in measured])
    send_s = np.maximum(times - split[index], 0) * pace / 1000
    order = np.lexsort((times, send_s))
    return Plan(
        tuple(LinkInfo(prefix + o.info.link_id, o.info.node, o.info.peer, o.info.region) for o in measured),
        index[order],
        (times + shift[index])[order],
        np.concatenate([one.series.values for one in measured])[order],
        send_s[order],
    )


def replay_file(
    file: Path,
    target: str,
    *,
    link_id: str,
    speed: float,
    past: timedelta,
    max_age: timedelta,
    prefix: str,
    together: bool,
) -> None:
    """Replays a file.

    Raises:
        MeasurementFileError: The file cannot be read.
        CommandError: There is nothing in it, or some rows were not stored.
    """
    faults: list[str] = []
    measured = read_links(file, link_id=link_id, on_fault=lambda fault: faults.append(str(fault)))
    for fault in faults[:SHOWN_FAULTS]:
        tell(f"{file}: {fault}")
    if len(faults) > SHOWN_FAULTS:
        tell(f"{file}: and {len(faults) - SHOWN_FAULTS} more rows that cannot be used")
    if not measured:
        raise CommandError(f"{file}: there are no measurements in it")
    past_ms = round(past.total_seconds() * 1000)
    start_ms = now_ms()
    planned = plan(measured, start_ms=start_ms, speed=speed, past_ms=past_ms, prefix=prefix, together=together)
    kept = planned.since(start_ms - round(max_age.total_seconds() * 1000))
    if len(kept.send_s) < len(planned.send_s):
        tell(f"{len(planned.send_s) - len(kept.send_s)} samples would be too old and are left out; see --max-age")
    planned, outcome = kept, Outcome()
    with connect.client(target) as client:
        with Progress("dating back", planned.backdated, "samples") as progress:
            for batch in planned.batches(0, planned.backdated):
                outcome.push(client, batch)
                progress.advance(len(batch))
        tell(f"{len(measured)} links, {planned.backdated} samples dated back: {outcome.text()}")
        if planned.backdated < len(planned.send_s):
            _follow(client, planned, outcome)
    tell(outcome.text())
    if faults:
        raise CommandError(f"{len(faults)} rows of {file} could not be used", ExitCode.FAILED)
    if outcome.total.refused:
        raise CommandError(f"the service refused {outcome.total.refused} samples", ExitCode.FAILED)


def _follow(client: Client, planned: Plan, outcome: Outcome) -> None:
    """Sends the live part, each sample when it is due."""
    began, sent, total = time.monotonic(), planned.backdated, len(planned.send_s)
    with client.stream() as stream, Progress("replaying", total - sent, "samples") as progress:
        while sent < total:
            elapsed_s = time.monotonic() - began
            due = int(np.searchsorted(planned.send_s, elapsed_s, side="right"))
            for batch in planned.batches(sent, due):
                stream.push(columns_of(batch)).add_done_callback(
                    lambda done: outcome.add(done.result()) if done.exception() is None else None
                )
            progress.advance(due - sent)
            sent = due
            if sent < total:
                time.sleep(min(max(planned.send_s[sent] - elapsed_s, TICK_S), 1.0))
