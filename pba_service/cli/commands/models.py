"""Commands that train and judge models."""

from pathlib import Path
from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, Target

DataPath = Annotated[
    Path | None, typer.Option("--data", exists=True, help="Measurements (CSV, JSONL, parquet), or a folder of them.")
]


def train(
    output: Annotated[Path, typer.Option("--output", file_okay=False, help="Folder for model.onnx and manifest.json.")],
    data: DataPath = None,
    model: Annotated[
        str, typer.Option(help="pba_lstm (the product's) or bandwidth_lstm (as documented).")
    ] = "pba_lstm",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data. [the model's]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Windows per step. [the model's]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam, at the start. [the model's]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of every random choice. [the model's]")] = None,
    target: Target = DEFAULT_TARGET,
    *,
    from_service: Annotated[
        bool, typer.Option("--from-service", help="Train on the history that a running service holds.")
    ] = False,
    days: Annotated[
        int,
        typer.Option(envvar="PBA_TRAINING_DATA_DAYS", min=1, max=365, help="Days of history --from-service takes."),
    ] = 30,
) -> None:
    """Train a model, export it to ONNX, check it and score it beside the baselines.

    Without --data and --from-service it trains on simulated links alone. Needs the extra named train, TensorFlow.
    """
    from pba_service.cli.train import service_history, train_model

    chosen = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    given = {name: value for name, value in chosen.items() if value is not None}
    if not from_service:
        train_model(output, data, model, given)
        return
    if data:
        raise typer.BadParameter("--data and --from-service exclude each other")
    with service_history(target, days) as history:
        train_model(output, history, model, given)
