"""Fails where a ratio fell: `python -m benchmarks.guard`.

Measures what `make bench` measured for this purpose and stored in results/guard.json, and compares. A ratio may come to
a third of the stored one: a busy machine and another processor stay within that, the loss of a batch or of a cache does
not. What falls is measured once more before it is believed.
"""

from __future__ import annotations

import json
import sys

from benchmarks.guard import suite
from benchmarks.harness import runner
from benchmarks.harness.report import STORED
from benchmarks.harness.statistics import Section

ALLOWED = 1 / 3
ROUNDS = 3


def fallen(stored: Section, now: Section) -> list[str]:
    """A sentence for each ratio that is too low now."""
    before = {figure.what: figure.ratio for figure in stored.figures}
    return [
        f"{figure.what}: {figure.ratio:.3g} of {figure.control_name}, was {before[figure.what]:.3g}"
        for figure in now.figures
        if figure.ratio is not None and figure.ratio < ALLOWED * (before.get(figure.what) or 0.0)
    ]


def main() -> int:
    """Measures, compares, and says what fell."""
    stored = Section.from_json(json.loads((STORED / "guard.json").read_text()))
    for _ in range(2):
        [now] = runner.run({"guard": suite.run}, ROUNDS, 1.0, keep=False)
        faults = fallen(stored, now)
        if not faults:
            print(f"no ratio fell below a third of what it was on {stored.machine['date']}")
            return 0
        print("\n".join(["fell:", *faults]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
