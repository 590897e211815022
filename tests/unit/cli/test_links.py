"""Simulated links are the same however they are read, and measured at seconds of their own."""

from datetime import timedelta

import numpy as np
import pytest

from pba_service.cli.links import batch_of, simulated_links
from pba_service.cli.push import columns_of
from pba_service.cli.told import CommandError
from pba_service.domain.samples import LinkInfo, SampleBatch

START_MS = 1_750_000_000_000
HOUR_MS = 3_600_000


def test_links_are_spread_over_the_kinds_and_the_minute():
    links = simulated_links(8, (), 1, "demo/", timedelta(minutes=1))
    names = [one.info.link_id for one in links]
    assert len(set(names)) == 8
    assert names[0] == "demo/wan-1"
    assert names[6] == "demo/wan-2"
    assert [one.phase_ms for one in links] == [0, 7_500, 15_000, 22_500, 30_000, 37_500, 45_000, 52_500]


def test_reading_in_pieces_changes_nothing():
    (link,) = simulated_links(1, ("wireless",), 3, "", timedelta(minutes=1))
    whole = link.measured(START_MS, START_MS + 6 * HOUR_MS)
    pieces = [link.measured(START_MS + i * HOUR_MS, START_MS + (i + 1) * HOUR_MS) for i in range(6)]
    np.testing.assert_array_equal(np.concatenate([one.times_ms for one in pieces]), whole.times_ms)
    np.testing.assert_array_equal(np.concatenate([one.values for one in pieces]), whole.values)
    assert 300 < len(whole) <= 360


def test_batches_hold_all_of_a_long_past():
    (link,) = simulated_links(1, ("wan",), 1, "", timedelta(seconds=10))
    span_ms = 60 * HOUR_MS
    batches = list(link.batches(START_MS, START_MS + span_ms))
    assert max(len(batch) for batch in batches) <= 10_000
    assert sum(len(batch) for batch in batches) == len(link.measured(START_MS, START_MS + span_ms))


def test_an_unknown_kind_is_told():
    with pytest.raises(CommandError, match="there is no profile warp; there are wan, "):
        simulated_links(1, ("warp",), 1, "", timedelta(minutes=1))


def test_batches_are_sent_as_they_are():
    nan = np.nan
    values = np.array([[1, nan, 0.5, nan], [nan, 2, nan, 3]], np.float32)
    batch = SampleBatch(
        (LinkInfo("a"), LinkInfo("b", "n", "p", "r")),
        np.array([1, 0], np.int32),
        np.array([5, 6], np.int64),
        values,
        np.isfinite(values),
    )
    columns = columns_of(batch)
    assert [(one.link_id, one.node, one.peer, one.region) for one in columns.links] == [
        ("a", "", "", ""),
        ("b", "n", "p", "r"),
    ]
    assert (columns.link_index, columns.measured_at_ms) == ([1, 0], [5, 6])
    assert columns.present == bytes([0b0101, 0b1010])
    assert (columns.bandwidth_mbps, columns.jitter_ms) == ([1, 0], [0, 3])


def test_a_series_becomes_a_batch_of_its_link():
    (link,) = simulated_links(1, ("wan",), 1, "", timedelta(minutes=1))
    series = link.measured(START_MS, START_MS + HOUR_MS)
    batch = batch_of(link.info, series)
    assert (batch.links, len(batch)) == ((link.info,), len(series))
