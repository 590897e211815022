"""From snapshots of links to their predictions: the pure middle of the engine.

For each link every sample newer than the last one its learned state has seen is advanced over, in order, as if each had
been predicted from the moment it arrived; the last of them gives the prediction. So a backlog, a restart or a
back-dated history teaches a link as much as living through it would have. A link without new samples (one of its older
samples was corrected or came late) is predicted again from its newest sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online, parts, trials
from pba_service.domain.errors import HistoryTooShortError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, Prediction, Source
from pba_service.domain.samples import MAXIMA
from pba_service.domain.window import CADENCE_INTERVALS, MIN_SLOTS, horizon_ms, steps_ms, windows_at
from pba_service.engine.ports import Commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.forecast import LedgerEntry
    from pba_service.domain.samples import Series
    from pba_service.domain.window import Windows
    from pba_service.engine.models import Route, Trial
    from pba_service.engine.ports import Model, Snapshot

    Outputs = dict[int, NDArray[np.float32]]
    """By the id of each model that read a link's windows: float32[usable windows, 4, levels]."""

DAY_MS = 86_400_000

USUAL_BACKLOG = 4
"""New samples of a link since it was last advanced that are read without a second look."""


@dataclass(frozen=True, slots=True)
class Options:
    """How links are advanced.

    Attributes:
        base_ms: The configured collection interval, the finest grid.
        catch_up: The most samples of a backlog that are advanced over; older ones are history only.
    """

    base_ms: int
    catch_up: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """What became of one link.

    Attributes:
        commit: What to write; None when there was too little history for anything.
        prediction: The prediction from the newest sample, or why there is none.
        step_ms: The link's cadence.
        settled: What became of pairs of forecasts that are tried against each other; None where none met its sample.
    """

    commit: Commit | None
    prediction: Prediction | HistoryTooShortError
    step_ms: int
    settled: trials.Settled | None = None


def context_ms(step_ms: int, slots: int, backlog_ms: int = 0) -> int:
    """How much of a link's past to read before its newest sample.

    Args:
        step_ms: Its cadence.
        slots: The slots a model reads.
        backlog_ms: How far before its newest sample it was advanced last; up to `USUAL_BACKLOG` steps are allowed for.

    Returns:
        Enough for the oldest window, for what fills its oldest slot and tells its cadence, for the samples that
        forecasts still waiting for their target are compared with, and for the time of the target a day before.
    """
    backlog_ms = max(backlog_ms, USUAL_BACKLOG * step_ms)
    window_ms = (slots + CADENCE_INTERVALS) * step_ms + PRODUCT_HORIZON_MS
    return max(window_ms, DAY_MS + step_ms) + backlog_ms


def wanted_context_ms(snapshot: Snapshot, slots: int, options: Options) -> int:
    """How much of the past of a link must be read before it can be advanced, judged by a first look at it."""
    times = snapshot.recent.times_ms
    step = int(steps_ms(times, np.array([len(times) - 1]), options.base_ms)[0])
    last = int(online.last_made_at_ms(online.decode([parts.split(snapshot.state.blob)[0]]))[0])
    return context_ms(step, slots, min(int(times[-1]) - last, options.catch_up * step))


def horizon_index(model: Model) -> int:
    """Which of the model's horizons is the product's."""
    distances = [abs(horizon - PRODUCT_HORIZON_MS) for horizon in model.info.horizons_ms]
    return distances.index(min(distances))


