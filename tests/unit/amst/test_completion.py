"""How long a transfer takes: exact where the bandwidth is known, honest where it is not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.amst.completion import (
    BandwidthForecast,
    Estimate,
    TransferAsk,
    bandwidth_forecast,
    best,
    completion_times_s,
    estimates,
    scenarios,
)
from pba_service.domain.errors import InvalidRequestError, MetricAbsentError
from pba_service.domain.forecast import Prediction, Source

MINUTE_MS = 60_000
HORIZONS = np.array([5, 15, 30, 60, 240]) * MINUTE_MS


def forecast(*rows, horizons=HORIZONS):
    table = np.array(rows, np.float64)
    return BandwidthForecast("a", 0, MINUTE_MS, np.array(horizons[: len(table)]), table)


def certain(*mbps):
    return forecast(*[[value] * 5 for value in mbps])


@pytest.mark.parametrize("size_bytes", [1, 10**6, 10**9, 10**12])
def test_a_certain_bandwidth_gives_a_certain_time(size_bytes):
    times = completion_times_s(certain(80, 80, 80, 80, 80), transfer_bytes=size_bytes, start_ms=0)
    assert times == pytest.approx(np.full(len(times), size_bytes * 8 / 80e6))


def test_a_change_ahead_is_integrated_over():
    # 10 Mbit/s until minute 5, 100 from minute 15 on, in a line between
    times = completion_times_s(certain(10, 100), transfer_bytes=10**9, start_ms=0)
    rate = np.interp(np.arange(0.5, 60) * 60, [300, 900], [10, 100])
    sent = np.cumsum(rate) * 60
    step = int(np.argmax(sent >= 8000))
    expected = step * 60 + (8000 - sent[step - 1]) / rate[step]
    assert times == pytest.approx(np.full(len(times), expected))


def test_a_later_start_sees_what_is_expected_then():
    early, late = estimates(certain(10, 100), transfer_bytes=10**8, starts_ms=[0, 15 * MINUTE_MS], deadline_ms=None)
    assert early.completion_s[1] == pytest.approx(80)
    assert late.completion_s[1] == pytest.approx(8)
    assert early.deadline_probability is None


@pytest.mark.parametrize(("start_ms", "takes_ms"), [(0, 80_000), (15 * MINUTE_MS, 8_000)])
def test_a_deadline_is_met_by_what_is_complete_by_then(start_ms, takes_ms):
    for deadline_ms, probability in ((start_ms + takes_ms - 100, 0), (start_ms + takes_ms + 100, 1)):
        [one] = estimates(certain(10, 100), transfer_bytes=10**8, starts_ms=[start_ms], deadline_ms=deadline_ms)
        assert one.deadline_probability == probability


def test_no_bandwidth_means_never():
    [one] = estimates(certain(0), transfer_bytes=1, starts_ms=[0], deadline_ms=10**12)
    assert one.completion_s == (math.inf,) * 3
    assert one.deadline_probability == 0


def test_a_deadline_beyond_the_times_that_are_told_is_met():
    day_s = 86_400
    [one] = estimates(certain(1), transfer_bytes=35 * day_s * 10**6 // 8, starts_ms=[0], deadline_ms=36 * day_s * 1000)
    assert one.completion_s == (math.inf,) * 3
    assert one.deadline_probability == 1


def test_scenarios_have_the_forecasts_quantiles():
    rates = scenarios(forecast([50, 60, 100, 140, 150]), 0)
    assert np.quantile(rates, [0.05, 0.1, 0.5, 0.9, 0.95], axis=0).mean(axis=1) == pytest.approx(
        [50, 60, 100, 140, 150], rel=0.03
    )


rows = st.lists(st.lists(st.floats(0, 1e5), min_size=5, max_size=5).map(sorted), min_size=1, max_size=5).map(
    lambda table: forecast(*table)
)
sizes = st.integers(1, 2**64 - 1)


@given(rows, sizes, sizes, st.integers(0, 10**8))
def test_more_bytes_never_take_less(known, one, other, start_ms):
    few, many = (completion_times_s(known, transfer_bytes=size, start_ms=start_ms) for size in sorted((one, other)))
    assert (few <= many * (1 + 1e-9)).all()


@given(rows, sizes, st.floats(1, 10))
def test_more_bandwidth_never_takes_longer(known, size, factor):
    faster = forecast(*(known.quantiles_mbps * factor), horizons=known.horizons_ms)
    slow, fast = (completion_times_s(one, transfer_bytes=size, start_ms=0) for one in (known, faster))
    assert (fast <= slow * (1 + 1e-9)).all()


@given(rows, sizes, st.integers(0, 10**9), st.integers(0, 10**9))
def test_quantiles_ascend_and_a_later_deadline_is_likelier(known, size, one, other):
    [soon], [late] = (
        estimates(known, transfer_bytes=size, starts_ms=[0], deadline_ms=deadline) for deadline in sorted((one, other))
    )
    assert 0 < soon.completion_s[0] <= soon.completion_s[1] <= soon.completion_s[2]
    assert 0 <= soon.deadline_probability <= late.deadline_probability <= 1


def test_the_best_meets_the_deadline_first_and_ends_early_then():
    slow_sure = Estimate("a", 0, (90, 100, 110), 0.99)
    fast_unsure = Estimate("b", 0, (10, 50, 500), 0.7)
    later = Estimate("a", 60_000, (10, 20, 30), 0.99)
    assert best([slow_sure, fast_unsure]) == 0
    assert best([slow_sure, fast_unsure, later]) == 2
    without = [Estimate(e.link_id, e.start_ms, e.completion_s, None) for e in (slow_sure, fast_unsure)]
    assert best(without) == 1
    assert best([]) is None
    assert best([slow_sure, Estimate("c", 10_000, (80, 90, 99), 0.99)]) == 1  # as early an end, and surer


def prediction(value=100.0, row=(50, 60, 100, 140, 150)):
    values, table = np.full(4, np.nan, np.float32), np.full((4, 5), np.nan, np.float32)
    values[0], table[0] = value, row
    return Prediction("a", 0, MINUTE_MS, 15 * MINUTE_MS, values, table, 0.5, "v", Source.COMBINED)


def path(*rows):
    return [(int(h), np.array([row, *[[np.nan] * 5] * 3], np.float32)) for h, row in zip(HORIZONS, rows, strict=False)]


def test_the_path_is_moved_and_widened_as_the_calibrated_prediction_says():
    known = bandwidth_forecast(prediction(), path([40, 42, 45, 48, 50], [40, 45, 50, 55, 60], [30, 40, 50, 60, 70]))
    assert known.horizons_ms.tolist() == [h * MINUTE_MS for h in (5, 15, 30)]
    assert known.quantiles_mbps[1].tolist() == [50, 60, 100, 140, 150]
    assert known.quantiles_mbps[2][2] == pytest.approx(100)
    assert known.quantiles_mbps[2][1] == pytest.approx(100 - 3 * 20)  # four times as wide, held to three


def test_without_a_path_the_prediction_stands_alone_and_without_bandwidth_nothing_does():
    assert bandwidth_forecast(prediction(), []).quantiles_mbps.tolist() == [[50, 60, 100, 140, 150]]
    with pytest.raises(MetricAbsentError):
        bandwidth_forecast(prediction(math.nan), path([1] * 5))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"transfer_bytes": 0}, "transfer_bytes"), ({"link_ids": ()}, "link_ids"),
        ({"link_ids": ("a",) * 2}, "link_ids[1]"), ({"link_ids": ("",)}, "link_ids[0]"),
        ({"link_ids": tuple(map(str, range(101)))}, "link_ids"), ({"earliest_ms": 2, "latest_ms": 1}, "latest_start"),
    ],
)  # fmt: skip
def test_an_impossible_transfer_is_refused_by_field(fields, named):
    with pytest.raises(InvalidRequestError) as caught:
        TransferAsk(**({"transfer_bytes": 1, "link_ids": ("a",)} | fields))
    assert [violation.field for violation in caught.value.violations] == [named]


def test_starts_are_spread_over_the_window_and_none_is_past():
    ask = TransferAsk(1, ("a",), earliest_ms=0, latest_ms=1800)
    assert ask.starts_ms(1000) == [1000 + 100 * i for i in range(9)]
    assert TransferAsk(1, ("a",), earliest_ms=0).starts_ms(1000) == [1000]
    with pytest.raises(InvalidRequestError):
        TransferAsk(1, ("a",), latest_ms=25 * 3_600_000).starts_ms(0)


def test_a_window_of_starts_is_as_long_wherever_it_begins():
    hour_ms = 3_600_000
    assert TransferAsk(1, ("a",), earliest_ms=48 * hour_ms).starts_ms(0) == [48 * hour_ms]
    ask = TransferAsk(1, ("a",), earliest_ms=12 * hour_ms, latest_ms=36 * hour_ms)
    assert ask.starts_ms(0) == [(12 + 3 * i) * hour_ms for i in range(9)]
    with pytest.raises(InvalidRequestError):
        TransferAsk(1, ("a",), earliest_ms=12 * hour_ms, latest_ms=36 * hour_ms + 1).starts_ms(0)


@pytest.mark.parametrize("step_ms", [1_000, 5_000, 10_000, MINUTE_MS])
def test_what_is_expected_within_the_horizons_counts_however_quickly_a_link_is_measured(step_ms):
    # 1 Gbit/s until minute 15, 0.1 from minute 30 on, in a line between: 1.395 Tbit by then
    known = BandwidthForecast(
        "a", 0, step_ms, HORIZONS, np.array([[mbps] * 5 for mbps in (1000, 1000, 100, 100, 100)], np.float64)
    )
    times = completion_times_s(known, transfer_bytes=400 * 10**9, start_ms=0)
    assert times == pytest.approx(np.full(len(times), 1800 + (3_200_000 - 1_395_000) / 100), rel=0.01)
