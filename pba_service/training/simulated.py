"""Traces of the simulator, so that training also works where no real measurements are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.profiles import PROFILES
from pba_service.domain.simulate import LinkSimulator
from pba_service.training.dataset import SIMULATED_PREFIX, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
_CADENCES_MS = (60_000, 60_000, 120_000, 300_000)
_SAMPLES = 4_000
_FIRST_SEED = 1_000_000
"""Links with smaller seeds, as the command line makes them, are never trained on."""


def simulated_traces(links: int, seed: int) -> list[Trace]:
    """`links` simulated links, profiles in turn, each profile at several cadences."""
    return list(_traces(links, seed))


def _traces(links: int, seed: int) -> Iterator[Trace]:
    for number in range(links):
        turn, kind = divmod(number, len(PROFILES))
        profile = list(PROFILES.values())[kind]
        cadence_ms = _CADENCES_MS[turn % len(_CADENCES_MS)]
        simulator = LinkSimulator(profile, _FIRST_SEED + 1_000 * seed + number)
        series = simulator.measured(_START_MS, _START_MS + _SAMPLES * cadence_ms, cadence_ms)
        yield Trace(f"{SIMULATED_PREFIX}{profile.name}", f"{number}", series)
