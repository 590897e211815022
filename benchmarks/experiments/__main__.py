"""python -m benchmarks.experiments [--runs 1000]: error rates and delays of the test that decides experiments."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from benchmarks.experiments.laws import LAWS, outcomes
from pba_service.domain.experiments import PERIOD_MS, Rule

IMPROVEMENTS = (0.02, 0.05, 0.10)
LONGEST_PERIODS = 1440
HOURS = PERIOD_MS / 3_600_000


def _hours(periods: float) -> str:
    return f"{periods * HOURS:.0f} h" if math.isfinite(periods) else f"over {LONGEST_PERIODS * HOURS / 24:.0f} days"


def main() -> None:
    """Prints the table that docs/experiments.md shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    rule = Rule()
    print(
        f"{arguments.runs} experiments each of up to {rule.max_periods} periods ({rule.max_periods * HOURS / 24:.0f} "
        f"days), watched after every period; stated: at most {rule.false_promotion:.0%} false promotions"
    )
    for law in LAWS:
        same = outcomes(law, runs=arguments.runs, rule=rule, improvement=0.0, seed=1)
        print(f"{law.name}\n  equally good   promoted {same.promoted:6.1%}   rejected {same.rejected:6.1%}")
        for improvement in IMPROVEMENTS:
            patient = replace(rule, max_periods=LONGEST_PERIODS)
            found = outcomes(law, runs=max(arguments.runs // 5, 1), rule=patient, improvement=improvement, seed=2)
            in_time = sum(periods <= rule.max_periods for periods in found.periods) / max(arguments.runs // 5, 1)
            delays = ", ".join(f"{_hours(found.quantile(level))} ({level:.0%})" for level in (0.5, 0.9))
            print(
                f"  better by {improvement:3.0%}  promoted {in_time:6.1%}   rejected {found.rejected:6.1%}"
                f"   promoted, however long it takes, after {delays}"
            )


if __name__ == "__main__":
    main()
