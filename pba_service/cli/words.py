"""Values as people read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pba_client import Quantiles

_SMALLEST, _TENS, _HUNDREDS = 0.01, 10, 100
_KIB, _MIB = 1024, 1024 * 1024
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is shown.

    Attributes:
        title: Its name.
        short: Its name where there is little room.
        unit: The unit shown.
        scale: What a value is multiplied by to be in that unit.
        field: Its attribute in samples and predictions.
        quantiles: Its quantiles' attribute in predictions.
    """

    title: str
    short: str
    unit: str
    scale: float
    field: str
    quantiles: str


METRICS = (
    Metric("bandwidth", "bw", "Mbit/s", 1, "bandwidth_mbps", "bandwidth_quantiles"),
    Metric("latency", "lat", "ms", 1, "latency_ms", "latency_quantiles"),
    Metric("loss", "loss", "%", 100, "packet_loss_ratio", "packet_loss_quantiles"),
    Metric("jitter", "jit", "ms", 1, "jitter_ms", "jitter_quantiles"),
)


def number(value: float | None, scale: float = 1) -> str:
    """A value with about three figures and at most two decimals; a dash where there is none."""
    if value is None:
        return "-"
    scaled = value * scale
    size = abs(scaled)
    if size >= _HUNDREDS or size == 0:
        return f"{scaled:.0f}"
    if size < _SMALLEST:
        return f"<{_SMALLEST}" if scaled > 0 else f">-{_SMALLEST}"
    return f"{scaled:.1f}" if size >= _TENS else f"{scaled:.2f}"


def value_and_unit(value: float | None, metric: Metric) -> str:
    """Such as 940 Mbit/s."""
    return f"{number(value, metric.scale)} {metric.unit}"


def interval(quantiles: Quantiles, metric: Metric) -> str:
    """The 90 % interval, such as 880 to 990; empty where the model gives none."""
    if quantiles.p05 is None or quantiles.p95 is None:
        return ""
    return f"{number(quantiles.p05, metric.scale)} to {number(quantiles.p95, metric.scale)}"


def mib(size_bytes: int) -> str:
    """A size, such as 128 KiB or 1 MiB."""
    if size_bytes >= _MIB:
        return f"{size_bytes / _MIB:.3g} MiB"
    return f"{size_bytes / _KIB:.3g} KiB"


def clock(time: datetime) -> str:
    """The time of day in UTC, with the date unless it is today."""
    time = time.astimezone(UTC)
    if time.date() == datetime.now(UTC).date():
        return f"{time:%H:%M:%S} UTC"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """A span, such as 12 s, 5 min, 3.5 h or 2 days."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h" if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.0f} days"


def ago(time: datetime, now: datetime | None = None) -> str:
    """How long ago a time is."""
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"
