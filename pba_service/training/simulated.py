"""Traces of the simulator, so that training also works where no real measurements are.

Every link has a profile of its own, drawn widely around the simulator's kinds: a model trained on many kinds of links
does better on kinds it has not seen than one trained on few.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.profiles import PROFILES, LinkProfile
from pba_service.domain.simulate import LinkSimulator
from pba_service.training.dataset import SIMULATED_PREFIX, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
_CADENCES_MS = (60_000, 120_000, 60_000, 300_000, 60_000, 600_000, 240_000, 900_000)
_SAMPLES = 2_500
_FIRST_SEED = 1_000_000
"""Links with smaller seeds, as the command line makes them, are never trained on."""

_VARIED = (
    "base_loss_ratio",
    "load_sigma",
    "load_tau_min",
    "fading_sigma",
    "fading_tau_min",
    "loss_sigma",
    "queue_ms",
    "regimes_per_day",
    "regime_bandwidth_sigma",
    "regime_latency_sigma",
    "episodes_per_day",
    "episode_mean_min",
    "outages_per_day",
    "noise_sigma",
    "spike_ratio",
    "missing_ratio",
)
_KINDS = (*PROFILES.values(), replace(PROFILES["daily"], name="cyclic", utilisation=0.4, daily_swing=0.3))
"""Cycles are what a model sees least of in measured links, so there is a second kind of link that lives by them."""

_TAUS = ("load_tau_min", "fading_tau_min")
_SHORTEST_TAU_MIN = 5.0
_VARIATION_SIGMA = 0.7
_PLAIN_SHARE = 0.25
"""Of the links, which keep the profile of their kind as it is."""


def simulated_traces(links: int, seed: int) -> list[Trace]:
    """`links` simulated links, kinds in turn, each kind at several cadences."""
    return list(_traces(links, seed))


def varied(profile: LinkProfile, random: np.random.Generator) -> LinkProfile:
    """A profile around another: rates, sizes and durations by log-normal factors."""
    factors = np.exp(random.normal(0, _VARIATION_SIGMA, len(_VARIED))).tolist()
    own = {name: getattr(profile, name) * factor for name, factor in zip(_VARIED, factors, strict=True)}
    return replace(profile, **own | {name: max(own[name], _SHORTEST_TAU_MIN) for name in _TAUS})


def _traces(links: int, seed: int) -> Iterator[Trace]:
    for number in range(links):
        turn, kind = divmod(number, len(_KINDS))
        profile = _KINDS[kind]
        cadence_ms = _CADENCES_MS[turn % len(_CADENCES_MS)]
        random = np.random.default_rng([seed, number])
        own = profile if random.random() < _PLAIN_SHARE else varied(profile, random)
        simulator = LinkSimulator(own, _FIRST_SEED + 1_000 * seed + number)
        series = simulator.measured(_START_MS, _START_MS + _SAMPLES * cadence_ms, cadence_ms)
        yield Trace(f"{SIMULATED_PREFIX}{profile.name}", f"{number}", series)
