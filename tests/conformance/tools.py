"""Samples, predictions and commits for the conformance suite."""

import numpy as np
import pytest

from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.samples import LinkInfo, SampleBatch, Series, one_link_batch
from pba_service.engine.ports import Commit

SHARED = pytest.mark.parametrize("new_store", ["standalone", "cluster"], indirect=True)
"""For tests of several stores with the same data: what is in memory belongs to one store."""

PATIENCE_S = 15.0
"""A store's deadline in tests of anything but deadlines: the machine may be busy."""

MINUTE_MS = 60_000
DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000 - 1_800_000_000_000 % DAY_MS + 5 * 3_600_000
"""Some day, 05:00 UTC: an hour into a bucket of four."""


class Clock:
    """Time that goes on only when told to."""

    def __init__(self, now_ms):
        self.now_ms = now_ms

    def __call__(self):
        return self.now_ms


def values(*bandwidths):
    """float32[n, 4] with these bandwidths, a latency of 20, no loss, and jitter not measured."""
    return np.array([[bandwidth, 20, 0, np.nan] for bandwidth in bandwidths], np.float32)


def samples(link_id, times_ms, bandwidths=None, **info):
    """A batch of one link; unless said otherwise the bandwidth is the sample's position."""
    times_ms = list(times_ms)
    rows = values(*(range(len(times_ms)) if bandwidths is None else bandwidths))
    return one_link_batch(LinkInfo(link_id, **info), times_ms, rows)


def minutes(count, end_ms=NOW_MS):
    """Times a minute apart, the last of them `end_ms`."""
    return [end_ms - MINUTE_MS * i for i in reversed(range(count))]


def together(*batches):
    """One batch with the samples of batches of one link each."""
    return SampleBatch(
        tuple(batch.links[0] for batch in batches),
        np.concatenate([np.full(len(batch), i, np.int32) for i, batch in enumerate(batches)]),
        np.concatenate([batch.measured_at_ms for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        np.concatenate([batch.present for batch in batches]),
    )


def prediction(link_id, made_at_ms=NOW_MS, bandwidth=100.0, model_version="v1"):
    """A prediction of 15 minutes ahead."""
    at = np.array([bandwidth, 20, 0, np.nan], np.float32)
    spread = np.array([0.8, 0.9, 1.0, 1.1, 1.2], np.float32)
    return Prediction(
        link_id, made_at_ms, MINUTE_MS, made_at_ms + 15 * MINUTE_MS, at, at[:, None] * spread, 0.75, model_version,
        Source.COMBINED,
    )  # fmt: skip


def entry(target_ms, bandwidth=100.0, model_version="v1"):
    """A ledger entry of a prediction 15 minutes before, whose sample came a second late."""
    predicted, actual = values(bandwidth, 90)
    return LedgerEntry(target_ms - 15 * MINUTE_MS, target_ms, target_ms + 1_000, predicted, actual, 0.5, model_version)


def commit(link_id, read_version=0, blob=b"state", newest=None, ledger=()):
    """A commit."""
    return Commit(link_id, read_version, blob, newest, ledger)


async def read(store, link_id, start_ms=None, end_ms=None):
    """The whole history of a link as one series."""
    chunks = [chunk async for chunk in store.history(link_id, start_ms, end_ms)]
    assert all(len(chunk) for chunk in chunks)
    if not chunks:
        return Series.empty()
    times = np.concatenate([chunk.times_ms for chunk in chunks])
    assert (np.diff(times) > 0).all()
    return Series(times, np.concatenate([chunk.values for chunk in chunks]))


async def read_ledger(store, link_id, start_ms=None, end_ms=None):
    """The whole ledger of a link."""
    return [one async for chunk in store.ledger(link_id, start_ms, end_ms) for one in chunk]


async def list_ids(store, *, prefix="", region="", after="", limit=100):
    """The ids that `links` finds."""
    return [one.info.link_id for one in await store.links(prefix=prefix, region=region, after=after, limit=limit)]


def plain(one):
    """A ledger entry as something that can be compared."""
    numbers = [None if np.isnan(x) else float(x) for x in (*one.predicted, *one.actual)]
    return (one.made_at_ms, one.target_ms, one.measured_at_ms, *numbers, one.confidence, one.model_version)
