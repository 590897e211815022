"""What the training loop needs to know of a model, and the recipe of the documented one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES
from pba_service.training.dataset import TRAIN, TooFewExamplesError
from pba_service.training.export import bandwidth_lstm_graph
from pba_service.training.losses import masked_huber
from pba_service.training.network import WINDOW_SLOTS, bandwidth_lstm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pba_service.training.dataset import Examples


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows as Keras reads them.

    Attributes:
        inputs: Arrays with one row per training row, in the order of the network's inputs.
        y: float32[rows, ..., 2], targets and their weights (0 where absent).
        part: int8[rows], of the split.
        group: int32[rows], the (link, metric) a row counts to; each collection counts alike, then each group in it.
        collection: int32[rows]; for a model of single metrics, a (collection, metric).
        simulated: bool[rows], whether it comes from the simulator.
    """

    inputs: tuple[NDArray[np.float32], ...]
    y: NDArray[np.float32]
    part: NDArray[np.int8]
    group: NDArray[np.int32]
    collection: NDArray[np.int32]
    simulated: NDArray[np.bool_]

    def at(self, rows: NDArray[np.intp]) -> tuple[Any, NDArray[np.float32]]:
        """Some rows as Keras wants them."""
        inputs = tuple(column[rows] for column in self.inputs)
        return inputs if len(inputs) > 1 else inputs[0], self.y[rows]

    def sampling_weights(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """float64[rows], summing to 1 over the chosen rows, 0 elsewhere."""
        weight = np.zeros(len(self.part))
        usable = chosen & (self.y[..., 1].reshape(len(self.y), -1) > 0).any(axis=1)
        for collection in np.unique(self.collection[usable]):
            of_collection = usable & (self.collection == collection)
            groups, inverse, counts = np.unique(self.group[of_collection], return_inverse=True, return_counts=True)
            # a tiny collection weighs a little less: its rows would be repeated too often
            share = min(counts.sum(), LARGE_COLLECTION_ROWS) ** SIZE_EXPONENT
            weight[of_collection] = share / len(groups) / counts[inverse]
        real, simulated = weight[~self.simulated].sum(), weight[self.simulated].sum()
        if real > 0 and simulated > 0:
            weight[self.simulated] *= SIMULATED_SHARE / (1 - SIMULATED_SHARE) * real / simulated
        total = weight.sum()
        if total == 0:
            raise TooFewExamplesError("no target to train on")
        result: NDArray[np.float64] = weight / total
        return result


LARGE_COLLECTION_ROWS = 20_000
SIZE_EXPONENT = 0.25
SIMULATED_SHARE = 0.3
"""Of the rows drawn, when there are real ones too."""


class Recipe(Protocol):
    """How one model is prepared, built, scored and written."""

    name: str
    slots: int
    horizons_s: tuple[int, ...]
    quantiles: tuple[float, ...]

    def fit(self, examples: Examples) -> None:
        """Learns scalings from the training part."""

    def table(self, examples: Examples) -> Table:
        """Turns examples into rows."""

    def network(self) -> Any:
        """The Keras network, untrained."""

    def loss(self) -> Any:
        """The Keras loss."""

    def resolution(self, examples: Examples) -> NDArray[np.float32]:
        """float32[n, 4], added to the forecasts that parity is relative to: nothing finer is meant by float32 there."""

    def graph(self, network: Any) -> bytes:
        """The ONNX model with all pre- and post-processing."""

    def expected(self, network: Any, examples: Examples) -> NDArray[np.float32]:
        """Keras' own forecast float32[n, H, 4, Q], for the parity check."""


class BandwidthLstm:
    """The documented model, trained as documented: standardised raw values in, standardised raw values out."""

    name = "bandwidth_lstm"
    slots = WINDOW_SLOTS
    horizons_s: tuple[int, ...] = (900,)
    quantiles: tuple[float, ...] = (0.5,)

    def __init__(self) -> None:
        self.mean = np.zeros(len(FEATURES), np.float32)
        self.std = np.ones(len(FEATURES), np.float32)

    def fit(self, examples: Examples) -> None:
        """Takes mean and deviation of each feature, every collection counting alike."""
        rows = examples.part == TRAIN
        newest = examples.windows[rows, -1].astype(np.float64)
        collection = examples.collection[rows]
        counts = np.bincount(collection, minlength=len(examples.collections))
        known = np.isfinite(newest)
        weight = known / counts[collection][:, None]
        total = np.maximum(weight.sum(axis=0), 1e-12)
        values = np.where(known, newest, 0)
        mean = (values * weight).sum(axis=0) / total
        variance = (np.square(values - mean) * weight).sum(axis=0) / total
        self.mean = mean.astype(np.float32)
        self.std = np.sqrt(np.where(variance > 0, variance, 1)).astype(np.float32)

    def table(self, examples: Examples) -> Table:
        """One row per window."""
        standard = (examples.windows[:, -self.slots :] - self.mean) / self.std
        m = len(METRICS)
        y = (examples.targets[:, 0] - self.mean[:m]) / self.std[:m]
        weight = np.isfinite(y) & np.isfinite(standard[:, -1, :m])
        return Table(
            inputs=(np.nan_to_num(standard).astype(np.float32),),
            y=np.stack([np.where(weight, y, 0), weight], axis=-1).astype(np.float32),
            part=examples.part,
            group=examples.link,
            collection=examples.collection,
            simulated=examples.simulated,
        )

    def network(self) -> Any:
        """The documented topology."""
        return bandwidth_lstm()

    def loss(self) -> Any:
        """Huber over what was measured."""
        return masked_huber()

    def resolution(self, examples: Examples) -> NDArray[np.float32]:
        """The deviation that forecasts are multiplied with."""
        return np.broadcast_to(self.std[: len(METRICS)], (len(examples), len(METRICS)))

    def graph(self, network: Any) -> bytes:
        """The ONNX model."""
        return bandwidth_lstm_graph(network, self.mean, self.std)

    def expected(self, network: Any, examples: Examples) -> NDArray[np.float32]:
        """Keras' forecast in raw units: float32[n, 1, 4, 1]."""
        m = len(METRICS)
        inputs = self.table(examples).inputs[0]
        values = np.asarray(network.predict(inputs, batch_size=1024, verbose=0)) * self.std[:m] + self.mean[:m]
        limited = np.clip(values, 0, np.array([np.inf, np.inf, 1, np.inf], np.float32))
        absent = ~np.isfinite(examples.windows[:, -self.slots :, :m]).any(axis=1)
        result: NDArray[np.float32] = np.where(absent, np.nan, limited).astype(np.float32)[:, None, :, None]
        return result
