"""The recipe of the product's model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.training import features
from pba_service.training.dataset import TRAIN
from pba_service.training.export import pba_lstm_graph
from pba_service.training.losses import pinball
from pba_service.training.network import QUANTILES, gated_lstm
from pba_service.training.onnx_run import OnnxGraph
from pba_service.training.recipes import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.training.dataset import Examples

SLICE = 2048
LEVEL_WEIGHTS = (1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0)
"""The median is the point forecast, which is what is scored first."""
HORIZON_WEIGHTS = (0.15, 0.4, 0.15, 0.15, 0.15)


class GatedLstm:
    """One row per window and present metric; pinball loss in units of the link's own difficulty.

    The loss of each (link, metric, horizon) is divided by the mean absolute error that the median of 10 makes there, so
    that it is the ratio we score and no link drowns another.
    """

    name = "pba_lstm"
    slots = features.SLOTS
    horizons_s: tuple[int, ...] = (300, 900, 1800, 3600, 14400)
    quantiles: tuple[float, ...] = QUANTILES

    def __init__(self) -> None:
        self._prepare = OnnxGraph(features.feature_graph())
        self._difficulty: dict[int, NDArray[np.float32]] = {}

    def prepared(self, examples: Examples) -> dict[str, NDArray[Any]]:
        """Runs the graph's own preparation; `window` is the window of each row."""
        parts = []
        for start in range(0, len(examples), SLICE):
            rows = slice(start, start + SLICE)
            part: dict[str, NDArray[Any]] = self._prepare(
                {"window": examples.windows[rows, -self.slots :], "step_s": examples.step_s[rows]}, SLICE
            )
            part["window"] = part["index"][:, 0].astype(np.int64) + start
            part["metric"] = part["index"][:, 1].astype(np.int64)
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def horizon(self, step_s: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[R, H, 2], as `export.horizon_features`."""
        nominal = np.array(self.horizons_s, np.float32)
        ahead = np.log(np.maximum(np.rint(nominal / step_s[:, None]), 1))
        minutes = np.broadcast_to(np.log(nominal / 900), ahead.shape)
        return np.stack([ahead, minutes], axis=-1).astype(np.float32)

    def transformed(self, raw: NDArray[np.float32], made: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Raw targets float32[R, H] in the space of the network's output."""
        with np.errstate(invalid="ignore"):
            logarithm = np.log(raw / made["scale"] + features.OFFSET)
            result: NDArray[np.float32] = np.where(made["is_loss"] > 0, np.sqrt(raw), logarithm)
        return result

    def fit(self, examples: Examples) -> None:
        """Measures how hard each (link, metric, horizon) is for the median of 10, on the training part."""
        some = examples.take(examples.part == TRAIN)
        made = self.prepared(some)
        error = np.abs(self._targets(some, made) - made["anchors"][:, [features.CENTRE]])
        group = some.link[made["window"]] * len(METRICS) + made["metric"]
        floor = np.where(made["is_loss"] > 0, features.LOSS_NOISE_FLOOR, features.FLOOR)
        for key in np.unique(group):
            rows = error[group == key]
            known = np.isfinite(rows)
            mean = np.where(known, rows, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
            usable = known.any(axis=0)
            self._difficulty[int(key)] = np.where(usable, np.maximum(mean, floor[group == key][0]), np.inf)

    def _targets(self, examples: Examples, made: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self.transformed(examples.targets[made["window"], :, made["metric"]], made)

    def table(self, examples: Examples) -> Table:
        """Rows for Keras, weighted by difficulty."""
        made = self.prepared(examples)
        y = self._targets(examples, made)
        group = (examples.link[made["window"]] * len(METRICS) + made["metric"]).astype(np.int32)
        never = np.full(len(self.horizons_s), np.inf, np.float32)
        keys, inverse = np.unique(group, return_inverse=True)
        difficulty = np.stack([self._difficulty.get(int(key), never) for key in keys])[inverse]
        weight = np.where(np.isfinite(y), 1 / difficulty, 0)
        return Table(
            inputs=self._inputs(examples, made),
            y=np.stack([np.where(weight > 0, y, 0), weight], axis=-1).astype(np.float32),
            part=examples.part[made["window"]],
            group=group,
            collection=(examples.collection[made["window"]] * len(METRICS) + made["metric"]).astype(np.int32),
            simulated=examples.simulated[made["window"]],
        )

    def _inputs(self, examples: Examples, made: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], ...]:
        horizon = self.horizon(examples.step_s[made["window"]])
        return made["steps"], made["context"], made["anchors"], made["spread"], made["slopes"], horizon

    def network(self) -> Any:
        """The gated LSTM."""
        anchors, slopes = len(features.ANCHORS), len(features.SLOPES)
        return gated_lstm(features.CONTEXT, features.NEAR, anchors, slopes, len(self.horizons_s))

    def loss(self) -> Any:
        """Pinball over what was measured."""
        return pinball(QUANTILES, LEVEL_WEIGHTS, HORIZON_WEIGHTS)

    def resolution(self, examples: Examples) -> NDArray[np.float32]:
        """The window's mean, which forecasts are multiplied with; for loss a ratio of 0.001."""
        values = examples.windows[..., : len(METRICS)]
        known = np.isfinite(values)
        mean = np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        mean[:, features.LOSS] = 1e-3
        result: NDArray[np.float32] = np.maximum(mean, 1e-9)
        return result

    def graph(self, network: Any) -> bytes:
        """The ONNX model."""
        return pba_lstm_graph(network, self.horizons_s)

    def expected(self, network: Any, examples: Examples) -> NDArray[np.float32]:
        """Keras' forecast in raw units: float32[n, H, 4, Q]."""
        made = self.prepared(examples)
        quantiles = np.asarray(network.predict(self._inputs(examples, made), batch_size=1024, verbose=0))
        loss = np.square(np.maximum(quantiles, 0))
        other = (np.exp(np.minimum(quantiles, 30)) - features.OFFSET) * made["scale"][:, :, None]
        raw = np.where(made["is_loss"][:, :, None] > 0, np.minimum(loss, 1), np.maximum(other, 0))
        shape = (len(examples), len(METRICS), len(self.horizons_s), len(QUANTILES))
        result = np.full(shape, np.nan, np.float32)
        result[made["window"], made["metric"]] = raw
        return result.transpose(0, 2, 1, 3)
