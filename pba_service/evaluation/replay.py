"""What PBA would have said: measurements replayed through the code that serves.

Each link is advanced sample by sample, from the windows that serving builds (`domain.window`), with the model behind
its port and `domain.online` on top. Links run side by side and the model sees them in large batches, which changes no
result: neither looks at anything but its own link's past.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, QUANTILES
from pba_service.domain.online.experts import EXPERTS, SEASONAL, listen, metrics_last
from pba_service.domain.online.intervals import model_quantiles
from pba_service.domain.samples import METRICS, Series
from pba_service.domain.targets import realised
from pba_service.domain.window import horizon_ms, windows_at
from pba_service.engine.advance import horizon_index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from pba_service.engine.ports import Model

BASELINE_SLOTS = 100
"""Simple forecasters see this many slots, however few the model reads."""

BLOCK = 128
"""Samples of each link whose windows are held and inferred at once."""

_DAY_MS = 86_400_000
_MODEL_BATCH = 64
_MEDIAN = QUANTILES.index(0.5)
_MEDIAN_100 = EXPERTS.index(f"median{BASELINE_SLOTS}")


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """One link's forecasts beside what happened, in the order of time.

    Attributes:
        link_id: The link.
        series: Its measurements.
        made_at_ms: int64[n].
        step_ms: int64[n].
        target_ms: int64[n].
        actual: float32[n, 4], of each metric what was measured nearest to the target, at most half a step away; NaN
            where there is nothing.
        values: float32[n, 4], what was served.
        quantiles: float32[n, 4, 5], likewise, at `domain.forecast.QUANTILES`.
        confidence: float32[n], likewise.
        experts: float32[n, 4, experts], what each of `domain.online.EXPERTS` said.
        model: float32[n, 4, 5], the model's own quantiles.
        recent: float32[n, 4, 5], quantiles of the newest `BASELINE_SLOTS` slots.
        without_model: float32[n, 4], what would have been served had there been no model.
    """

    link_id: str
    series: Series
    made_at_ms: NDArray[np.int64]
    step_ms: NDArray[np.int64]
    target_ms: NDArray[np.int64]
    actual: NDArray[np.float32]
    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    confidence: NDArray[np.float32]
    experts: NDArray[np.float32]
    model: NDArray[np.float32]
    recent: NDArray[np.float32]
    without_model: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of forecasts."""
        return len(self.made_at_ms)


def replay(
    links: Mapping[str, Series],
    model: Model,
    *,
    base_ms: int,
    on_progress: Callable[[float], None] | None = None,
) -> list[Replayed]:
    """Replays links; those with too little history for a single forecast are left out.

    Args:
        links: The measurements of each link.
        model: What takes part in the combination.
        base_ms: The configured collection interval.
        on_progress: Told the share of samples that are done.
    """
    runs = [_Run(link_id, series) for link_id, series in links.items() if len(series)]
    states = online.decode([b""] * (2 * len(runs)))  # each link once with the model and once without
    longest = max((len(run.series) for run in runs), default=0)
    for start in range(0, longest, BLOCK):
        blocks = [_block(run, start, model, base_ms) for run in runs]
        for k in range(max(len(block.ends) for block in blocks)):
            rows = [i for i, block in enumerate(blocks) if k < len(block.ends)]
            both = np.array([*rows, *(len(runs) + i for i in rows)])
            advanced = _advance(states[both], [blocks[i] for i in rows], k, model)
            states[both] = advanced.states
            for position, i in enumerate(rows):
                runs[i].keep(advanced, position, len(rows))
        if on_progress:
            on_progress(min((start + BLOCK) / longest, 1.0))
    return [run.result() for run in runs if run.count]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Some of a link's usable windows and the model's answers."""

    series: Series
    ends: NDArray[np.intp]
    made_at_ms: NDArray[np.int64]
    step_ms: NDArray[np.int64]
    windows: NDArray[np.float32]
    output: NDArray[np.float32]

    def past(self, k: int) -> Series:
        """What serving has at hand: samples back to a day before the target, and nothing later than the window."""
        end = int(self.ends[k])
        times = self.series.times_ms
        reach = int(times[end]) - _DAY_MS - int(self.step_ms[k])
        first = int(times[: end + 1].searchsorted(reach))
        return Series(times[first : end + 1], self.series.values[first : end + 1])


class _Run:
    """One link on its way through the replay, its columns filled up to `count`."""

    def __init__(self, link_id: str, series: Series) -> None:
        n, metrics = len(series), len(METRICS)

        def floats(*shape: int) -> NDArray[np.float32]:
            return np.full((n, *shape), np.nan, np.float32)

        self.link_id, self.series, self.count = link_id, series, 0
        self.made_at_ms, self.step_ms = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.values, self.without_model = floats(metrics), floats(metrics)
        self.quantiles, self.confidence = floats(metrics, len(QUANTILES)), floats()
        self.experts = floats(metrics, len(EXPERTS))
        self.model, self.recent = floats(metrics, len(QUANTILES)), floats(metrics, len(QUANTILES))

    def describe(
        self,
        made_at_ms: NDArray[np.int64],
        step_ms: NDArray[np.int64],
        windows: NDArray[np.float32],
        model: NDArray[np.float32],
    ) -> None:
        """Takes what is known of a block's forecasts before they are made."""
        rows = slice(self.count, self.count + len(made_at_ms))
        values = metrics_last(windows)[:, :, -BASELINE_SLOTS:]
        self.made_at_ms[rows], self.step_ms[rows] = made_at_ms, step_ms
        heard = listen(values)
        self.experts[rows] = heard.experts
        self.recent[rows] = np.insert(heard.tails, _MEDIAN, heard.experts[:, :, _MEDIAN_100], axis=2)
        self.model[rows] = model

    def keep(self, advanced: online.Advance, position: int, bare: int) -> None:
        """Takes what a step made of this link: at `position` with the model, `bare` further on without."""
        made, row = advanced.forecasts, self.count
        self.values[row] = made.values[position]
        self.quantiles[row] = made.quantiles[position]
        self.confidence[row] = made.confidence[position]
        self.experts[row, :, SEASONAL:] = advanced.experts[position, :, SEASONAL:]
        self.without_model[row] = made.values[position + bare]
        self.count += 1

    def result(self) -> Replayed:
        """The whole replay of this link."""
        n = self.count
        made_at, step = self.made_at_ms[:n], self.step_ms[:n]
        target = made_at + horizon_ms(step, PRODUCT_HORIZON_MS)
        return Replayed(
            link_id=self.link_id,
            series=self.series,
            made_at_ms=made_at,
            step_ms=step,
            target_ms=target,
            actual=actual_at(self.series, made_at, target, step),
            values=self.values[:n],
            quantiles=self.quantiles[:n],
            confidence=self.confidence[:n],
            experts=self.experts[:n],
            model=self.model[:n],
            recent=self.recent[:n],
            without_model=self.without_model[:n],
        )


