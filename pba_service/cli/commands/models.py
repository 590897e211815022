"""Commands that train and judge models."""

from pathlib import Path
from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, Json, Target
from pba_service.settings import SHIPPED_MODELS

DataPath = Annotated[
    Path | None, typer.Option("--data", exists=True, help="Measurements (CSV, JSONL, parquet), or a folder of them.")
]


FINE_TUNING_RATE = 2e-4
"""Of Adam, where training goes on from a model: a tenth of what a fresh one begins with."""


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
    parent: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Go on from the model in this folder, with small steps."),
    ] = None,
    collect_interval: Annotated[
        float | None,
        typer.Option(min=1, max=3600, help="Seconds; PBA_COLLECT_INTERVAL of the service that the model is for. [60]"),
    ] = None,
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
    given = {name: value for name, value in (chosen | {"parent": parent}).items() if value is not None}
    if parent and learning_rate is None:
        given["learning_rate"] = FINE_TUNING_RATE
    if collect_interval:
        given["base_ms"] = round(1000 * collect_interval)
    if not from_service:
        train_model(output, data, model, given)
        return
    if data:
        raise typer.BadParameter("--data and --from-service exclude each other")
    with service_history(target, days) as history:
        train_model(output, history, model, given)


def retrain(
    data: DataPath = None,
    target: Target = DEFAULT_TARGET,
    run: Annotated[int, typer.Option("--run", hidden=True, help="A run that the service began for this process.")] = 0,
    *,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train a fresh network instead of going on from the serving model.")
    ] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the running service to retrain, and return.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what the running service knows of it.")] = False,
    json: Json = False,
) -> None:
    """Learn from the stored history, and offer the model as a challenger; it serves only once it is shown to be better.

    Runs here, on the Redis that PBA_REDIS_URL names, one at a time across all replicas; with --data on a file instead
    of the history. Needs the extra named train. With --ask or --status it calls a running service.
    """
    from pba_service.cli import retrain as retraining

    if ask and status:
        raise typer.BadParameter("--ask and --status exclude each other")
    if (ask or status) and data:
        raise typer.BadParameter("--data goes with a run here, without --ask and --status")
    if status:
        retraining.status(target, as_json=json)
    elif ask:
        retraining.ask(target, from_scratch=from_scratch, as_json=json)
    else:
        from pba_service.retrain_run import Wanted

        retraining.retrain_here(Wanted(token=run, from_scratch=from_scratch, file=data))


ModelPath = Annotated[
    Path, typer.Option("--model", envvar="PBA_MODEL_PATH", exists=True, help="The model; by default the shipped one.")
]
Report = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write an HTML page with pictures there. Needs the extra named train."),
]
Part = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="Score the last part of each link; all of it is replayed.")
]
Cadence = Annotated[
    float, typer.Option("--collect-interval", min=1, max=3600, help="Seconds; PBA_COLLECT_INTERVAL of a service.")
]


def evaluate(
    data: Annotated[Path, typer.Option("--data", exists=True, dir_okay=False, help="CSV, JSONL or parquet.")],
    model: ModelPath = SHIPPED_MODELS,
    part: Part = 0.2,
    base_s: Cadence = 60.0,
    prefix: Annotated[str, typer.Option(help="Only links whose id begins so.")] = "",
    report: Report = None,
    *,
    json: Json = False,
) -> None:
    """Score a model and all that serves around it on measurements, beside simple forecasters.

    Each link is replayed sample by sample through the code that serves. By default its last fifth is scored, which is
    what the shipped models were not trained on.
    """
    from pba_service.cli.evaluate import evaluate_file

    evaluate_file(data, model, part=part, base_s=base_s, prefix=prefix, as_json=json, report=report)


def backtest(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV, JSONL or parquet.")],
    model: ModelPath = SHIPPED_MODELS,
    base_s: Cadence = 60.0,
    report: Report = None,
    *,
    json: Json = False,
) -> None:
    """Say what PBA would have done on your links: every forecast it would have made, beside what came true."""
    from pba_service.cli.evaluate import evaluate_file

    evaluate_file(file, model, part=1.0, base_s=base_s, as_json=json, report=report)


def quantize(
    output: Annotated[Path, typer.Option("--output", file_okay=False, help="Folder for the variant, if it passes.")],
    model: ModelPath = SHIPPED_MODELS,
    data: Annotated[
        Path | None,
        typer.Option("--data", exists=True, dir_okay=False, help="CSV, JSONL or parquet; without it simulated links."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Make an int8 variant of a model, measure it beside the original on this machine, and write it if it passes.

    It passes if no metric's error grows by more than 1 %, a forecast does not depend on the windows beside it, and it
    is at least 1.2 times as fast. Needs the extra named train.
    """
    from pba_service.cli.quantize import quantize_model

    quantize_model(model, output, data, as_json=json)
