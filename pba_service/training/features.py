"""The part of the product's graph before the LSTM: one metric of one link becomes scale-free numbers.

Written once, as ONNX operators: training runs this graph to prepare its rows, and the same nodes are the first part of
the exported model. So training and serving cannot prepare differently.

Everything after this point sees values relative to the window only: neither a link's absolute level nor the hour. A
link that was never seen looks like one that was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES
from pba_service.training.graph import Graph
from pba_service.training.network import WINDOW_SLOTS

if TYPE_CHECKING:
    from pba_service.training.graph import Value

SLOTS = 100
"""Window length L of the product's model; the LSTM reads the newest 10, the rest feeds anchors and their errors."""

LOSS = METRICS.index("packet_loss_ratio")
MEDIANS = (5, 10, 30)
MEANS = (3, 10)
EWMA_ALPHAS = (0.3, 0.1)
ANCHORS = (
    "last",
    "median3",
    *(f"median{k}" for k in MEDIANS),
    "remedian99",
    *(f"mean{k}" for k in MEANS),
    "ewma0.3",
    "ewma0.1",
)
CENTRE, LONG, NOW = ANCHORS.index("median10"), ANCHORS.index("median30"), ANCHORS.index("median3")

SLOPES = (20, 45, 90)
"""Slots over which trends are measured, on the running median of 9."""

LAGS = (1, 2, 4, 8, 15, 30)
SMOOTHERS = 4
BACKTEST_SLOTS = 40
LEAST_PAIRS = 5
NOISE_SLOTS = 16
NEAR = len(ANCHORS) + SMOOTHERS * len(LAGS) + len(SLOPES) + 4 + 1 + len(METRICS)
"""Where in the context each anchor's distance from the median of 3 begins, in units of the noise."""
CONTEXT = NEAR + len(ANCHORS) + 1

OFFSET = 0.05
"""Added to value/mean before the logarithm, so that zero has one."""
FLOOR, LOSS_FLOOR = 0.0005, 0.01
"""Smallest spread, in units of the transformed value: quiet round-trip times move by less than a thousandth."""
LOSS_NOISE_FLOOR = 0.003
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Features:
    """Tensors of R channel rows (one metric of one window each).

    Attributes:
        steps: float32[R, 10], newest values in spreads from the centre, asinh, oldest first.
        context: float32[R, CONTEXT].
        anchors: float32[R, len(ANCHORS)], transformed.
        slopes: float32[R, len(SLOPES)], spreads per step.
        spread: float32[R, 1], transformed.
        scale: float32[R, 1], raw units.
        is_loss: bool[R, 1].
    """

    steps: Value
    context: Value
    anchors: Value
    slopes: Value
    spread: Value
    scale: Value
    is_loss: Value


def _sum(graph: Graph, value: Value) -> Value:
    return graph.op("ReduceSum", value, [-1], keepdims=1)


def _middle(graph: Graph, a: Value, b: Value, c: Value) -> Value:
    """Median of three, elementwise."""
    return graph.op("Max", graph.op("Min", a, b), graph.op("Min", graph.op("Max", a, b), c))


@dataclass(frozen=True, slots=True)
class _Run:
    """A running median: float32[R, SLOTS - span + 1], each over `span` slots, oldest first."""

    values: Value
    span: int


def _running_medians(graph: Graph, value: Value) -> list[_Run]:
    """Running medians over 1, 3, 9 and 27 slots; the longer two are medians of medians."""
    runs = [_Run(value, 1)]
    for stride in (1, 3, 9):
        before = runs[-1]
        end = SLOTS - before.span + 1 - 2 * stride
        parts = (before.values[1, k * stride, k * stride + end] for k in range(3))
        runs.append(_Run(_middle(graph, *parts), before.span + 2 * stride))
    return runs


def _median(graph: Graph, recent: Value, known: Value, have: Value, slots: int) -> Value:
    """Median of the `have` (int64[R, 1], at least 1) known ones among float32[R, slots]: float32[R, 1]."""
    ordered, _ = graph.ops("TopK", 2, graph.where(known, recent, np.float32(np.inf)), [slots], largest=0)
    low = graph.op("GatherElements", ordered, graph.op("Div", graph.op("Sub", have, np.int64(1)), np.int64(2)), axis=1)
    high = graph.op("GatherElements", ordered, graph.op("Div", have, np.int64(2)), axis=1)
    # an even count has two middles; of an odd one the upper index is the same
    return (low + high) * 0.5


