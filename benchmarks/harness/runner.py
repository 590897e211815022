"""Runs suites one after another and stores what they find."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.harness import report
from benchmarks.harness.generator import Generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.statistics import Section


@dataclass(slots=True)
class Bench:
    """What a suite works with.

    Attributes:
        generator: The load generator.
        rounds: How often each thing is measured.
        scale: Durations and sizes are multiplied by it: 1, or less for a quick look.
    """

    generator: Generator
    rounds: int
    scale: float
    _begun_s: float = field(default_factory=time.monotonic)
    _shown: int = 0

    def say(self, text: str) -> None:
        """Shows progress."""
        print(f"[{time.monotonic() - self._begun_s:6.1f} s] {text}", flush=True)

    def show(self, section: Section) -> None:
        """Shows the figures that are new."""
        for figure in section.figures[self._shown :]:
            self.say(report.line(figure))
        self._shown = len(section.figures)

    def seconds(self, full: float) -> float:
        """How long to measure."""
        return max(full * self.scale, 0.3)

    def size(self, full: int) -> int:
        """How many to measure with."""
        return max(int(full * self.scale), 100)

    def load(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Runs a function of `benchmarks.harness.load` in the generator. Raises `RuntimeError` where calls failed."""
        found = self.generator.run(f"benchmarks.harness.load:{what}", **arguments)
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} calls of {arguments.get('path')} failed, such as: {found['fault']}")
        return found


def run(suites: dict[str, Callable[[Bench], Section]], rounds: int, scale: float, *, keep: bool) -> list[Section]:
    """Runs suites; `keep`: stores what they find and writes the report anew."""
    found = []
    for name, suite in suites.items():
        before = os.getloadavg()[0]
        with Generator() as generator:
            bench = Bench(generator, rounds, scale)
            bench.say(f"{name}, load average {before:.1f}")
            section = suite(bench)
            bench.show(section)
        for note in section.notes:
            bench.say(note)
        if keep:
            report.store(section, (before, os.getloadavg()[0]), scale)
        found.append(section)
    return found
