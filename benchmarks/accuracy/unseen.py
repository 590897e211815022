"""How good forecasts are on links whose collection the model never saw.

`python -m benchmarks.accuracy.unseen --traces FILE --work FOLDER [--folds 4]`

Collections are dealt to folds. For each fold a model is trained without its collections, exactly as `pba train` trains
the shipped one, and the fold's links are replayed with it through the code that serves. What is printed is the table of
`pba evaluate` over all links, each forecast by the model that had not seen its collection.

The folds' models are kept in FOLDER: a run that was stopped goes on with the fold it was at, and a later run only
replays. A model is used again as long as it was made of the same measurements with the same options; after a change of
the training code remove FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.evaluation import replay, score_all, summarise, text_table
from pba_service.files import read_links
from pba_service.runtime.session import load_model
from pba_service.training import TrainOptions, dataset, train
from pba_service.training.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import Series
    from pba_service.evaluation import Replayed
    from pba_service.training.dataset import Trace

MINUTE_MS = 60_000
PARTS = (("all forecasts", 1.0), ("the last fifth of each link", 0.2))


def weights(traces: Sequence[Trace]) -> dict[str, float]:
    """How much of what is known each collection holds: its share of the values of each metric, summed.

    So a collection that measures what few others do weighs more, and those end in different folds.
    """
    known: dict[str, NDArray[np.float64]] = {}
    for trace in traces:
        count = np.isfinite(trace.series.values).sum(axis=0).astype(np.float64)
        known[trace.collection] = known.get(trace.collection, 0.0) + count
    total = np.maximum(sum(known.values(), np.zeros(len(METRICS))), 1)
    return {name: float((count / total).sum()) for name, count in known.items()}


def dealt(weight: Mapping[str, float], folds: int) -> list[tuple[str, ...]]:
    """Collections dealt to folds: the heaviest first, each to the fold that is lightest so far."""
    hands: list[list[str]] = [[] for _ in range(folds)]
    for name in sorted(weight, key=lambda name: (-weight[name], name)):
        min(hands, key=lambda hand: sum(weight[other] for other in hand)).append(name)
    return [tuple(sorted(hand)) for hand in hands]


def collection_of(link_id: str) -> str:
    """The part of a link's id up to the first slash."""
    return link_id.partition("/")[0]


def trained(options: TrainOptions, fingerprint: str) -> bool:
    """Whether the model of a run is there already."""
    try:
        record = json.loads((options.output / MANIFEST_FILE).read_text(encoding="utf-8"))["training"]
    except (OSError, ValueError, KeyError):
        return False
    wanted = json.loads(json.dumps(asdict(options), default=str))
    same = all(wanted[name] == value for name, value in record["options"].items() if name != "created_at")
    return bool(same and record["fingerprint_sha256"] == fingerprint)


def replay_fold(traces: Sequence[Trace], held_out: tuple[str, ...], options: TrainOptions) -> list[Replayed]:
    """Trains the fold's model unless it is there, and replays what it has not seen."""
    seen = [trace for trace in traces if trace.collection not in held_out]
    if trained(options, dataset.fingerprint(seen)):
        told(f"{options.output.name} is there")
    else:
        train(options, progress=told)
    links: dict[str, Series] = {
        link.info.link_id: link.series
        for link in read_links(options.data or Path())
        if collection_of(link.info.link_id) in held_out
    }
    model = load_model(options.output)
    shown = 0.0

    def on_progress(share: float) -> None:
        nonlocal shown
        if share >= min(shown + 0.1, 1.0):
            shown = share
            told(f"{options.output.name}: replayed {share:.0%} of {len(links)} links")

    return replay(links, model, base_ms=MINUTE_MS, on_progress=on_progress)


def told(line: str) -> None:
    """Progress goes to standard error, so that standard output is the tables alone."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> None:
    """Trains, replays and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the folds' models, outside the repository")
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    traces = dataset.read_traces(options.traces)
    weight = weights(traces)
    if not 1 < options.folds <= len(weight):
        parser.error(f"folds must be 2 to {len(weight)}, the number of collections")
    replayed: list[Replayed] = []
    for number, held_out in enumerate(dealt(weight, options.folds), start=1):
        told(f"fold {number} of {options.folds}: without {', '.join(held_out)}")
        run = TrainOptions(output=options.work / f"fold-{number}", data=options.traces, hold_out=held_out)
        replayed += replay_fold(traces, held_out, run)
    for name, part in PARTS:
        scored = score_all(replayed, collection_of, part=part)
        sys.stdout.write(f"{name}\n{text_table(summarise(scored))}\n\n")


if __name__ == "__main__":
    main()
