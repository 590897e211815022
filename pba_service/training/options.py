"""What the training command may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pba_service.training.dataset import Trace

MODEL_NAMES = ("pba_lstm", "bandwidth_lstm")
"""The product's model, and the one of the documented topology."""

MAX_SEED = 2**32 - 1
"""The largest that every library takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """One training run; the same options and data give the same model.

    Attributes:
        output: Folder that receives `model.onnx` and `manifest.json`.
        data: Measurements (parquet, CSV or JSONL, or a folder of them); None trains on the simulator alone.
        model: One of `MODEL_NAMES`.
        epochs: Passes; one pass draws `windows_per_epoch` windows.
        batch_size: Windows per step.
        learning_rate: Of Adam, at the start; it decays to zero along a cosine.
        seed: Of every random choice.
        windows_per_epoch: Windows drawn in one pass, collections weighted alike.
        patience: Passes without a better tuning loss before training stops early.
        simulated_links: Simulated links added to the traces.
        augment: Whether changed copies of the training parts are added: other cadence, scale, gaps, level shifts.
        parent: The folder of the model to go on from; None begins from scratch. A parent that cannot be read back, or
            is of another kind, is refused.
        split: Shares of each link's samples where the training and the tuning part end; the rest is the test part.
        base_ms: The collection interval (`PBA_COLLECT_INTERVAL`) of the service that the model is for: windows are
            built on multiples of it, as that service builds them.
        hold_out: Collections left out of training altogether, for research.
        threads: CPU threads that training may use; 0 lets TensorFlow choose, and then a model may come out different by
            rounding from run to run.
        created_at: RFC 3339 time to write into the manifest; empty takes the clock.
    """

    output: Path
    data: Path | None = None
    model: str = "pba_lstm"
    epochs: int = 8
    batch_size: int = 512
    learning_rate: float = 2e-3
    seed: int = 7
    windows_per_epoch: int = 100_000
    patience: int = 4
    simulated_links: int = 112
    augment: bool = True
    parent: Path | None = None
    split: tuple[float, float] = (0.7, 0.8)
    base_ms: int = 60_000
    hold_out: tuple[str, ...] = ()
    threads: int = 1
    created_at: str = ""

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        faults = []
        if self.model not in MODEL_NAMES:
            faults.append(f"model must be one of {', '.join(MODEL_NAMES)}")
        faults += [
            f"{name} must be at least {least}"
            for name, least in (
                ("epochs", 1),
                ("batch_size", 2),
                ("windows_per_epoch", self.batch_size),
                ("patience", 1),
                ("simulated_links", 0),
                ("base_ms", 1),
                ("threads", 0),
            )
            if getattr(self, name) < least
        ]
        if not 0 <= self.seed <= MAX_SEED:
            faults.append(f"seed must be between 0 and {MAX_SEED}")
        if not 0 < self.learning_rate <= 1:
            faults.append("learning_rate must be above 0 and at most 1")
        if self.data is None and self.simulated_links == 0:
            faults.append("without data there must be simulated_links")
        if not 0 < self.split[0] < self.split[1] < 1:
            faults.append("split must be two rising shares between 0 and 1")
        if faults:
            raise ValueError("; ".join(faults))


def train(
    options: TrainOptions,
    progress: Callable[[str], None] = print,
    *,
    traces: Sequence[Trace] = (),
    on_epoch: Callable[[int, int], None] = lambda _done, _of: None,
) -> Path:
    """Trains, exports, checks and scores a model.

    Args:
        options: The run.
        progress: Receives one line of text at a time.
        traces: Measurements that are in memory already, beside those of `options.data`.
        on_epoch: Told after each pass how many are done, and of how many at most; what it raises ends the training.

    Returns:
        The path of the manifest; `model.onnx` is beside it.

    Raises:
        MeasurementFileError: The data cannot be read.
        TooFewExamplesError: They are too few to learn anything from.
        NotRestorableError: The parent cannot be gone on from.
        OSError: The output cannot be written.
    """
    from pba_service.training.trainer import run  # noqa: PLC0415 - TensorFlow loads only when training starts

    return run(options, progress, traces=traces, on_epoch=on_epoch)
