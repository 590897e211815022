"""Links that behave like links, as a function of time.

A link is load on a path. The load follows the day and the week, wanders, and is pushed up by congestion episodes; what
it leaves is the available bandwidth, and the queues it builds are the latency, jitter and loss, so the four metrics
move together. Level shifts change the path, radio fades, outages end everything for a while; the measurement adds
noise with a heavy tail, comes a little off the beat, and sometimes not at all.

Everything is drawn by position in time (`draws`), a UTC day at a time, so that a link is the same whatever the chunks
it is read in, and a live feed can go on minute by minute. Since the process is ours, the best forecast anyone could
make is known as well: `oracle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.draws import Draws, poisson_median
from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import MAXIMA, METRICS, Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.domain.profiles import LinkProfile

_MINUTE_MS = 60_000
_DAY_MIN = 1440
_DAY_MS = _DAY_MIN * _MINUTE_MS
_EPOCH_DAY_OF_WEEK = 3  # 1970-01-01 was a Thursday
_SATURDAY = 5

PROBES = 600
"""Packets a loss measurement is made of: losses come in steps of 1/600."""

CACHED_DAYS = 8
_HOUR_MIN = 60
_EVENT_MAX_MIN = 6 * _HOUR_MIN
_REGIME_CELL_MIN = 4 * _HOUR_MIN
_REGIME_CELLS = 48
"""Every so many cells of 4 hours a regime certainly ends, so that none has to be looked for further back."""

_MIN_LOAD, _MAX_LOAD = 0.02, 0.97
_QUEUE_LOSS_FROM, _QUEUE_LOSS = 0.75, 0.6
_COIN = 0.5


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated link's past.

    Attributes:
        series: What was measured, n samples.
        oracle: float32[n, 4], the best forecast for `PRODUCT_HORIZON_MS` after each sample, see `LinkSimulator.oracle`.
    """

    series: Series
    oracle: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _State:
    """What the process is at n minutes; all float64[n].

    Attributes:
        minute: Minutes since the Unix epoch.
        wander: Load's own wandering, in standard deviations.
        fading: The capacity's wandering, in standard deviations.
        lossiness: The base loss's wandering, in standard deviations.
        bandwidth_level: The regime's log factor on the capacity.
        latency_level: The regime's log factor on the propagation delay.
        episode: Load that a congestion episode adds, 0 outside.
        outage: 1 in an outage.
    """

    minute: NDArray[np.float64]
    wander: NDArray[np.float64]
    fading: NDArray[np.float64]
    lossiness: NDArray[np.float64]
    bandwidth_level: NDArray[np.float64]
    latency_level: NDArray[np.float64]
    episode: NDArray[np.float64]
    outage: NDArray[np.float64]


