"""From snapshots of links to their predictions: the pure middle of the engine.

For each link every sample newer than the last one its learned state has seen is advanced over, in order, as if each had
been predicted from the moment it arrived; the last of them gives the prediction. So a backlog, a restart or a
back-dated history teaches a link as much as living through it would have. A link without new samples (one of its older
samples was corrected or came late) is predicted again from its newest sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import drift, online, parts, trials
from pba_service.domain.columns import Columns
from pba_service.domain.errors import HistoryTooShortError
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, Prediction, Source
from pba_service.domain.samples import MAXIMA
from pba_service.domain.window import CADENCE_INTERVALS, MIN_SLOTS, Windows, horizon_ms, steps_ms, windows_at
from pba_service.domain.window_columns import windows_of
from pba_service.engine.ports import Commit
from pba_service.engine.trying import try_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.drift import Condition
    from pba_service.domain.forecast import LedgerEntry
    from pba_service.domain.online.state import States
    from pba_service.domain.samples import Series
    from pba_service.engine.models import Route
    from pba_service.engine.ports import Model, Snapshot
    from pba_service.engine.trying import Outputs
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


NO_EXTRA: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(eq=False, slots=True)
class Advanced:
    """What became of one link.

    Attributes:
        commit: What to write; None when there was too little history for anything.
        prediction: The prediction from the newest sample, or why there is none.
        step_ms: The link's cadence.
        extra: What is written with the state (`domain.parts`).
        settled: What became of pairs of forecasts that are tried against each other; None where none met its sample.
    """

    commit: Commit | None
    prediction: Prediction | HistoryTooShortError
    step_ms: int
    extra: Mapping[bytes, bytes]
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


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """n links as they are before they are advanced.

    Attributes:
        link_ids: Which.
        columns: Their newest samples.
        states: STATE[n], their learned states; `finish` changes them in place.
        versions: The version of each state.
        extras: What else is written with each state (`domain.parts`).
    """

    link_ids: Sequence[str]
    columns: Columns
    states: States
    versions: Sequence[int]
    extras: Sequence[Mapping[bytes, bytes]]

    @staticmethod
    def of(snapshots: Sequence[Snapshot]) -> Links:
        """The links of some snapshots that hold samples."""
        stored = [parts.split(snapshot.state.blob) for snapshot in snapshots]
        return Links(
            [snapshot.link_id for snapshot in snapshots],
            Columns.of([snapshot.recent for snapshot in snapshots]),
            online.decode([blob for blob, _ in stored]),
            [snapshot.state.version for snapshot in snapshots],
            [extra for _, extra in stored],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Links of one route, and the windows that its models have to see before they can go on.

    Attributes:
        links: The links.
        route: Their models.
        link: int[k], which of them each window is of, non-decreasing; of one link the oldest window comes first.
        place: int[k], the place of each window's newest sample in the columns.
        windows: The k windows.
    """

    links: Links
    route: Route
    link: NDArray[np.intp]
    place: NDArray[np.intp]
    windows: Windows


def prepare(links: Links, route: Route, options: Options) -> Prepared:
    """The windows that end at the samples which each link's state has not seen; at the newest where it saw all."""
    columns = links.columns
    every = np.arange(len(columns))
    # A window that ends before there can be `MIN_SLOTS` tells nothing.
    too_early_ms = columns.oldest_ms + int((MIN_SLOTS - 1.5) * options.base_ms) - 1
    first_new = columns.places_after(np.maximum(online.last_made_at_ms(links.states), too_early_ms))
    oldest = np.maximum(columns.last + 1 - options.catch_up, columns.first)
    start = np.maximum(np.minimum(first_new, columns.last), oldest)
    count = columns.last + 1 - start
    link = np.repeat(every, count)
    place = np.arange(len(link)) + np.repeat(start - np.cumsum(count) + count, count)
    windows = windows_of(columns.up_to(link, place), route.window_slots, options.base_ms)
    return Prepared(links, route, link, place, windows)


def infer(prepared: Prepared) -> Outputs:
    """What each model says; the only part that costs more than the rest together, and free of Python meanwhile."""
    windows, usable = prepared.windows, prepared.windows.usable
    values, steps = windows.values, windows.step_ms
    if not usable.all():
        values, steps = values[usable], steps[usable]
    outputs = {}
    for model in prepared.route.models:
        said = np.empty((0, len(MAXIMA), len(model.info.quantile_levels)), np.float32)
        if len(values):
            said = model.predict(values[:, -model.info.window_slots :], steps)[:, horizon_index(model)]
        outputs[id(model)] = said
    return outputs


def finish(prepared: Prepared, outputs: Outputs) -> list[Advanced]:
    """Advances the states over the windows, in order of time; one result per link, in order."""
    links, windows = prepared.links, prepared.windows
    usable = np.flatnonzero(windows.usable)
    newest_window = np.searchsorted(prepared.link, np.arange(len(links.link_ids)), side="right") - 1
    steps = windows.step_ms[newest_window].tolist()
    records, conditions = drift.follow([extra.get(parts.DRIFT, b"") for extra in links.extras], links.columns, steps)
    made = _go_on(prepared, usable, outputs[id(prepared.route.serving)], conditions)
    advanced = np.zeros(len(links.link_ids), np.bool_)
    advanced[prepared.link[usable]] = True
    results = []
    for i, (link_id, blob, is_advanced) in enumerate(
        zip(links.link_ids, online.encode(links.states), advanced.tolist(), strict=True)
    ):
        prediction = made.predictions[i] or _too_short(link_id, windows, int(newest_window[i]))
        if not is_advanced:
            results.append(Advanced(None, prediction, steps[i], NO_EXTRA))
            continue
        extra, settled = links.extras[i], None
        if parts.TRIALS in extra or prepared.route.trials:
            extra, settled = _tried(prepared, i, usable, outputs)
        if extra.get(parts.DRIFT) is not records[i]:
            extra = {**extra, parts.DRIFT: records[i]}
        commit = Commit(link_id, links.versions[i], parts.join(blob, extra), made.predictions[i], made.entries[i])
        results.append(Advanced(commit, prediction, steps[i], extra, settled))
    return results


