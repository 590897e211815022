"""The training run: data, fit with early stopping, export, parity, scores, manifest."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from pba_service.domain.samples import METRICS
from pba_service.domain.window import FEATURES, MIN_SLOTS
from pba_service.training import dataset, goldens, manifest, scores
from pba_service.training.augment import augmented
from pba_service.training.finetune import NotRestorableError, restored
from pba_service.training.graph import OPSET
from pba_service.training.network import trainable_parameters
from pba_service.training.onnx_run import OnnxGraph
from pba_service.training.recipes import BandwidthLstm
from pba_service.training.simulated import simulated_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pba_service.training.options import TrainOptions
    from pba_service.training.recipes import Recipe, Table

EXAMPLE_SLOTS = 100
"""Longest history that any model or baseline reads."""

MEASURED_PER_LINK, AUGMENTED_PER_LINK, SIMULATED_PER_LINK = 4_000, 1_500, 800
"""Most windows of one link, or of a changed copy, in each part; evenly spaced. Memory is 2.4 kB a window."""

_NOT_RECORDED = {"split", "output", "data", "parent", "created_at", "threads"}

TUNE_ROWS = 20_000
PARITY_ROWS = 512
PARITY_TOLERANCE = 1e-5


class ParityError(RuntimeError):
    """The exported graph does not answer as the trained network does."""


def recipe_of(name: str) -> Recipe:
    """The recipe of a model name."""
    if name == "bandwidth_lstm":
        return BandwidthLstm()
    from pba_service.training.gated import GatedLstm  # noqa: PLC0415 - only when wanted

    return GatedLstm()


def run(
    options: TrainOptions,
    progress: Callable[[str], None],
    *,
    traces: Sequence[dataset.Trace],
    on_epoch: Callable[[int, int], None],
) -> Path:
    """Trains one model; see `options.train`."""
    started = time.monotonic()
    prepare_framework(options.seed, options.threads)
    recipe = recipe_of(options.model)
    parent = _version_of(options.parent) if options.parent else ""  # it is wanted at the end: not after hours
    read = dataset.read_traces(options.data) if options.data else []
    if options.data and not read:
        raise dataset.TooFewExamplesError(f"{options.data.name} holds no measurement")
    real = [trace for trace in (*read, *traces) if trace.collection not in options.hold_out]
    simulated = simulated_traces(options.simulated_links, options.seed)
    progress(f"{len(real)} measured and {len(simulated)} simulated links")
    examples = training_examples(recipe, real, simulated, options)
    progress(f"{len(examples):,} windows of {recipe.slots} slots")
    recipe.fit(examples)
    lines = EpochLines(options.epochs, progress, on_epoch)
    network, epochs_run = fit(recipe, examples, options, lines, begun_network(recipe, examples, options))
    for layer in network.layers:  # what stayed fixed counts as trained as well
        layer.trainable = True
    model = recipe.graph(network)
    check_parity(recipe, network, model, examples)
    graph = OnnxGraph(model)
    answer = parts_scored(recipe, graph, examples, progress)
    record = manifest.TrainingRecord(
        collections=sorted({t.collection for t in real}),
        rows=sum(len(t.series) for t in real),
        links=len(real),
        first_measured_at=rfc3339(min(int(t.series.times_ms[0]) for t in real)) if real else "",
        last_measured_at=rfc3339(max(int(t.series.times_ms[-1]) for t in real)) if real else "",
        fingerprint_sha256=dataset.fingerprint(real) if real else "",
        simulated_links=len(simulated),
        simulated_rows=sum(len(t.series) for t in simulated),
        split=dataset.split_rule(options.split),
        held_out=list(options.hold_out),
        options={k: v for k, v in asdict(options).items() if k not in _NOT_RECORDED},
        epochs_run=epochs_run,
    )
    described = describe(
        recipe=recipe,
        network=network,
        model=model,
        graph=graph,
        record=record,
        scored=answer,
        parent=parent,
        created_at=options.created_at,
    )
    path = manifest.write_model(options.output, model, described)
    progress(f"wrote {path.parent.name}/{path.name} and {manifest.MODEL_FILE} after {time.monotonic() - started:.0f} s")
    return path


def training_examples(
    recipe: Recipe, measured: Sequence[dataset.Trace], simulated: Sequence[dataset.Trace], options: TrainOptions
) -> dataset.Examples:
    """Windows of measured and simulated traces, and of changed copies of the measured training parts."""
    copies = augmented(measured, options.seed, options.split[0]) if options.augment else []
    kinds = (
        (measured, MEASURED_PER_LINK, options.split),
        (copies, AUGMENTED_PER_LINK, (1.0, 1.0)),
        (simulated, SIMULATED_PER_LINK, dataset.SPLIT),
    )
    parts = []
    for traces, per_link, split in kinds:
        if not traces:
            continue
        try:
            part = dataset.examples_of(
                traces,
                slots=EXAMPLE_SLOTS,
                horizons_s=recipe.horizons_s,
                per_link=per_link,
                split=split,
                base_ms=options.base_ms,
            )
        except dataset.TooFewExamplesError:
            if traces is not copies:  # thinned, bursts of samples may be too short; others are told
                raise
        else:
            parts.append(part)
    return functools.reduce(dataset.joined, parts)


def prepare_framework(seed: int, threads: int) -> None:
    """Seeds every generator and bounds the threads; a GPU is used where TensorFlow finds one."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    if threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:  # TensorFlow already runs in this process
            return