def actual_at(
    series: Series, made_at_ms: NDArray[np.int64], target_ms: NDArray[np.int64], step_ms: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What is measured nearest to each target and later than the forecast, at most half a step away: float32[n, 4]."""
    values, measured = realised(series, target_ms, step_ms // 2)
    return np.where(measured > made_at_ms[:, None], values, np.float32(np.nan))


def _block(run: _Run, start: int, model: Model, base_ms: int) -> _Block:
    ends = np.arange(start, min(start + BLOCK, len(run.series)))
    slots = model.info.window_slots
    built = windows_at(run.series, ends, max(slots, BASELINE_SLOTS), base_ms)
    usable = built.usable
    made_at, step, windows = built.made_at_ms[usable], built.step_ms[usable], built.values[usable]
    read = np.ascontiguousarray(windows[:, -slots:])
    output = _infer(read, step, model)
    run.describe(made_at, step, windows, model_quantiles(output, model.info.quantile_levels))
    return _Block(run.series, ends[usable], made_at, step, read, output)


def _infer(windows: NDArray[np.float32], step_ms: NDArray[np.int64], model: Model) -> NDArray[np.float32]:
    """The model's answers at the product's horizon: float32[n, 4, levels]."""
    at = horizon_index(model)
    answers = [
        model.predict(windows[i : i + _MODEL_BATCH], step_ms[i : i + _MODEL_BATCH])[:, at]
        for i in range(0, len(windows), _MODEL_BATCH)
    ]
    return (
        np.concatenate(answers) if answers else np.empty((0, len(METRICS), len(model.info.quantile_levels)), np.float32)
    )


def _advance(states: NDArray[np.void], blocks: list[_Block], k: int, model: Model) -> online.Advance:
    """One step of each link, first with the model and then without."""
    made_at = np.array([block.made_at_ms[k] for block in blocks] * 2)
    step = np.array([block.step_ms[k] for block in blocks] * 2)
    output = np.stack([block.output[k] for block in blocks])
    return online.advance(
        states,
        series=[block.past(k) for block in blocks] * 2,
        made_at_ms=made_at,
        step_ms=step,
        target_ms=made_at + horizon_ms(step, PRODUCT_HORIZON_MS),
        windows=np.stack([block.windows[k] for block in blocks] * 2),
        model_output=np.concatenate([output, np.full_like(output, np.nan)]),
        levels=model.info.quantile_levels,
        model_version=model.info.version,
    )