class LinkSimulator:
    """One link of a kind.

    Args:
        profile: The kind.
        seed: Which link of that kind.
    """

    def __init__(self, profile: LinkProfile, seed: int) -> None:
        self._profile = profile
        self._draws = Draws(f"{profile.name}/{seed}")
        own = self._draws.normal("own", np.arange(4))
        self._capacity_mbps = profile.capacity_mbps * np.exp(0.5 * own[0])
        self._propagation_ms = profile.propagation_ms * np.exp(0.3 * own[1])
        self._base_loss_ratio = profile.base_loss_ratio * np.exp(0.7 * own[2])
        self._base_jitter_ms = profile.base_jitter_ms * np.exp(0.4 * own[3])
        self._peak_hour = 24.0 * self._draws.uniform("peak", np.arange(1))[0]
        self._day = lru_cache(CACHED_DAYS)(self._compute_day)

    def at(self, times_ms: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a measurement at each time says: float32[n, 4] in the order of `METRICS`, NaN where it says nothing.

        In an outage there is no bandwidth, all packets are lost, and no round trip comes back to be timed.
        """
        state = self._state(times_ms)
        bandwidth, latency, loss, jitter = self._medians(state)
        profile, draws = self._profile, self._draws
        noise = np.exp(np.clip(profile.noise_sigma * self._tails(times_ms), -1.5, 1.5))
        spike = draws.uniform("spike", times_ms) < profile.spike_ratio
        latency = latency * np.where(spike, 1.0 + 2.0 * draws.exponential("spike.size", times_ms), noise[1])
        lost = np.minimum(draws.poisson("lost", times_ms, loss * PROBES) / PROBES, 1.0)
        values = np.stack([bandwidth * noise[0], latency, lost, jitter * noise[2]], axis=-1)
        down = state.outage > 0
        values[down] = (0.0, np.nan, 1.0, np.nan)
        for column, metric in enumerate(METRICS):
            values[draws.uniform(f"absent.{metric}", times_ms) < profile.absent_ratio, column] = np.nan
        measured: NDArray[np.float32] = np.clip(values, 0.0, MAXIMA).astype(np.float32)
        return measured

    def oracle(self, times_ms: NDArray[np.int64], horizon_ms: int = PRODUCT_HORIZON_MS) -> NDArray[np.float32]:
        """The median of what will be measured `horizon_ms` after each time, given the process's state at that time.

        Known are the daily cycle, the regime, how far load, fading and loss have wandered, and whether an episode or
        outage is on; not known are the future draws. Wandering decays towards 0, what is on goes on when that is more
        likely than not, and nothing new begins: at a few events a day that is the likelier case by far. Up to the
        chance of such an event this is the conditional median, which has the least mean absolute error there is.

        Returns:
            float32[n, 4].
        """
        profile, ahead_min = self._profile, horizon_ms / _MINUTE_MS
        now = self._state(times_ms)
        fading_left = np.exp(-ahead_min / profile.fading_tau_min)
        future = _State(
            minute=now.minute + ahead_min,
            wander=now.wander * np.exp(-ahead_min / profile.load_tau_min),
            fading=now.fading * fading_left,
            lossiness=now.lossiness * fading_left,
            bandwidth_level=now.bandwidth_level,
            latency_level=now.latency_level,
            episode=now.episode * (np.exp(-ahead_min / profile.episode_mean_min) > _COIN),
            outage=now.outage * (np.exp(-ahead_min / profile.outage_mean_min) > _COIN),
        )
        bandwidth, latency, loss, jitter = self._medians(future)
        lost = np.minimum(poisson_median(loss * PROBES) / PROBES, 1.0)
        medians = np.stack([bandwidth, latency, lost, jitter], axis=-1)
        down = future.outage > 0
        medians[down, 0], medians[down, 2] = 0.0, 1.0
        best: NDArray[np.float32] = np.clip(medians, 0.0, MAXIMA).astype(np.float32)
        return best

    def times(self, start_ms: int, end_ms: int, cadence_ms: int) -> NDArray[np.int64]:
        """When measurements come in [start, end): int64[n], increasing. A little off the beat, some never."""
        beats = np.arange(start_ms // cadence_ms - 1, end_ms // cadence_ms + 2, dtype=np.int64)
        off = 2.0 * self._draws.uniform("beat", beats) - 1.0
        shift = np.rint(off * self._profile.cadence_jitter_ratio * cadence_ms).astype(np.int64)
        came = self._draws.uniform("missing", beats) >= self._profile.missing_ratio
        times = (beats * cadence_ms + shift)[came]
        return times[(times >= start_ms) & (times < end_ms)]

    def measured(self, start_ms: int, end_ms: int, cadence_ms: int) -> Series:
        """What is measured in [start, end)."""
        times = self.times(start_ms, end_ms, cadence_ms)
        values = self.at(times)
        said = np.isfinite(values).any(axis=1)
        return Series(times[said], values[said])

    def _tails(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([self._draws.heavy_tailed(f"noise.{i}", times_ms) for i in range(3)])

    def _medians(self, state: _State) -> tuple[NDArray[np.float64], ...]:
        """The medians of the four metrics outside outages, by the state of the process."""
        profile = self._profile
        hour = state.minute / _HOUR_MIN
        weekend = (np.floor(hour / 24) + _EPOCH_DAY_OF_WEEK) % 7 >= _SATURDAY
        cycle = np.cos(2.0 * np.pi * (hour - self._peak_hour) / 24.0) * np.where(weekend, profile.weekend_share, 1.0)
        load = profile.utilisation + profile.daily_swing * cycle + profile.load_sigma * state.wander + state.episode
        load = np.clip(load, _MIN_LOAD, _MAX_LOAD)
        queue = load**2 / (1.0 - load)  # 1/2 at half load, as an M/G/1 queue grows
        fade = np.exp(profile.fading_sigma * state.fading)
        bandwidth = self._capacity_mbps * np.exp(state.bandwidth_level) * fade * (1.0 - load)
        latency = self._propagation_ms * np.exp(state.latency_level) + 2.0 * profile.queue_ms * queue
        jitter = self._base_jitter_ms / np.sqrt(fade) + 0.5 * profile.queue_ms * queue
        overflow = _QUEUE_LOSS * np.maximum(load - _QUEUE_LOSS_FROM, 0.0) ** 2
        loss = self._base_loss_ratio * np.exp(profile.loss_sigma * state.lossiness) + overflow
        return bandwidth, latency, np.minimum(loss, 1.0), jitter

    def _state(self, times_ms: NDArray[np.int64]) -> _State:
        """The state at each time, that of its minute: float64[n] each."""
        minutes = times_ms // _MINUTE_MS
        columns = np.empty((7, len(minutes)))
        days = minutes // _DAY_MIN
        for day in np.unique(days).tolist():
            here = days == day
            columns[:, here] = self._day(day)[:, minutes[here] - day * _DAY_MIN]
        return _State(minutes.astype(np.float64), *columns)

    def _compute_day(self, day: int) -> NDArray[np.float64]:
        """float64[7, 1440]: one UTC day of `_State`, without `minute`."""
        profile = self._profile
        episode = self._events("episode", day, profile.episodes_per_day, profile.episode_mean_min)
        outage = self._events("outage", day, profile.outages_per_day, profile.outage_mean_min)
        return np.stack(
            [
                self._wandering("load", day, profile.load_tau_min),
                self._wandering("fading", day, profile.fading_tau_min),
                self._wandering("lossiness", day, profile.fading_tau_min),
                *self._regime(day),
                profile.episode_load * episode,
                (outage > 0).astype(np.float64),
            ]
        )

    def _wandering(self, stream: str, day: int, tau_min: float) -> NDArray[np.float64]:
        """An Ornstein-Uhlenbeck process over one day, float64[1440], between its values at both midnights.

        Midnights are independent draws (a day is many correlation times), the way between them is the exact bridge.
        """
        decay = 1.0 / tau_min
        midnights = self._draws.normal(f"{stream}.midnight", np.array([day, day + 1], np.int64))
        steps = self._draws.normal(stream, day * _DAY_MIN + np.arange(_DAY_MIN, dtype=np.int64))
        minute = np.arange(1, _DAY_MIN + 1)
        growth = np.exp(decay * minute)
        kicks = np.sqrt(1.0 - np.exp(-2.0 * decay)) * steps
        free = np.append(midnights[0], (midnights[0] + np.cumsum(kicks * growth)) / growth)
        # sinh(decay * t) / sinh(decay * T), in a form that does not overflow
        t, end = np.append(0, minute), float(_DAY_MIN)
        pull = np.exp(decay * (t - end)) * np.expm1(-2.0 * decay * t) / np.expm1(-2.0 * decay * end)
        bridge: NDArray[np.float64] = free + pull * (midnights[1] - free[-1])
        return bridge[:-1]

    def _regime(self, day: int) -> NDArray[np.float64]:
        """float64[2, 1440]: log factors of capacity and propagation delay. Each shift leads to a fresh level."""
        first = day * _DAY_MIN // _REGIME_CELL_MIN
        cells = np.arange(first - _REGIME_CELLS, first + _DAY_MIN // _REGIME_CELL_MIN, dtype=np.int64)
        chance = self._profile.regimes_per_day * _REGIME_CELL_MIN / _DAY_MIN
        begins = (self._draws.uniform("regime", cells) < chance) | (cells % _REGIME_CELLS == 0)
        cells = cells[begins]
        starts = (cells + self._draws.uniform("regime.start", cells)) * _REGIME_CELL_MIN
        minutes = day * _DAY_MIN + np.arange(_DAY_MIN)
        current = cells[np.maximum(np.searchsorted(starts, minutes, side="right") - 1, 0)]
        return np.stack(
            [
                self._profile.regime_bandwidth_sigma * self._draws.normal("regime.bandwidth", current),
                self._profile.regime_latency_sigma * self._draws.normal("regime.latency", current),
            ]
        )

    def _events(self, stream: str, day: int, per_day: float, mean_min: float) -> NDArray[np.float64]:
        """float64[1440]: 0 outside events, their size (mean 1) within. At most one begins in an hour.

        Lengths are exponential, cut at 6 hours: how long an event has been going on says nothing of how long it will.
        """
        first = day * _DAY_MIN
        hours = np.arange((first - _EVENT_MAX_MIN) // _HOUR_MIN, (first + _DAY_MIN) // _HOUR_MIN, dtype=np.int64)
        hours = hours[self._draws.uniform(stream, hours) < per_day / 24.0]
        start = (hours + self._draws.uniform(f"{stream}.start", hours)) * _HOUR_MIN - first
        length = np.minimum(mean_min * self._draws.exponential(f"{stream}.length", hours), _EVENT_MAX_MIN)
        size = 0.5 + self._draws.uniform(f"{stream}.size", hours)
        minute = np.arange(_DAY_MIN)
        on = (minute >= start[:, None]) & (minute < (start + length)[:, None])
        profile: NDArray[np.float64] = np.max(np.where(on, size[:, None], 0.0), axis=0, initial=0.0)
        return profile


def simulate(profile: LinkProfile, seed: int, start_ms: int, samples: int, cadence_ms: int) -> Simulated:
    """A link's measurements over a stretch of time, and the best forecast after each.

    Args:
        profile: What kind of link.
        seed: Which link of that kind.
        start_ms: When the stretch begins.
        samples: How many measurements are due in it; a few of them never come.
        cadence_ms: How often they are due.
    """
    simulator = LinkSimulator(profile, seed)
    series = simulator.measured(start_ms, start_ms + samples * cadence_ms, cadence_ms)
    return Simulated(series, simulator.oracle(series.times_ms))
