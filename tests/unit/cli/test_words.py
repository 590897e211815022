"""Values as people read them, and durations and times as they type them."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from pba_client import Quantiles, Sample
from pba_service.cli.commands.options import parse_duration, parse_time
from pba_service.cli.show import plain
from pba_service.cli.words import METRICS, ago, clock, interval, mib, number, span

NOW = datetime(2025, 6, 15, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0004, "<0.01"),
        (-0.0004, ">-0.01"),
        (0.123, "0.12"),
        (9.876, "9.88"),
        (42.42, "42.4"),
        (940.4, "940"),
        (1e6, "1000000"),
        (-3.14159, "-3.14"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_loss_is_shown_in_percent():
    assert number(0.0123, METRICS[2].scale) == "1.23"
    assert interval(Quantiles(p05=0.001, p95=0.02), METRICS[2]) == "0.10 to 2.00"
    assert interval(Quantiles(p50=1), METRICS[0]) == ""


@pytest.mark.parametrize(
    ("size", "text"), [(4096, "4 KiB"), (131_072, "128 KiB"), (1_048_576, "1 MiB"), (1_572_864, "1.5 MiB")]
)
def test_sizes(size, text):
    assert mib(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (119, "119 s"), (300, "5 min"), (9000, "2.5 h"), (864_000, "10 days")]
)
def test_spans(seconds, text):
    assert span(seconds) == text
    assert ago(NOW - timedelta(seconds=seconds), NOW) == f"{text} ago"
    assert ago(NOW + timedelta(seconds=seconds), NOW) == f"in {text}"


def test_clocks_tell_the_date_unless_it_is_today():
    assert clock(datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2020-02-03 04:05:06 UTC"
    assert len(clock(datetime.now(UTC))) == len("12:34:56 UTC")


@pytest.mark.parametrize(
    ("text", "span"),
    [("60s", 60), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172_800), ("1d12h", 129_600), ("1.5d", 129_600)],
)
def test_durations(text, span):
    assert parse_duration(text) == timedelta(seconds=span)


@pytest.mark.parametrize("text", ["", "5", "fast", "-3h", "0s", "d", "1e99d", "h", "1h-30m", "1d-2h", "1h 30m"])
def test_durations_that_are_none(text):
    with pytest.raises(typer.BadParameter):
        parse_duration(text)


def test_times():
    assert parse_time("2025-06-15T14:00:00+02:00") == NOW
    assert abs(datetime.now(UTC) - timedelta(hours=6) - parse_time("6h")) < timedelta(seconds=5)
    with pytest.raises(typer.BadParameter, match="time zone"):
        parse_time("2025-06-15T14:00:00")
    with pytest.raises(typer.BadParameter):
        parse_time("tomorrow")


def test_results_as_json_carry_units():
    record = plain(Sample("a", NOW, bandwidth_mbps=1.5))
    assert record["measured_at"] == "2025-06-15T12:00:00Z"
    assert (record["bandwidth_mbps"], record["latency_ms"]) == (1.5, None)
