"""python -m benchmarks.transfer [--days 1 3] [--effort 0.2] [--traces FILE --models FOLDER]: tuning on little data.

A new deployment has links that the model never saw, and their first days. Three models forecast what comes after those
days: the untuned one, one that `pba retrain` makes of it with these days, and one that it makes from scratch with them.
Errors are of the models' medians 15 minutes ahead, relative to the last value's, geometric mean over links, mean over
collections.

With --traces the links are those of collections that a model held out of its training: FOLDER has such models, as
`python -m benchmarks.accuracy.unseen` keeps them. Without, they are simulated links that the shipped model never saw,
though of kinds that it did.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from pba_service.cli.retrain import trainer
from pba_service.domain.profiles import PROFILES
from pba_service.domain.samples import METRICS
from pba_service.domain.simulate import LinkSimulator
from pba_service.retrain_run import LEAST_LINK_SAMPLES, Job
from pba_service.settings import SHIPPED_MODELS
from pba_service.training import dataset, scores
from pba_service.training.manifest import MANIFEST_FILE, MODEL_FILE
from pba_service.training.onnx_run import OnnxGraph
from pba_service.training.trainer import EXAMPLE_SLOTS, forecast_of, recipe_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.training.dataset import Examples, Trace

START_MS = 1_767_225_600_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
SIMULATED_DAYS = 6
PER_LINK = 2_000
PRODUCT = "pba_lstm"


def simulated() -> list[Trace]:
    """Two links of each kind, with seeds that nothing was trained on."""
    return [
        dataset.Trace(
            name,
            f"{name}-{seed}",
            LinkSimulator(profile, seed).measured(START_MS, START_MS + SIMULATED_DAYS * DAY_MS, MINUTE_MS),
        )
        for name, profile in PROFILES.items()
        for seed in (11, 12)
    ]


def beginning(trace: Trace, days: float) -> Trace:
    """A link's first days."""
    series = trace.series
    kept = series.times_ms < series.times_ms[0] + days * DAY_MS
    return replace(trace, series=replace(series, times_ms=series.times_ms[kept], values=series.values[kept]))


def later(traces: Sequence[Trace], days: float) -> Examples:
    """What is to be forecast after the first days."""
    recipe = recipe_of(PRODUCT)
    examples = dataset.examples_of(
        traces, slots=EXAMPLE_SLOTS, horizons_s=recipe.horizons_s, per_link=PER_LINK, split=(0.0, 0.0)
    )
    first_ms = np.array([trace.series.times_ms[0] for trace in traces])
    return examples.take(examples.made_at_ms >= first_ms[examples.link] + days * DAY_MS)


def errors(folder: Path, examples: Examples) -> dict[str, float]:
    """Of a model, by metric and their mean, relative to the last value."""
    recipe = recipe_of(PRODUCT)
    product, middle = recipe.horizons_s.index(900), recipe.quantiles.index(0.5)
    forecast = forecast_of(OnnxGraph((folder / MODEL_FILE).read_bytes()), recipe, examples)
    return scores.score(examples, {PRODUCT: forecast[:, product, :, middle]}, product)[PRODUCT]


def made(work: Path, parent: Path | None, traces: Sequence[Trace], effort: float) -> Path:
    """A model as `pba retrain` makes it of some links."""
    history = [(trace.link_id, trace.series) for trace in traces]
    output = work / ("tuned" if parent else "scratch")
    trainer(effort, lambda line: print(line, file=sys.stderr))(
        Job(output, parent, history, None, lambda _done, _of: None)
    )
    return output


def compare(parent: Path, traces: Sequence[Trace], days: float, longest: float, effort: float) -> None:
    """Prints the three models' errors on what comes after `longest` days."""
    given = [beginning(trace, days) for trace in traces]
    given = [trace for trace in given if len(trace.series) >= LEAST_LINK_SAMPLES]
    if not given:
        print(f"{days:g} days: no link has {LEAST_LINK_SAMPLES} samples in them")
        return
    examples = later(traces, longest)
    samples = sum(len(trace.series) for trace in given)
    print(
        f"{days:g} days, {samples} samples of {len(given)} links; {len(examples)} later windows of {len(traces)} links"
    )
    with TemporaryDirectory() as folder:
        work = Path(folder)
        rows = {
            "untuned": errors(parent, examples),
            "fine-tuned": errors(made(work, parent, given, effort), examples),
            "from scratch": errors(made(work, None, given, effort), examples),
        }
    names = [name for name in (*METRICS, "mean") if name in rows["untuned"]]
    print(f"  {'':<14}" + "".join(f"{name:>19}" for name in names))
    for row, found in rows.items():
        print(f"  {row:<14}" + "".join(f"{found[name]:>19.3f}" for name in names), flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--effort", type=float, default=0.2, help="PBA_RETRAIN_EFFORT")
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--models", type=Path, help="a folder of models that held collections out of their training")
    told = parser.parse_args()
    longest = max(told.days)
    if told.traces is None:
        print("simulated links, the shipped model")
        for days in told.days:
            compare(SHIPPED_MODELS / PRODUCT, simulated(), days, longest, told.effort)
        return
    if told.models is None:
        parser.error("--traces needs --models")
    traces = dataset.read_traces(told.traces)
    for manifest in sorted(told.models.glob(f"*/{MANIFEST_FILE}")):
        held_out = set(json.loads(manifest.read_text(encoding="utf-8"))["training"]["held_out"])
        long = [
            trace
            for trace in traces
            if trace.collection in held_out
            and trace.series.times_ms[-1] - trace.series.times_ms[0] > (longest + 1) * DAY_MS
        ]
        print(f"{manifest.parent.name}: {len(long)} links of collections that it never saw")
        for days in told.days if long else ():
            compare(manifest.parent, long, days, longest, told.effort)


if __name__ == "__main__":
    main()
