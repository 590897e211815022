"""`pba train`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from pba_service.cli.told import CommandError, tell

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ("keras", "tensorflow", "onnx")


def train_model(output: Path, data: Path | None, model: str, chosen: dict[str, Any]) -> None:
    """Trains a model.

    Args:
        output: Receives `model.onnx` and `manifest.json`.
        data: Measurements; None: simulated links alone.
        model: Its name.
        chosen: Options that were given; the others are the trainer's own.

    Raises:
        CommandError: The training extra is not installed, or an option is wrong.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(f"training needs {', '.join(missing)}: pip install 'pba[train]'")
    from pba_service.training.options import TrainOptions, train  # noqa: PLC0415 - needs the extra

    try:
        options = TrainOptions(output=output, data=data, model=model, **chosen)
    except ValueError as error:
        raise CommandError(str(error)) from None
    manifest = train(options, progress=tell)
    typer.echo(manifest)
