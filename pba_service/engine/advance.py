"""From snapshots of links to their predictions: the pure middle of the engine.

For each link every sample newer than the last one its learned state has seen is advanced over, in order, as if each had
been predicted from the moment it arrived; the last of them gives the prediction. So a backlog, a restart or a
back-dated history teaches a link as much as living through it would have. A link without new samples (one of its older
samples was corrected or came late) is predicted again from its newest sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online
from pba_service.domain.columns import Columns
from pba_service.domain.errors import HistoryTooShortError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, Prediction, Source
from pba_service.domain.samples import METRICS
from pba_service.domain.window import CADENCE_INTERVALS, MIN_SLOTS, horizon_ms, steps_ms, windows_at
from pba_service.domain.window_columns import windows_of
from pba_service.engine.ports import Commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pba_service.domain.forecast import LedgerEntry
    from pba_service.domain.online.state import States
    from pba_service.domain.samples import Series
    from pba_service.domain.window import Windows
    from pba_service.engine.ports import Model, ModelInfo, Snapshot

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
    """

    commit: Commit | None
    prediction: Prediction | HistoryTooShortError
    step_ms: int


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
    last = int(online.last_made_at_ms(online.decode([snapshot.state.blob]))[0])
    return context_ms(step, slots, min(int(times[-1]) - last, options.catch_up * step))


