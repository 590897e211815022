"""How good the served forecasts are: `python -m benchmarks.accuracy [--traces FILE] [--samples 4000] [--cadence 5]`.

Simulated links, kind by kind: the served error beside the best simple forecaster's, chosen with hindsight, and beside
the oracle's, which knows the generating process and all of its state. With a file of measurements also the whole table
of `pba evaluate`, over all forecasts and over those of the last fifth of each link.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import METRICS
from pba_service.domain.simulate import LinkSimulator
from pba_service.domain.window import horizon_ms
from pba_service.evaluation import replay, score_all, summarise, text_table
from pba_service.evaluation.scores import SIMPLE, forecasts
from pba_service.files import read_links
from pba_service.runtime.session import load_model

if TYPE_CHECKING:
    from pba_service.engine.ports import Model
    from pba_service.evaluation import Replayed

START_MS = 1_770_000_000_000
MINUTE_MS = 60_000
WARM_UP = 1_000
"""Forecasts of a simulated link that are not scored: what is asked is what its structure is worth once it is known."""

LAST_FIFTH = 0.2


def simulated(model: Model, links: int, samples: int, cadence_ms: int) -> str:
    """One line for each kind of link."""
    lines = [f"{'simulated kind':<20}" + "".join(f"{name:>34}" for name in METRICS)]
    lines += [f"{'':<20}" + f"{'to best simple':>22}{'to oracle':>12}" * len(METRICS)]
    for kind, profile in PROFILES.items():
        simulators = {f"{kind}/{seed}": LinkSimulator(profile, seed) for seed in range(links)}
        end_ms = START_MS + samples * cadence_ms
        series = {name: simulator.measured(START_MS, end_ms, cadence_ms) for name, simulator in simulators.items()}
        ahead_ms = int(horizon_ms(np.array([cadence_ms]), PRODUCT_HORIZON_MS)[0])
        logs = [
            compared(link, simulators[link.link_id], ahead_ms)
            for link in replay(series, model, base_ms=MINUTE_MS)
            if len(link)
        ]
        ratios = np.exp(np.nanmean(logs, axis=0))
        lines += [f"{kind:<20}" + "".join(f"{to_best:>22.3f}{to_oracle:>12.3f}" for to_best, to_oracle in ratios)]
    return "\n".join(lines)


def compared(link: Replayed, simulator: LinkSimulator, ahead_ms: int) -> np.ndarray:
    """Log ratio of the served error to the best simple forecaster's and to the oracle's: float64[4, 2]."""
    oracle = simulator.oracle(link.made_at_ms, ahead_ms)
    said = forecasts(link)
    logs = np.full((len(METRICS), 2), np.nan)
    for column in range(len(METRICS)):
        actual = link.actual[WARM_UP:, column]
        known = np.isfinite(actual) & np.isfinite(link.values[WARM_UP:, column])

        def error(values: np.ndarray, column: int = column, known: np.ndarray = known) -> float:
            miss = values[WARM_UP:, column][known].astype(np.float64) - link.actual[WARM_UP:, column][known]
            return float(np.abs(miss).mean())

        if known.any():
            served, best = error(link.values), min(error(said[name]) for name in SIMPLE)
            logs[column] = np.log([served / best, served / error(oracle)])
    return logs


def measured(model: Model, traces: Path) -> str:
    """The tables of a file of measurements."""
    replayed = replay({link.info.link_id: link.series for link in read_links(traces)}, model, base_ms=MINUTE_MS)
    tables = []
    for name, part in (("all forecasts", 1.0), ("the last fifth of each link", LAST_FIFTH)):
        scored = score_all(replayed, lambda link_id: link_id.partition("/")[0], part=part)
        tables.append(f"{name}\n{text_table(summarise(scored))}")
    return "\n\n".join(tables)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/pba_lstm"))
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--links", type=int, default=3)
    parser.add_argument("--samples", type=int, default=4_000)
    parser.add_argument("--cadence", type=int, default=5, help="minutes")
    options = parser.parse_args()
    if options.samples <= WARM_UP:
        parser.error(f"samples must be more than the {WARM_UP} that are not scored")
    model = load_model(options.model)
    sys.stdout.write(simulated(model, options.links, options.samples, options.cadence * MINUTE_MS) + "\n")
    if options.traces:
        sys.stdout.write("\n" + measured(model, options.traces) + "\n")


if __name__ == "__main__":
    main()
