"""What both sides of experiments forecast for a link, remembered beside its state until it has come true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import parts, trials
from pba_service.domain.forecast import PRODUCT_HORIZON_MS
from pba_service.domain.samples import MAXIMA
from pba_service.domain.window import horizon_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.samples import Series
    from pba_service.domain.window import Windows
    from pba_service.engine.models import Trial
    from pba_service.engine.ports import Model

SPACING_MS = 20_000
"""Of the pairs of an experiment, at least: `trials.MAX_PAIRS` of them must reach over the horizon, twice."""

Outputs = dict[int, "NDArray[np.float32]"]
"""By the id of each model that read the windows: float32[windows, 4, levels] at the product's horizon."""


def try_on(
    extra: Mapping[bytes, bytes], series: Series, windows: Windows, tried: Sequence[Trial], outputs: Outputs
) -> tuple[Mapping[bytes, bytes], trials.Met | None]:
    """Remembers what both sides of each trial forecast, and settles what came true.

    Pairs of experiments that are over stay until their target has come: whoever judges knows which still count.

    Args:
        extra: What is kept beside the link's state.
        series: Its samples up to the newest.
        windows: Those that were read, all of them usable.
        tried: The trials it takes part in.
        outputs: What the models said of these windows.

    Returns:
        What is kept beside the state from now on, and the pairs that met their sample, if any.
    """
    pairs = trials.decode(extra.get(parts.TRIALS, b""))
    if not tried and not len(pairs):
        return extra, None
    for trial in tried:
        pairs = trials.remember(pairs, _pairs(trial, windows, outputs))
    pairs, met = trials.settle(pairs, series, int(series.times_ms[-1]))
    return {**extra, parts.TRIALS: trials.encode(pairs)}, met if len(met) else None


def _pairs(trial: Trial, windows: Windows, outputs: Outputs) -> trials.Pairs:
    """What both sides of a trial forecast for a link: a pair for each window that is not older than the trial."""
    # of a shorter cadence one window in each `SPACING_MS`, which then stands for that time
    cells = [at // SPACING_MS for at in (windows.made_at_ms, windows.made_at_ms - windows.step_ms)]
    counts = (windows.made_at_ms >= trial.experiment.started_at_ms) & (cells[0] != cells[1])
    step, made_at = windows.step_ms[counts], windows.made_at_ms[counts]
    pairs = np.zeros(len(made_at), trials.PAIR)
    pairs["experiment"] = trial.experiment.key
    pairs["tolerance_ms"] = np.maximum(step, SPACING_MS) // 2
    pairs["made_at_ms"] = made_at
    pairs["target_ms"] = made_at + horizon_ms(step, PRODUCT_HORIZON_MS)
    pairs["champion"] = _median(trial.champion, outputs)[counts]
    pairs["challenger"] = _median(trial.challenger, outputs)[counts]
    pairs["last"] = windows.values[counts, -1, : len(MAXIMA)]
    return pairs


def _median(model: Model, outputs: Outputs) -> NDArray[np.float32]:
    """A model's medians, float32[usable windows, 4], within what the contract admits; NaN for what is no number."""
    levels = np.array(model.info.quantile_levels)
    said = outputs[id(model)][:, :, int(np.argmin(np.abs(levels - 0.5)))]
    return np.where(np.isfinite(said), np.clip(said, 0, MAXIMA), np.float32(np.nan))
