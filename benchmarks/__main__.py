"""Runs benchmarks: `python -m benchmarks [suite ...] [--rounds 5] [--scale 1.0] [--dry]`; without a suite all of them.

Shows what it finds as it goes, and then writes it into benchmarks/RESULTS.md (`--dry`: does not).
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.harness import runner
from benchmarks.harness.report import SUITES


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="shorter and smaller, for a quick look")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md alone")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    chosen = {name: importlib.import_module(f"benchmarks.{name}.suite").run for name in options.suites or SUITES}
    runner.run(chosen, options.rounds, options.scale, keep=not options.dry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
