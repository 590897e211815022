"""Counts, over all replicas, what came of forecasts that were made in pairs for an experiment.

Each replica counts the pairs that it settled, by period, and writes its counts where all see them, under its own name:
writing them again changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.experiments import Scales, Tally, decode_tally, encode_tally, period_of, tally
from pba_service.engine.documents import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pba_service.domain.trials import Settled
    from pba_service.engine.documents import Documents
    from pba_service.observability.metrics import Metrics

_WAITING_MOST = 100_000
_MOST_DIGITS = 16
_OF_NONE = -1
"""The period of a field that none of us has written."""


class PairCounts:
    """The counts of all replicas, to which this one adds its own."""

    def __init__(self, documents: Documents, replica: str, settle_s: float, metrics: Metrics) -> None:
        """Counts nothing yet.

        Args:
            documents: Where experiments are; counts are fields beside them.
            replica: This replica's name.
            settle_s: A period is over when a later one has begun and its counts have not changed for so long.
            metrics: Told how many pairs were counted, and how many left out.
        """
        self._documents = documents
        self._replica = replica
        self._settle_s = settle_s
        self._metrics = metrics
        self._waiting: list[Settled] = []
        self._scales: dict[int, Scales] = {}
        self._own: dict[int, dict[int, Tally]] = {}
        self._seen: dict[tuple[str, int], tuple[bytes, float]] = {}

    def settled(self, pairs: Sequence[Settled]) -> None:
        """Takes in pairs that have met their sample; more than can be counted in time are left out."""
        room = _WAITING_MOST - len(self._waiting)
        self._waiting += pairs[:room]
        self._metrics.pairs_settled(min(len(pairs), room), max(len(pairs) - room, 0))

    async def count(self, running: set[int]) -> None:
        """Counts what was taken in, of the experiments with these keys; forgets the others."""
        waiting, self._waiting = self._waiting, []
        self._own = {key: own for key, own in self._own.items() if key in running}
        self._scales = {key: scales for key, scales in self._scales.items() if key in running}
        if waiting and running:
            await asyncio.to_thread(self._add, waiting, running)

    async def shared(self, document: str, key: int) -> tuple[list[str], dict[int, Tally]]:
        """Writes this replica's counts beside an experiment's document.

        Returns:
            The fields that are there now, and the sums over all replicas of the periods that are over.
        """
        own = self._own.get(key, {})
        await self._documents.set_fields(
            document, {f"{period}/{self._replica}": encode_tally(counted) for period, counted in own.items()}
        )
        fields = await self._documents.fields(document)
        return list(fields), self._over(document, fields)

    async def drop(self, document: str, key: int, last: int, fields: Iterable[str]) -> None:
        """Takes away what was counted of periods up to one that the experiment's record has, of these fields."""
        own = self._own.get(key, {})
        for period in [period for period in own if period <= last]:
            del own[period]
        await self._documents.drop_fields(document, [name for name in fields if _period(name) <= last])

    def _add(self, settled: list[Settled], running: set[int]) -> None:
        pairs = np.concatenate([one.met.pairs for one in settled])
        actual = np.concatenate([one.met.actual for one in settled])
        link_ids = np.repeat(np.array([one.link_id for one in settled], object), [len(one.met) for one in settled])
        for key in running:
            rows = np.flatnonzero(pairs["experiment"] == key)
            if not len(rows):
                continue
            rows = rows[np.argsort(pairs["target_ms"][rows], kind="stable")]
            some = pairs[rows]
            scales = self._scales.setdefault(key, Scales())
            scale = scales.measure(link_ids[rows].tolist(), period_of(some["target_ms"]), some["last"], actual[rows])
            found = tally(
                challenger=some["challenger"],
                incumbent=some["champion"],
                actual=actual[rows],
                scale=scale,
                made_at_ms=some["made_at_ms"],
                target_ms=some["target_ms"],
                step_ms=2 * some["tolerance_ms"].astype(np.int64),
            )
            own = self._own.setdefault(key, {})
            for period, counted in found.items():
                own.setdefault(period, Tally()).add(counted)

    def _over(self, document: str, fields: dict[str, bytes]) -> dict[int, Tally]:
        by_period: dict[int, list[bytes]] = {}
        for field, content in sorted(fields.items()):
            by_period.setdefault(_period(field), []).append(content)
        by_period.pop(_OF_NONE, None)
        now_s = asyncio.get_running_loop().time()
        over, at_rest = {}, True
        for period in sorted(by_period)[:-1]:
            content = b"".join(by_period[period])
            before, since_s = self._seen.get((document, period), (b"", now_s))
            if content != before:
                since_s = now_s
            self._seen[document, period] = (content, since_s)
            at_rest = at_rest and now_s - since_s >= self._settle_s
            if at_rest:  # periods close in order
                over[period] = Tally()
                for content in by_period[period]:
                    over[period].add(readable(document, decode_tally, content) or Tally())
                del self._seen[document, period]
        return over


def _period(field: str) -> int:
    number = field.split("/", maxsplit=1)[0]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < _MOST_DIGITS else _OF_NONE