class Batches(keras.utils.PyDataset):  # type: ignore[misc] # keras is untyped
    """Batches drawn with replacement by weight, newly for each pass."""

    def __init__(self, table: Table, weight: NDArray[np.float64], options: TrainOptions) -> None:
        super().__init__()
        self._table, self._size = table, options.batch_size
        self._batches = max(1, options.windows_per_epoch // options.batch_size)
        self._cumulative = np.cumsum(weight)
        self._random = np.random.default_rng(options.seed)

    def __len__(self) -> int:
        """Batches in a pass."""
        return self._batches

    def __getitem__(self, index: int) -> tuple[Any, NDArray[np.float32]]:
        """Draws one batch."""
        rows = draw(self._cumulative, self._random.random(self._size))
        return self._table.at(rows)


def draw(cumulative: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions drawn in proportion to the steps of a cumulative weight."""
    rows = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    drawn: NDArray[np.intp] = np.minimum(rows, len(cumulative) - 1)
    return drawn


def begun_network(recipe: Recipe, examples: dataset.Examples, options: TrainOptions) -> Any:
    """The network that training begins with: the parent's, checked against its graph, or a fresh one.

    Raises:
        NotRestorableError: The parent's weights cannot be read back.
        ParityError: They can, and do not answer as the parent does.
    """
    if options.parent is None:
        return recipe.network()
    try:
        model = (options.parent / manifest.MODEL_FILE).read_bytes()
    except OSError as error:
        raise NotRestorableError(f"{manifest.MODEL_FILE}: {error.strerror}") from error
    network = restored(recipe, model)
    check_parity(recipe, network, model, examples)
    return network


def fit(recipe: Recipe, examples: dataset.Examples, options: TrainOptions, lines: EpochLines, network: Any) -> Any:
    """Fits a network and gives it back with its best weights, and the passes until then."""
    table = recipe.table(examples)
    tuning = table.sampling_weights(table.part == dataset.TUNE)
    rows = draw(np.cumsum(tuning), np.random.default_rng(options.seed + 1).random(TUNE_ROWS))
    batches = Batches(table, table.sampling_weights(table.part == dataset.TRAIN), options)
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * len(batches))
    network.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss=recipe.loss(), jit_compile=False)
    stopping = keras.callbacks.EarlyStopping(patience=options.patience, restore_best_weights=True)
    lines.progress(
        f"{trainable_parameters(network):,} trainable parameters, {options.epochs} epochs of {len(batches)} batches"
    )
    history = network.fit(
        batches,
        epochs=options.epochs,
        validation_data=table.at(rows),
        validation_batch_size=1024,
        callbacks=[stopping, lines],
        shuffle=False,
        verbose=0,
    )
    return network, int(np.argmin(history.history["val_loss"])) + 1


class EpochLines(keras.callbacks.Callback):  # type: ignore[misc] # keras is untyped
    """One line of text per pass."""

    def __init__(self, epochs: int, progress: Callable[[str], None], on_epoch: Callable[[int, int], None]) -> None:
        super().__init__()
        self.progress = progress
        self._epochs, self._on_epoch, self._started = epochs, on_epoch, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Says how far training is."""
        logs = logs or {}
        done = epoch + 1
        bar = "#" * round(20 * done / self._epochs)
        left = (time.monotonic() - self._started) / done * (self._epochs - done)
        losses = f"loss {logs['loss']:.4f}, tuning {logs['val_loss']:.4f}"
        self.progress(f"epoch {done:>3}/{self._epochs} [{bar:<20}] {losses}, at most {left:.0f} s left")
        self._on_epoch(done, self._epochs)


def check_parity(recipe: Recipe, network: Any, model: bytes, examples: dataset.Examples) -> None:
    """Compares the graph with the network on real windows; raises `ParityError` beyond the tolerance."""
    some = examples.take(np.linspace(0, len(examples) - 1, min(PARITY_ROWS, len(examples))).astype(np.intp))
    got = forecast_of(OnnxGraph(model), recipe, some)
    want = recipe.expected(network, some)
    if not np.array_equal(np.isnan(got), np.isnan(want)):
        raise ParityError("the graph and the network disagree about which metrics are absent")
    error = np.abs(np.nan_to_num(got) - np.nan_to_num(want))
    worst = (error / (np.abs(np.nan_to_num(want)) + recipe.resolution(some)[:, None, :, None])).max()
    if worst > PARITY_TOLERANCE:
        raise ParityError(f"the graph is off by {worst:.2e}, more than {PARITY_TOLERANCE}")


def forecast_of(graph: OnnxGraph, recipe: Recipe, examples: dataset.Examples) -> NDArray[np.float32]:
    """The graph's forecast of some examples: float32[n, H, 4, Q]."""
    return graph({"window": examples.windows[:, -recipe.slots :], "step_s": examples.step_s})["forecast"]


def parts_scored(
    recipe: Recipe, graph: OnnxGraph, examples: dataset.Examples, progress: Callable[[str], None]
) -> tuple[dict[str, scores.Ratios], float | None]:
    """Scores at 15 minutes on the tuning and test parts and on simulated links, and the test part's 90 % coverage."""
    product = recipe.horizons_s.index(900)
    middle = recipe.quantiles.index(0.5)
    result: dict[str, scores.Ratios] = {}
    covered = None
    measured = ~examples.simulated if not examples.simulated.all() else examples.simulated
    parts = {
        "tune": (examples.part == dataset.TUNE) & measured,
        "test": (examples.part == dataset.TEST) & measured,
        "simulated": (examples.part == dataset.TEST) & examples.simulated,
    }
    for name, rows in parts.items():
        if not rows.any():
            continue
        some = examples.take(rows)
        forecast = forecast_of(graph, recipe, some)[:, product]
        found = scores.score(some, {recipe.name: forecast[..., middle]}, product)
        if not found[recipe.name]:
            continue  # too few targets to say anything
        result[name] = found
        if name == "test" and len(recipe.quantiles) > 1:
            covered = scores.coverage(forecast[..., 0], forecast[..., -1], some.targets[:, product], some.collection)
    if "test" in result:
        progress("test part, mean absolute error at 15 minutes relative to the last value:")
        progress(scores.table(result["test"]))
    return result, covered


def rfc3339(time_ms: int) -> str:
    """A time as the manifest has it, in whole seconds."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat().replace("+00:00", "Z")


def describe(
    *,
    recipe: Recipe,
    network: Any,
    model: bytes,
    graph: OnnxGraph,
    record: manifest.TrainingRecord,
    scored: tuple[dict[str, scores.Ratios], float | None],
    parent: str,
    created_at: str,
) -> manifest.Manifest:
    """The manifest of a finished model."""
    checksum = hashlib.sha256(model).hexdigest()
    shapes: dict[str, list[int | str]] = {"window": ["n", recipe.slots, len(FEATURES)], "step_s": ["n"]}
    answer: list[int | str] = ["n", len(recipe.horizons_s), len(METRICS), len(recipe.quantiles)]
    return manifest.Manifest(
        name=recipe.name,
        version=f"{recipe.name}-{checksum[:12]}",
        parent=parent,
        created_at=created_at or datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        checksum_sha256=checksum,
        opset=OPSET,
        window_slots=recipe.slots,
        min_slots=MIN_SLOTS,
        features=list(FEATURES),
        metrics=list(METRICS),
        horizons_s=list(recipe.horizons_s),
        quantiles=list(recipe.quantiles),
        inputs=[manifest.TensorSpec(name=name, shape=shapes[name]) for name in graph.inputs],
        outputs=[manifest.TensorSpec(name="forecast", shape=answer)],
        parameters=trainable_parameters(network),
        training=record,
        scores=scored[0],
        coverage_90=scored[1],
        goldens=goldens.answered(graph, recipe.slots),
    )


def _version_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / manifest.MANIFEST_FILE).read_bytes())["version"])
    except OSError as error:
        raise NotRestorableError(f"{manifest.MANIFEST_FILE}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotRestorableError("its manifest does not say a version") from error