def advance(snapshots: Sequence[Snapshot], routes: Sequence[Route], options: Options) -> list[Advanced]:
    """Advances links over their new samples; one result per snapshot, in order.

    Args:
        snapshots: The links.
        routes: The models of each.
        options: How they are advanced.
    """
    stored = [parts.split(snapshot.state.blob) for snapshot in snapshots]
    states = online.decode([blob for blob, _ in stored])
    last = online.last_made_at_ms(states)
    windows = [
        windows_at(snapshot.recent, _ends(snapshot.recent, int(seen), options), route.window_slots, options.base_ms)
        for snapshot, route, seen in zip(snapshots, routes, last, strict=True)
    ]
    usable = [window.usable for window in windows]
    outputs = _infer(windows, usable, routes)

    predictions: list[Prediction | None] = [None] * len(snapshots)
    entries: list[list[LedgerEntry]] = [[] for _ in snapshots]
    todo = [np.flatnonzero(mask) for mask in usable]
    for k in range(max((len(ends) for ends in todo), default=0)):
        waiting = [i for i, ends in enumerate(todo) if k < len(ends)]
        for model, links in _by_model(waiting, routes):
            at = [int(todo[i][k]) for i in links]
            made_at = np.array([windows[i].made_at_ms[j] for i, j in zip(links, at, strict=True)])
            step = np.array([windows[i].step_ms[j] for i, j in zip(links, at, strict=True)])
            slots = model.info.window_slots
            result = online.advance(
                states[links],
                series=[snapshots[i].recent for i in links],
                made_at_ms=made_at,
                step_ms=step,
                target_ms=made_at + horizon_ms(step, PRODUCT_HORIZON_MS),
                windows=np.stack([windows[i].values[j, -slots:] for i, j in zip(links, at, strict=True)]),
                model_output=np.stack([outputs[i][id(model)][k] for i in links]),
                levels=model.info.quantile_levels,
                model_version=model.info.version,
            )
            states[links] = result.states
            for position, (i, j) in enumerate(zip(links, at, strict=True)):
                entries[i].extend(result.entries[position])
                if j == len(windows[i].made_at_ms) - 1:
                    predictions[i] = _prediction(
                        snapshots[i].link_id,
                        step_ms=int(step[position]),
                        made_at_ms=int(made_at[position]),
                        forecasts=result.forecasts,
                        position=position,
                        model_version=model.info.version,
                        source=Source.COMBINED,
                    )

    advanced = []
    for i, (snapshot, blob) in enumerate(zip(snapshots, online.encode(states), strict=True)):
        prediction = predictions[i] or _too_short(snapshot.link_id, windows[i])
        step_ms = int(windows[i].step_ms[-1])
        if not len(todo[i]):
            advanced.append(Advanced(None, prediction, step_ms))
            continue
        extra, settled = _try(snapshot, stored[i][1], windows[i], routes[i].trials, outputs[i])
        commit = Commit(
            snapshot.link_id, snapshot.state.version, parts.join(blob, extra), predictions[i], tuple(entries[i])
        )
        advanced.append(Advanced(commit, prediction, step_ms, settled))
    return advanced


def _by_model(links: Sequence[int], routes: Sequence[Route]) -> list[tuple[Model, list[int]]]:
    """Links together with those that the same model serves."""
    groups: dict[int, tuple[Model, list[int]]] = {}
    for i in links:
        groups.setdefault(id(routes[i].serving), (routes[i].serving, []))[1].append(i)
    return list(groups.values())


def _try(
    snapshot: Snapshot, extra: dict[bytes, bytes], windows: Windows, tried: Sequence[Trial], outputs: Outputs
) -> tuple[dict[bytes, bytes], trials.Settled | None]:
    """Remembers what both sides of each trial forecast, and settles what came true.

    Pairs of experiments that are over stay until their target has come: whoever judges knows which still count.
    """
    pairs = trials.decode(extra.get(parts.TRIALS, b""))
    if not tried and not len(pairs):
        return extra, None
    for trial in tried:
        pairs = trials.remember(pairs, _pairs(trial, windows, outputs))
    pairs, met = trials.settle(pairs, snapshot.recent, int(windows.made_at_ms[-1]))
    extra = {**extra, parts.TRIALS: trials.encode(pairs)}
    return extra, trials.Settled(snapshot.link_id, met) if len(met) else None


def _pairs(trial: Trial, windows: Windows, outputs: Outputs) -> trials.Pairs:
    """What both sides of a trial forecast for a link: a pair for each window that is not older than the trial."""
    counts = windows.made_at_ms[windows.usable] >= trial.experiment.started_at_ms
    step, made_at = windows.step_ms[windows.usable][counts], windows.made_at_ms[windows.usable][counts]
    pairs = np.zeros(len(made_at), trials.PAIR)
    pairs["experiment"] = trial.experiment.key
    pairs["tolerance_ms"] = step // 2
    pairs["made_at_ms"] = made_at
    pairs["target_ms"] = made_at + horizon_ms(step, PRODUCT_HORIZON_MS)
    pairs["champion"] = _median(trial.champion, outputs)[counts]
    pairs["challenger"] = _median(trial.challenger, outputs)[counts]
    pairs["last"] = windows.values[windows.usable][counts, -1, : len(MAXIMA)]
    return pairs


