"""`pba train`."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

import typer

from pba_service.cli.export import export_file
from pba_service.cli.told import CommandError, ExitCode, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("keras", "tensorflow", "onnx")


def train_model(output: Path, data: Path | None, model: str, chosen: dict[str, Any]) -> None:
    """Trains a model.

    Args:
        output: Receives `model.onnx` and `manifest.json`.
        data: Measurements; None: simulated links alone.
        model: Its name.
        chosen: Options that were given; the others are the trainer's own.

    Raises:
        CommandError: The training extra is not installed, an option is wrong, the measurements are too few, or a
            model's file cannot be read or written.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(f"training needs {', '.join(missing)}: pip install 'pba[train]'")
    from pba_service.training.options import TrainOptions, train  # noqa: PLC0415 - needs the extra

    try:
        options = TrainOptions(output=output, data=data, model=model, **chosen)
    except ValueError as error:
        raise CommandError(str(error)) from None
    _make_writable(output)
    from pba_service.training.dataset import TooFewExamplesError  # noqa: PLC0415 - needs the extra
    from pba_service.training.finetune import NotRestorableError  # noqa: PLC0415 - needs the extra

    try:
        manifest = train(options, progress=tell)
    except NotRestorableError as error:
        raise CommandError(f"cannot go on from {options.parent}: {error}") from None
    except TooFewExamplesError as error:
        raise CommandError(str(error), ExitCode.NOT_YET) from None
    except OSError as error:
        raise CommandError(f"{error.filename or output}: {error.strerror or error}") from None
    typer.echo(manifest)


def _make_writable(folder: Path) -> None:
    """Makes a folder, unless it is there. That nothing can be written there is told before the training, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from None


@contextmanager
def service_history(target: str, days: int) -> Iterator[Path]:
    """A file with the last days of a running service's history; it is gone afterwards."""
    start = datetime.now(UTC) - timedelta(days=days)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "history.jsonl"
        export_file(file, target, prefix="", region="", start=start, end=None)
        yield file
