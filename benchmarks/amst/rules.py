"""The rules that are compared: from what is known of a path to streams, buffer and pace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.amst import tcp
from pba_service.domain.amst.conditions import conditions
from pba_service.domain.amst.optimizer import optimize
from pba_service.domain.parameters import CongestionControl, ParametersAsk, TransportBounds

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = TransportBounds()
MANY_PROBES = 1_000_000


@dataclass(frozen=True, slots=True)
class Path:
    """An emulated path: rate, round trip, loss, queue as a share of the bandwidth-delay product."""

    rate_mbps: float
    rtt_ms: float
    loss_ratio: float
    queue_share: float
    congestion_control: str = "cubic"
    bursty: bool = False

    @property
    def product_bytes(self) -> float:
        """Bandwidth-delay product."""
        return self.rate_mbps * 1e6 / 8 * self.rtt_ms / 1e3

    @property
    def queue_bytes(self) -> int:
        """The bottleneck's queue, never below 16 packets."""
        return round(max(self.queue_share * self.product_bytes, 24_000))


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule is told: the path's values, and their quantiles where they carry errors (else None)."""

    path: Path
    rate_mbps: float
    rtt_ms: float
    loss_ratio: float
    quantiles: np.ndarray | None = None
    loss_probes: int | None = MANY_PROBES

    @staticmethod
    def exactly(path: Path) -> Told:
        """The truth."""
        return Told(path, path.rate_mbps, path.rtt_ms, path.loss_ratio)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sender is set to; buffer 0: the kernel tunes it itself; pace None: none."""

    streams: int
    buffer_bytes: int = 0
    pacing_mbps: float | None = None
    not_sent_bytes: int = 0


def documented(told: Told) -> Setting:
    """The documented rule as PBA first had it.

    10 Mbit/s a stream, times `RTT / 20 ms * sqrt(loss / 0.1 %)` where that is above 1, buffers of twice the product
    over the streams and 32 KiB, 95 % pace.
    """
    loss = max(told.loss_ratio, 1e-4)
    correction = max(1.0, told.rtt_ms / 20 * math.sqrt(loss / 1e-3))
    return _sized(told, told.rate_mbps / 10 * correction, 0.95 * told.rate_mbps)


def tenth(told: Told) -> Setting:
    """The documented rule without corrections: a stream for each 10 Mbit/s, 95 % pace."""
    return _sized(told, told.rate_mbps / 10, 0.95 * told.rate_mbps)


def mathis(told: Told) -> Setting:
    """1.5 times the path's rate over `MSS sqrt(3/2) / (R sqrt(p))` (Mathis et al. 1997)."""
    loss = max(told.loss_ratio, 1e-6)
    rate = 8 * tcp.MSS_BYTES / 1e6 * math.sqrt(1.5) / (told.rtt_ms / 1e3 * math.sqrt(loss))
    return _sized(told, 1.5 * told.rate_mbps / rate)


def pftk(told: Told) -> Setting:
    """1.5 times the path's rate over Padhye's, at most a stream for every 4 packets of product and queue."""
    wanted = 1.5 * told.rate_mbps / tcp.pftk_mbps(told.rtt_ms / 1e3, max(told.loss_ratio, 1e-6))
    product = told.rate_mbps * 125 * told.rtt_ms
    return _sized(told, min(wanted, (1.25 * product + 24_000) / (4 * tcp.MSS_BYTES)))


def fixed(streams: int) -> Callable[[Told], Setting]:
    """A constant number of streams, buffers left to the kernel."""
    return lambda _told: Setting(streams)


def ours(told: Told) -> Setting:
    """The optimizer of the service."""
    values = np.array([told.rate_mbps, told.rtt_ms, told.loss_ratio, 0.0], np.float32)
    ask = ParametersAsk(
        "path",
        congestion_control=CongestionControl[told.path.congestion_control.upper()],
        loss_probes=told.loss_probes,
    )
    chosen = optimize(conditions(values, told.quantiles, ask), ask, BOUNDS).parameters
    return Setting(chosen.streams, chosen.buffer_bytes, chosen.pacing_mbps, chosen.not_sent_bytes)


RULES: dict[str, Callable[[Told], Setting]] = {
    "documented": documented,
    "tenth": tenth,
    "fixed 4": fixed(4),
    "fixed 16": fixed(16),
    "fixed 64": fixed(64),
    "mathis": mathis,
    "pftk": pftk,
    "ours": ours,
}


def _sized(told: Told, wanted: float, pace: float | None = None) -> Setting:
    streams = min(max(math.ceil(wanted), BOUNDS.min_streams), BOUNDS.max_streams)
    product = told.rate_mbps * 125 * told.rtt_ms
    buffer = min(max(2 * product / streams + 32 * 1024, BOUNDS.min_buffer_bytes), BOUNDS.max_buffer_bytes)
    return Setting(streams, int(buffer), pace)
