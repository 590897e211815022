"""PBA's own predictions over recorded links: what it would have said at each sample, from the shipped model.

The traces are read from the folder that TRACES_DIR names (dev.parquet: link_id, timestamp and the four metrics); they
are nobody's to hand on, so nothing cut from them is stored beside the results.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from pba_service.domain import online
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, QUANTILES
from pba_service.domain.samples import Series
from pba_service.domain.window import horizon_ms, windows_at
from pba_service.engine.advance import horizon_index
from pba_service.runtime.session import load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ("bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms")
MOST_WINDOWS = 2_500
LEAST_SAMPLES = 600
SCORED_SHARE = 0.2
"""The last part of each link, on which nothing was trained or tuned."""

MODELS = File(__file__).parents[2] / "models"


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A link with what was predicted at its samples.

    Attributes:
        link_id: The link.
        series: Its samples.
        ends: int[n], positions of the samples predicted from; all of them within the scored part.
        step_ms: int64[n], the cadence then.
        horizons_ms: int64[n, h], what the model's horizons are on it.
        model: float32[n, h, 4, 5], its quantiles at `QUANTILES`.
        values: float32[n, 4], the combined prediction at the product's horizon.
        quantiles: float32[n, 4, 5], calibrated.
        confidence: float32[n].
    """

    link_id: str
    series: Series
    ends: NDArray[np.intp]
    step_ms: NDArray[np.int64]
    horizons_ms: NDArray[np.int64]
    model: NDArray[np.float32]
    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    confidence: NDArray[np.float32]


def traces_folder() -> File | None:
    """Where the traces lie; None where there are none."""
    folder = os.environ.get("TRACES_DIR")
    return File(folder) if folder and (File(folder) / "dev.parquet").exists() else None


def links_with_bandwidth(folder: File) -> dict[str, Series]:
    """The samples of each link that measures bandwidth often enough."""
    table = pq.read_table(folder / "dev.parquet")
    names = np.array(table["link_id"].to_pylist())
    times = (table["timestamp"].to_numpy() * 1000).astype(np.int64)
    values = np.stack([table[name].to_numpy() for name in COLUMNS], axis=1).astype(np.float32)
    found = {}
    for name in sorted(set(names.tolist())):
        mask = (names == name) & np.isfinite(values[:, 0])
        if mask.sum() >= LEAST_SAMPLES and np.median(values[mask, 0]) >= 1:
            found[name] = Series.of(times[mask], values[mask])
    return found


def replay(links: dict[str, Series]) -> list[Replay]:
    """Predicts over each link as serving would have, sample after sample; keeps the scored part."""
    found, model = [], load_model(MODELS)
    info, at = model.info, horizon_index(model)
    columns = [info.quantile_levels.index(level) for level in QUANTILES]
    for name, whole in links.items():
        count = len(whole)
        first_scored = int(count * (1 - SCORED_SHARE))
        series = whole
        windows = windows_at(series, np.arange(max(10, count - MOST_WINDOWS), count), info.window_slots, 60_000)
        ends = np.arange(max(10, count - MOST_WINDOWS), count)[windows.usable]
        made, steps = windows.made_at_ms[windows.usable], windows.step_ms[windows.usable]
        inputs = windows.values[windows.usable]
        outputs = np.concatenate(
            [model.predict(inputs[i : i + 64], steps[i : i + 64]) for i in range(0, len(inputs), 64)]
        )
        state, values, quantiles, confidence = online.decode([b""]), [], [], []
        for k in range(len(ends)):
            part = slice(k, k + 1)
            result = online.advance(
                state,
                series=[series],
                made_at_ms=made[part],
                step_ms=steps[part],
                target_ms=made[part] + horizon_ms(steps[part], PRODUCT_HORIZON_MS),
                windows=inputs[part],
                model_output=outputs[part, at],
                levels=info.quantile_levels,
                model_version=info.version,
            )
            state = result.states
            values.append(result.forecasts.values[0])
            quantiles.append(result.forecasts.quantiles[0])
            confidence.append(result.forecasts.confidence[0])
        kept = ends >= first_scored
        found.append(
            Replay(
                name, series, ends[kept], steps[kept],
                np.stack([horizon_ms(steps[kept], horizon) for horizon in info.horizons_ms], axis=1),
                outputs[kept][..., columns], np.array(values)[kept], np.array(quantiles)[kept],
                np.array(confidence, np.float32)[kept],
            )
        )  # fmt: skip
    return found