def _median(model: Model, outputs: Outputs) -> NDArray[np.float32]:
    """A model's medians, float32[usable windows, 4], within what the contract admits; NaN for what is no number."""
    levels = np.array(model.info.quantile_levels)
    said = outputs[id(model)][:, :, int(np.argmin(np.abs(levels - 0.5)))]
    return np.where(np.isfinite(said), np.clip(said, 0, MAXIMA), np.float32(np.nan))


def predict_window(link_id: str, series: Series, model: Model, options: Options) -> Prediction:
    """Predicts from a caller's own samples, with what all links have taught and nothing stored.

    Raises:
        HistoryTooShortError: Fewer than `MIN_SLOTS` consecutive samples.
    """
    if not len(series):
        raise HistoryTooShortError(link_id, have=0, need=MIN_SLOTS, retry_after_s=MIN_SLOTS * options.base_ms / 1000)
    window = windows_at(series, np.array([len(series) - 1]), model.info.window_slots, options.base_ms)
    if not window.usable[0]:
        raise _too_short(link_id, window)
    output = model.predict(window.values, window.step_ms)[:, horizon_index(model)]
    forecasts = online.forecast_once(
        windows=window.values,
        step_ms=window.step_ms,
        made_at_ms=window.made_at_ms,
        target_ms=window.made_at_ms + horizon_ms(window.step_ms, PRODUCT_HORIZON_MS),
        model_output=output,
        levels=model.info.quantile_levels,
    )
    return _prediction(
        link_id,
        step_ms=int(window.step_ms[0]),
        made_at_ms=int(window.made_at_ms[0]),
        forecasts=forecasts,
        position=0,
        model_version=model.info.version,
        source=Source.CALLER_WINDOW,
    )


def _ends(series: Series, last_made_at_ms: int, options: Options) -> NDArray[np.intp]:
    """Positions of the samples to advance over; of a link without new ones the newest."""
    count = len(series)
    first = int(np.searchsorted(series.times_ms, last_made_at_ms, side="right"))
    return np.arange(max(min(first, count - 1), count - options.catch_up, 0), count)


def _infer(windows: Sequence[Windows], usable: Sequence[NDArray[np.bool_]], routes: Sequence[Route]) -> list[Outputs]:
    """For each link what each of its models says of its usable windows at the product's horizon.

    Each model runs once, over the windows of all links that it serves or is tried on.
    """
    outputs: list[Outputs] = [{} for _ in windows]
    models = {id(model): model for route in routes for model in route.models}
    for key, model in models.items():
        links = [i for i, route in enumerate(routes) if any(one is model for one in route.models)]
        counts = [int(usable[i].sum()) for i in links]
        said = np.empty((0, len(MAXIMA), len(model.info.quantile_levels)), np.float32)
        if sum(counts):
            slots = model.info.window_slots
            said = model.predict(
                np.concatenate([windows[i].values[usable[i], -slots:] for i in links]),
                np.concatenate([windows[i].step_ms[usable[i]] for i in links]),
            )[:, horizon_index(model)]
        for i, part in zip(links, np.split(said, np.cumsum(counts)[:-1]), strict=True):
            outputs[i][key] = part
    return outputs


def _prediction(
    link_id: str,
    *,
    step_ms: int,
    made_at_ms: int,
    forecasts: online.Forecasts,
    position: int,
    model_version: str,
    source: Source,
) -> Prediction:
    return Prediction(
        link_id=link_id,
        made_at_ms=made_at_ms,
        step_ms=step_ms,
        target_ms=int(forecasts.target_ms[position]),
        values=forecasts.values[position],
        quantiles=forecasts.quantiles[position],
        confidence=float(forecasts.confidence[position]),
        model_version=model_version,
        source=source,
    )


def _too_short(link_id: str, window: Windows) -> HistoryTooShortError:
    have, step = int(window.have[-1]), int(window.step_ms[-1])
    return HistoryTooShortError(
        link_id, have=have, need=MIN_SLOTS, retry_after_s=max(MIN_SLOTS - have, 1) * step / 1000
    )
