"""Looks behind a prediction: what was learned of the link, what the forecast rests on, what lies further out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain import online, parts
from pba_service.domain.errors import LinkUnknownError, ModelUnavailableError
from pba_service.domain.explain import explain
from pba_service.domain.forecast import PRODUCT_HORIZON_MS, QUANTILES
from pba_service.domain.online import EXPERTS
from pba_service.domain.window import horizon_ms, windows_at
from pba_service.engine.advance import horizon_index

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from pba_service.domain.explain import Explanation
    from pba_service.domain.online import LinkRecord
    from pba_service.domain.samples import Series
    from pba_service.domain.window import Windows
    from pba_service.engine.advance import Options
    from pba_service.engine.ports import Model, Snapshot, Store
    from pba_service.engine.refresh import Refresher


@dataclass(frozen=True, slots=True, eq=False)
class PathPoint:
    """The model's own forecast at one horizon: float32[4, 5] at `domain.forecast.QUANTILES`, NaN for none."""

    horizon_ms: int
    quantiles: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PredictionExplained:
    """What a link's prediction rests on.

    Attributes:
        model: The inputs of the model's forecast.
        weights: float32[4, experts], what each of `domain.online.EXPERTS` counts for.
        forecasts: float32[4, experts], what each says; the served values are the sums of the products.
    """

    model: Explanation
    weights: NDArray[np.float32]
    forecasts: NDArray[np.float32]

    @property
    def experts(self) -> tuple[str, ...]:
        """Names along the expert axis."""
        return EXPERTS


class Insight:
    """Answers from the samples as they are now; stores nothing."""

    def __init__(self, store: Store, refresher: Refresher, worker: Executor, options: Options) -> None:
        self._store = store
        self._refresher = refresher
        self._worker = worker
        self._options = options

    async def record(self, link_id: str) -> LinkRecord:
        """What was learned of a link. Raises `LinkUnknownError`."""
        [snapshot] = await self._store.snapshots([link_id], [0])
        if snapshot is None:
            raise LinkUnknownError(link_id)
        return online.records(online.decode([parts.split(snapshot.state.blob)[0]]))[0]

    async def path(self, link_id: str) -> list[PathPoint]:
        """The model's forecasts at all of its horizons, for a link that was just predicted."""
        snapshot, model = await self._read(link_id)
        return await self._path(snapshot.recent, model)

    async def path_of(self, series: Series) -> list[PathPoint]:
        """The same for a caller's own samples, of which there are enough."""
        model = self._refresher.model
        if model is None:
            raise ModelUnavailableError
        return await self._path(series, model)

    async def explain(self, link_id: str) -> PredictionExplained:
        """What the forecast of a link that was just predicted rests on."""
        snapshot, model = await self._read(link_id)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, _explained, snapshot, model, self._options)

    async def _path(self, series: Series, model: Model) -> list[PathPoint]:
        return await asyncio.get_running_loop().run_in_executor(self._worker, _path, series, model, self._options)

    async def _read(self, link_id: str) -> tuple[Snapshot, Model]:
        [route] = await self._refresher.router.routes([link_id])
        snapshots = await self._refresher.read([link_id], route.window_slots)
        if not snapshots:
            raise LinkUnknownError(link_id)
        return snapshots[0], route.serving


def _newest_window(series: Series, model: Model, options: Options) -> Windows:
    return windows_at(series, np.array([len(series) - 1]), model.info.window_slots, options.base_ms)


def _path(series: Series, model: Model, options: Options) -> list[PathPoint]:
    window = _newest_window(series, model, options)
    output = model.predict(window.values, window.step_ms)[0]  # float32[horizons, 4, levels]
    levels = model.info.quantile_levels
    columns = [levels.index(level) if level in levels else None for level in QUANTILES]
    points: dict[int, PathPoint] = {}
    for at, ahead_ms in _horizons(model, window.step_ms):
        quantiles = np.full((output.shape[1], len(QUANTILES)), np.nan, np.float32)
        for position, column in enumerate(columns):
            if column is not None:
                quantiles[:, position] = output[at, :, column]
        points.setdefault(ahead_ms, PathPoint(ahead_ms, quantiles))
    return sorted(points.values(), key=lambda point: point.horizon_ms)


def _horizons(model: Model, step_ms: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Position and length of each of a model's horizons on a cadence, int64[1].

    On a slow cadence several come to the same: the product's, on which predictions rest, is first, then the nearest.
    """
    ahead = [int(horizon_ms(step_ms, nominal_ms)[0]) for nominal_ms in model.info.horizons_ms]
    off = [abs(nominal_ms - ahead_ms) for nominal_ms, ahead_ms in zip(model.info.horizons_ms, ahead, strict=True)]
    order = sorted(range(len(ahead)), key=lambda at: (at != horizon_index(model), off[at]))
    return [(at, ahead[at]) for at in order]


def _explained(snapshot: Snapshot, model: Model, options: Options) -> PredictionExplained:
    window = _newest_window(snapshot.recent, model, options)
    levels, at = model.info.quantile_levels, horizon_index(model)
    median = int(np.argmin(np.abs(np.array(levels) - 0.5)))

    def forecast(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return model.predict(windows, np.repeat(window.step_ms, len(windows)))[:, at, :, median]

    weights, forecasts = online.contributions(
        online.decode([parts.split(snapshot.state.blob)[0]]),
        series=[snapshot.recent],
        made_at_ms=window.made_at_ms,
        step_ms=window.step_ms,
        target_ms=window.made_at_ms + horizon_ms(window.step_ms, PRODUCT_HORIZON_MS),
        windows=window.values,
        model_output=model.predict(window.values, window.step_ms)[:, at],
        levels=levels,
    )
    return PredictionExplained(explain(window.values[0], forecast), weights[0], forecasts[0])