def _tried(
    prepared: Prepared, position: int, usable: NDArray[np.intp], outputs: Outputs
) -> tuple[Mapping[bytes, bytes], trials.Settled | None]:
    """`try_on` for one of the links."""
    links, windows = prepared.links, prepared.windows
    its = np.flatnonzero(prepared.link[usable] == position)
    seen = usable[its]
    extra, met = try_on(
        links.extras[position],
        links.columns.series(position),
        Windows(windows.made_at_ms[seen], windows.step_ms[seen], windows.values[seen], windows.have[seen]),
        prepared.route.trials,
        {model: output[its] for model, output in outputs.items()},
    )
    return extra, trials.Settled(links.link_ids[position], met) if met else None


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of each link's windows: the newest prediction if its newest sample has one, and ledger entries."""

    predictions: list[Prediction | None]
    entries: list[list[LedgerEntry]]


def _go_on(
    prepared: Prepared,
    usable: NDArray[np.intp],
    output: NDArray[np.float32],
    conditions: Sequence[Condition | None],
) -> _Made:
    """Advances the states, each link by one window at a time, the oldest first; conditions go with the newest one."""
    links, windows, info = prepared.links, prepared.windows, prepared.route.serving.info
    link = prepared.link[usable]
    turn = np.arange(len(link)) - link.searchsorted(link)  # how many windows of its link come before each
    newest = prepared.place == links.columns.last[prepared.link]
    made = _Made([None] * len(links.link_ids), [[] for _ in links.link_ids])
    for k in range(int(turn.max(initial=-1)) + 1):
        of_turn = np.flatnonzero(turn == k)
        window, rows = usable[of_turn], link[of_turn]
        made_at, step = windows.made_at_ms[window], windows.step_ms[window]
        every = len(rows) == len(links.states)  # most often each link has one window: then nothing is gathered
        result = online.advance(
            links.states if every else online.take(links.states, rows),
            series=links.columns.up_to(rows, prepared.place[window]),
            made_at_ms=made_at,
            step_ms=step,
            target_ms=made_at + horizon_ms(step, PRODUCT_HORIZON_MS),
            windows=windows.values[window, -info.window_slots :],
            model_output=output[of_turn],
            levels=info.quantile_levels,
            model_version=info.version,
        )
        if not every:
            online.put(links.states, rows, result.states)
        for i, closed in zip(rows.tolist(), result.entries, strict=True):
            made.entries[i] += closed
        last = np.flatnonzero(newest[window])
        forecasts = result.forecasts
        if len(last) < len(rows):
            rows, made_at, step, forecasts = rows[last], made_at[last], step[last], forecasts.take(last)
        places = rows.tolist()
        names, told = [links.link_ids[i] for i in places], [conditions[i] for i in places]
        predictions = _predictions(
            names, made_at_ms=made_at, step_ms=step, forecasts=forecasts, model_version=info.version, conditions=told
        )
        for i, prediction in zip(places, predictions, strict=True):
            made.predictions[i] = prediction
    return made


def advance(snapshots: Sequence[Snapshot], routes: Sequence[Route], options: Options) -> list[Advanced]:
    """Advances links over their new samples; one result per snapshot, in order.

    Args:
        snapshots: The links.
        routes: The models of each.
        options: How they are advanced.
    """
    results: dict[int, Advanced] = {}
    for positions in by_route(routes):
        links = Links.of([snapshots[i] for i in positions])
        prepared = prepare(links, routes[positions[0]], options)
        results |= zip(positions, finish(prepared, infer(prepared)), strict=True)
    return [results[i] for i in range(len(snapshots))]


def by_route(routes: Sequence[Route]) -> list[list[int]]:
    """Positions of links together with those of the same route."""
    if len(set(map(id, routes))) == 1:  # most often all links have the same
        return [list(range(len(routes)))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, route in enumerate(routes):
        groups.setdefault((id(route.serving), *map(id, route.trials)), []).append(i)
    return list(groups.values())


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
    [made] = _predictions(
        [link_id],
        made_at_ms=window.made_at_ms,
        step_ms=window.step_ms,
        forecasts=forecasts,
        model_version=model.info.version,
        conditions=[None],
    )
    return replace(made, source=Source.CALLER_WINDOW)


def _predictions(
    link_ids: Sequence[str],
    *,
    made_at_ms: NDArray[np.int64],
    step_ms: NDArray[np.int64],
    forecasts: online.Forecasts,
    model_version: str,
    conditions: Sequence[Condition | None],
) -> list[Prediction]:
    times = (made_at_ms.tolist(), step_ms.tolist(), forecasts.target_ms.tolist())
    said = (forecasts.values, forecasts.quantiles, forecasts.confidence.tolist())
    always = (repeat(model_version), repeat(Source.COMBINED), repeat(None))
    return list(map(Prediction, link_ids, *times, *said, *always, conditions))


def _too_short(link_id: str, windows: Windows, position: int = 0) -> HistoryTooShortError:
    have, step = int(windows.have[position]), int(windows.step_ms[position])
    return HistoryTooShortError(
        link_id, have=have, need=MIN_SLOTS, retry_after_s=max(MIN_SLOTS - have, 1) * step / 1000
    )
