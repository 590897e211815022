"""Measures graphs and sgemm in one process, by turns as it is told: one JSON list a line in, one number a line out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.graph import blas
from benchmarks.harness.raw import RawModel


def main(folders: list[str]) -> None:
    """Serves until its input ends."""
    models: dict[tuple[int, int], RawModel] = {}
    for line in sys.stdin:
        match json.loads(line):
            case ["sgemm", seconds, rows, depth, columns]:
                value = blas.flops(seconds, rows, depth, columns)
            case ["windows", place, batch, seconds]:
                if (place, batch) not in models:
                    models[place, batch] = RawModel(Path(folders[place]), batch)
                value = models[place, batch].thread_rate(seconds)
            case other:
                raise ValueError(other)
        print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
