"""Traces of the simulator, so that training also works where no real measurements are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pba_service.training.dataset import Trace


def simulated_traces(links: int, seed: int) -> list[Trace]:
    """`links` simulated links."""
    return []