def _remedian(graph: Graph, run: _Run, age_known: Value) -> Value:
    """Median of the medians over every 9 slots back: nearly the median of 99, for a ninth of the sorting."""
    ends = np.arange(SLOTS - run.span, -1, -run.span)
    picked = graph.op("Gather", run.values, ends, axis=1)
    # the newest always counts; an older one when its oldest slot is known
    known = graph.op("Greater", age_known, np.where(ends == ends[0], 0, SLOTS - 1 - ends).astype(np.float32))
    have = graph.op("Cast", _sum(graph, graph.op("Cast", known, to=1)), to=7)
    return _median(graph, picked, known, have, len(ends))


def _noise(graph: Graph, filled: Value, known: Value, counted: Value, is_loss: Value) -> Value:
    """Median of how far neighbours among the newest slots lie apart: float32[R, 1].

    The spread of a window stays wide for long after a level shift; this knows at once how still the new level is.
    """
    start, stop = SLOTS - NOISE_SLOTS, SLOTS - 1
    apart = graph.op("Abs", filled[1, start, SLOTS] - filled[1, start - 1, stop])
    have = graph.op("Min", graph.op("Sub", counted, np.int64(1)), np.int64(NOISE_SLOTS))
    have = graph.op("Max", have, np.int64(1))
    median = _median(graph, apart, known[1, start - 1, stop], have, NOISE_SLOTS)
    return median + graph.where(is_loss, LOSS_NOISE_FLOOR, FLOOR)


def _backtests(graph: Graph, runs: list[_Run], count: Value, spread: Value) -> Value:
    """How far running medians of 1, 3, 9 and 27 slots missed the newest 40 values at each lag, in spreads.

    The variogram and its smoothed kin: they tell noise from wandering, which decides the anchor to trust.

    Returns:
        float32[R, SMOOTHERS * len(LAGS)], logarithmic; 0 where there are too few pairs.
    """
    pairs = len(runs) * len(LAGS)
    past, oldest_age = [], []
    for run in runs:
        for lag in LAGS:
            stop = SLOTS - run.span + 1 - lag
            past.append(run.values[1, stop - BACKTEST_SLOTS, stop])
            oldest_age.append(np.arange(BACKTEST_SLOTS - 1, -1, -1) + lag + run.span - 1)
    every = graph.reshape(graph.concat(past, 1), [-1, pairs, BACKTEST_SLOTS])
    both = graph.op("Greater", graph.op("Unsqueeze", count, [2]), np.stack(oldest_age).astype(np.float32)[None])
    now = graph.op("Unsqueeze", runs[0].values[1, SLOTS - BACKTEST_SLOTS, SLOTS], [1])
    missed = graph.op("ReduceSum", graph.where(both, graph.op("Abs", now - every), 0.0), [2], keepdims=0)
    ages = np.stack(oldest_age)[:, -1].astype(np.float32)
    compared = graph.clip(count - ages, 0.0, float(BACKTEST_SLOTS))
    ratio = graph.op("Log", missed / graph.op("Max", compared, 1.0) / spread + 0.05)
    return graph.where(graph.op("Less", compared, float(LEAST_PAIRS)), 0.0, ratio)


def _slopes(run: _Run, spread: Value) -> Value:
    """Least-squares slopes of a running median, in spreads per step: float32[R, len(SLOPES)].

    Where history is short the oldest value stands in for what is unknown, which damps the slope.
    """
    length = SLOTS - run.span + 1
    kernel = np.zeros((length, len(SLOPES)), np.float32)
    for column, slots in enumerate(SLOPES):
        centred = np.arange(slots) - (slots - 1) / 2
        kernel[-slots:, column] = centred / np.square(centred).sum()
    slopes: Value = (run.values @ kernel) / spread
    return slopes