def horizon_index(model: Model) -> int:
    """Which of the model's horizons is the product's."""
    distances = [abs(horizon - PRODUCT_HORIZON_MS) for horizon in model.info.horizons_ms]
    return distances.index(min(distances))


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """n links as they are before they are advanced.

    Attributes:
        link_ids: Which.
        columns: Their newest samples.
        states: STATE[n], their learned states; `finish` changes them in place.
        versions: The version of each state.
    """

    link_ids: Sequence[str]
    columns: Columns
    states: States
    versions: Sequence[int]

    @staticmethod
    def of(snapshots: Sequence[Snapshot]) -> Links:
        """The links of some snapshots that hold samples."""
        return Links(
            [snapshot.link_id for snapshot in snapshots],
            Columns.of([snapshot.recent for snapshot in snapshots]),
            online.decode([snapshot.state.blob for snapshot in snapshots]),
            [snapshot.state.version for snapshot in snapshots],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Links and the windows that a model has to see before they can go on.

    Attributes:
        links: The links.
        link: int[k], which of them each window is of, non-decreasing; of one link the oldest window comes first.
        place: int[k], the place of each window's newest sample in the columns.
        windows: The k windows.
    """

    links: Links
    link: NDArray[np.intp]
    place: NDArray[np.intp]
    windows: Windows


def prepare(links: Links, slots: int, options: Options) -> Prepared:
    """The windows that end at the samples which each link's state has not seen; at the newest where it saw all."""
    columns = links.columns
    every = np.arange(len(columns))
    first_new = columns.places_after(online.last_made_at_ms(links.states), every)
    oldest = np.maximum(columns.last + 1 - options.catch_up, columns.first)
    start = np.maximum(np.minimum(first_new, columns.last), oldest)
    count = columns.last + 1 - start
    link = np.repeat(every, count)
    place = np.arange(len(link)) + np.repeat(start - np.cumsum(count) + count, count)
    return Prepared(links, link, place, windows_of(columns.up_to(link, place), slots, options.base_ms))


def infer(prepared: Prepared, model: Model) -> NDArray[np.float32]:
    """float32[usable windows, 4, levels], what the model says at the product's horizon; the only costly part."""
    windows, usable = prepared.windows, prepared.windows.usable
    if usable.all():
        return model.predict(windows.values, windows.step_ms)[:, horizon_index(model)]
    if not usable.any():
        return np.empty((0, len(METRICS), len(model.info.quantile_levels)), np.float32)
    return model.predict(windows.values[usable], windows.step_ms[usable])[:, horizon_index(model)]


def finish(prepared: Prepared, outputs: NDArray[np.float32], info: ModelInfo) -> list[Advanced]:
    """Advances the states over the windows, in order of time; one result per link, in order."""
    links, windows = prepared.links, prepared.windows
    usable = np.flatnonzero(windows.usable)
    link = prepared.link[usable]
    starts = np.flatnonzero(np.diff(link, prepend=-1))
    turn = np.arange(len(link)) - np.repeat(starts, np.diff(starts, append=len(link)))
    newest = prepared.place == links.columns.last[prepared.link]
    predictions: list[Prediction | None] = [None] * len(links.link_ids)
    entries: list[list[LedgerEntry]] = [[] for _ in links.link_ids]
    for k in range(int(turn.max(initial=-1)) + 1):
        of_turn = np.flatnonzero(turn == k)
        window, rows = usable[of_turn], link[of_turn]
        made_at, step = windows.made_at_ms[window], windows.step_ms[window]
        every = len(rows) == len(links.states)
        result = online.advance(
            links.states if every else links.states[rows],
            series=links.columns.up_to(rows, prepared.place[window]),
            made_at_ms=made_at,
            step_ms=step,
            target_ms=made_at + horizon_ms(step, PRODUCT_HORIZON_MS),
            windows=windows.values if len(window) == len(windows.values) else windows.values[window],
            model_output=outputs if len(of_turn) == len(outputs) else outputs[of_turn],
            levels=info.quantile_levels,
            model_version=info.version,
        )
        if not every:
            links.states[rows] = result.states
        made = _predictions([links.link_ids[i] for i in rows.tolist()], made_at, step, result.forecasts, info.version)
        for i, prediction, closed, last in zip(
            rows.tolist(), made, result.entries, newest[window].tolist(), strict=True
        ):
            entries[i].extend(closed)
            if last:
                predictions[i] = prediction

    blobs = online.encode(links.states)
    advanced = np.zeros(len(links.link_ids), np.bool_)
    advanced[link] = True
    last_window = np.cumsum(np.bincount(prepared.link, minlength=len(links.link_ids))) - 1
    steps = windows.step_ms[last_window].tolist()
    return [
        Advanced(
            Commit(link_id, links.versions[i], blobs[i], predictions[i], tuple(entries[i])) if advanced[i] else None,
            predictions[i] or _too_short(link_id, windows, int(last_window[i])),
            steps[i],
        )
        for i, link_id in enumerate(links.link_ids)
    ]


def advance(snapshots: Sequence[Snapshot], model: Model, options: Options) -> list[Advanced]:
    """Advances links over their new samples; one result per snapshot, in order."""
    prepared = prepare(Links.of(snapshots), model.info.window_slots, options)
    return finish(prepared, infer(prepared, model), model.info)


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
    [made] = _predictions([link_id], window.made_at_ms, window.step_ms, forecasts, model.info.version)
    return replace(made, source=Source.CALLER_WINDOW)


def _predictions(
    link_ids: Sequence[str],
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    forecasts: online.Forecasts,
    model_version: str,
) -> list[Prediction]:
    times = (made_at_ms.tolist(), step_ms.tolist(), forecasts.target_ms.tolist())
    said = (forecasts.values, forecasts.quantiles, forecasts.confidence.tolist())
    return [
        Prediction(link_id, made_at, step, target, values, quantiles, sure, model_version, Source.COMBINED)
        for link_id, made_at, step, target, values, quantiles, sure in zip(link_ids, *times, *said, strict=True)
    ]


def _too_short(link_id: str, windows: Windows, position: int = 0) -> HistoryTooShortError:
    have, step = int(windows.have[position]), int(windows.step_ms[position])
    return HistoryTooShortError(
        link_id, have=have, need=MIN_SLOTS, retry_after_s=max(MIN_SLOTS - have, 1) * step / 1000
    )