def channel_features(graph: Graph, rows: Value, step_s: Value, metric: Value) -> Features:
    """Builds the features.

    Args:
        graph: Receives the nodes.
        rows: float32[R, SLOTS], raw units, oldest first; NaN in older slots where unknown.
        step_s: float32[R, 1].
        metric: float32[R, 4], one-hot.
    """
    known = graph.op("Not", graph.op("IsNaN", rows))
    mask = graph.op("Cast", known, to=1)
    count = graph.op("Max", _sum(graph, mask), 1.0)
    counted = graph.op("Cast", count, to=7)
    raw = graph.where(known, rows, 0.0)
    scale = graph.op("Max", _sum(graph, raw) / count, _TINY)
    is_loss = graph.op("Greater", metric[1, LOSS, LOSS + 1], 0.5)
    value = graph.where(is_loss, graph.op("Sqrt", raw), graph.op("Log", raw / scale + OFFSET))

    oldest_known = graph.op("ArgMax", mask, axis=1, keepdims=1)
    first = graph.op("GatherElements", value, oldest_known, axis=1)
    filled = graph.where(known, value, first)
    runs = _running_medians(graph, filled)
    last = value[1, SLOTS - 1, SLOTS]
    median3 = runs[1].values[1, SLOTS - 3, SLOTS - 2]
    medians = [
        _median(graph, value[1, -k, SLOTS], known[1, -k, SLOTS], graph.op("Min", counted, np.int64(k)), k)
        for k in MEDIANS
    ]
    long = _remedian(graph, runs[2], count)
    ages = np.arange(SLOTS - 1, -1, -1)
    kernels = [(ages < k).astype(np.float32) for k in MEANS] + [(1 - a) ** ages for a in EWMA_ALPHAS]
    kernel = np.stack(kernels, axis=1).astype(np.float32)
    means = ((value * mask) @ kernel) / graph.op("Max", mask @ kernel, 1e-6)
    anchors = graph.concat([last, median3, *medians, long, means], 1)
    centre = anchors[1, CENTRE, CENTRE + 1]
    away = graph.op("Abs", filled - anchors[1, LONG, LONG + 1]) * mask
    near = [_sum(graph, away[1, -k, SLOTS]) / graph.op("Min", count, float(k)) for k in (10, 30, SLOTS)]
    spread = near[1] + graph.where(is_loss, LOSS_FLOOR, FLOOR)
    breadth = graph.op("Log", graph.concat([near[0], near[2]], 1) / spread + 0.05)
    relative = graph.op("Asinh", (anchors - centre) / spread)
    backtests = _backtests(graph, runs, count, spread)
    sizes = graph.concat([graph.op("Log", spread), count * (1.0 / SLOTS), graph.op("Log", step_s * (1 / 300))], 1)
    slopes = _slopes(runs[2], spread)
    trends = graph.op("Asinh", slopes * 10.0)
    noise = _noise(graph, filled, known, counted, is_loss)
    distances = graph.op("Asinh", (anchors - anchors[1, NOW, NOW + 1]) / noise)
    stillness = graph.op("Log", noise / spread)
    context = graph.concat([relative, backtests, trends, breadth, sizes, metric, distances, stillness], 1)
    steps = graph.op("Asinh", (filled[1, -WINDOW_SLOTS, SLOTS] - centre) / spread)
    return Features(steps, context, anchors, slopes, spread, scale, is_loss)


@dataclass(frozen=True, slots=True)
class Channels:
    """The metrics that windows really have.

    Attributes:
        rows: float32[R, SLOTS].
        step_s: float32[R, 1].
        metric: float32[R, 4], one-hot.
        index: int64[R, 2], window and metric of each row.
        window_step_s: float32[n], the graph's input.
        nothing: bool[], whether no window has any metric; then the rows are all of them, and mean nothing.
    """

    rows: Value
    step_s: Value
    metric: Value
    index: Value
    window_step_s: Value
    nothing: Value


def present_channels(graph: Graph) -> Channels:
    """Declares the inputs `window` float32[n, SLOTS, 6] and `step_s` float32[n], and picks the present metrics.

    A metric is present when its newest slot is known; so nothing is computed for what a link does not measure.
    """
    window = graph.input("window", ["n", SLOTS, len(FEATURES)])
    step_s = graph.input("step_s", ["n"])
    values = graph.op("Transpose", window[2, 0, len(METRICS)], perm=[0, 2, 1])
    newest = graph.op("Squeeze", values[2, SLOTS - 1, SLOTS], [2])
    present = graph.op("Not", graph.op("IsNaN", newest))
    some = graph.op("ReduceMax", graph.op("Cast", present, to=1), keepdims=0)
    nothing = graph.op("Less", some, 0.5)
    # ONNX Runtime's LSTM aborts the process on a batch of no rows: without any present metric, all are computed
    index = graph.op("Transpose", graph.op("NonZero", graph.op("Or", present, nothing)), perm=[1, 0])
    rows = graph.op("GatherND", values, index)
    steps = graph.op("Gather", step_s, index[1, 0, 1], axis=0)
    metric = graph.op(
        "Gather", np.eye(len(METRICS), dtype=np.float32), graph.op("Squeeze", index[1, 1, 2], [1]), axis=0
    )
    return Channels(rows, steps, metric, index, step_s, nothing)


def feature_graph() -> bytes:
    """The preparation alone, for training: `window` and `step_s` to the fields of `Features` and `index`."""
    graph = Graph("features")
    channels = present_channels(graph)
    features = channel_features(graph, channels.rows, channels.step_s, channels.metric)
    for name in ("steps", "context", "anchors", "slopes", "spread", "scale"):
        graph.output(getattr(features, name), name, ["r", "k"])
    for name, value in (("is_loss", features.is_loss), ("index", channels.index)):
        graph.output(graph.op("Cast", value, to=1), name, ["r", "k"])
    serialised: bytes = graph.build({"name": "features"}).SerializeToString()
    return serialised
