"""`pba retrain`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from pba_service.cli import connect
from pba_service.cli.serve import log_format, settings_in_effect
from pba_service.cli.show import print_json
from pba_service.cli.told import CommandError, ExitCode, tell
from pba_service.cli.words import ago, clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client import Retraining
    from pba_service.domain.retraining import Outcome
    from pba_service.retrain_run import Job, Wanted
    from pba_service.settings import Settings

FINE_TUNING_RATE, FINE_TUNING_EPOCHS = 2e-4, 4
"""Where training goes on from a model: a tenth of what a fresh one begins with, and half as many passes."""

SPLIT = (0.9, 0.95)
"""The newest measurements are what the model is made for, and a trial judges it: little is kept from training."""

NICE = 10
"""What serves on this machine goes first."""


def retrain_here(wanted: Wanted) -> None:
    """Retrains in this process, and prints what it made.

    Raises:
        CommandError: It could not, or made nothing.
    """
    from pba_service.observability.logs import configure_logs  # noqa: PLC0415 - loads structlog
    from pba_service.retrain_life import missing_for_training  # noqa: PLC0415 - loads the service

    settings = settings_in_effect()
    configure_logs(settings.log_level, log_format(settings))
    if missing := missing_for_training():
        raise CommandError(missing)
    if settings.redis_url is None:
        raise CommandError("PBA_REDIS_URL names no Redis; a running service retrains with: pba retrain --ask")
    os.nice(NICE)
    outcome, what = asyncio.run(_run(settings, wanted))
    if outcome.value == "trained":
        typer.echo(what)
    else:
        tell(f"pba: retraining ended as {outcome.value}: {what}")
    sys.stdout.flush()
    # a thread that still trains, though nobody waits for it, would crash while the interpreter ends
    os._exit(_CODES.get(outcome.value, ExitCode.FAILED))


_CODES = {"trained": ExitCode.OK, "too_little_data": ExitCode.NOT_YET}


async def _run(settings: Settings, wanted: Wanted) -> tuple[Outcome, str]:
    from pba_service.domain.errors import ModelConflictError, StoreUnavailableError  # noqa: PLC0415 - loads the service
    from pba_service.domain.retraining import LeaseLostError  # noqa: PLC0415 - loads the service
    from pba_service.retrain_run import retrain  # noqa: PLC0415 - loads the service

    task = asyncio.ensure_future(retrain(settings, wanted, trainer(settings.retrain_effort_ratio)))
    for kind in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(kind, task.cancel)
    try:
        return await task
    except StoreUnavailableError:
        raise CommandError("Redis is away", ExitCode.UNAVAILABLE) from None
    except (ModelConflictError, LeaseLostError) as error:
        raise CommandError(str(error), ExitCode.FAILED) from None


def trainer(effort_ratio: float, say: Callable[[str], None] = tell) -> Callable[[Job], object]:
    """What trains a job's model with so much effort: a function that blocks."""

    def work(job: Job) -> object:
        from pba_service.retrain_run import LEAST_LINK_SAMPLES, TooLittleDataError  # noqa: PLC0415 - loads the service
        from pba_service.training.dataset import TooFewExamplesError, Trace, read_traces  # noqa: PLC0415 - the extra
        from pba_service.training.finetune import NotRestorableError  # noqa: PLC0415 - needs the extra
        from pba_service.training.options import MODEL_NAMES, TrainOptions, train  # noqa: PLC0415 - needs the extra

        traces = [Trace("history", link_id, series) for link_id, series in job.history]
        if job.file:
            traces = [trace for trace in read_traces(job.file) if len(trace.series) >= LEAST_LINK_SAMPLES]
            if not traces:
                raise TooLittleDataError(f"no link of {job.file.name} has {LEAST_LINK_SAMPLES} samples")
        usual = TrainOptions(output=job.output)
        options = replace(
            usual,
            split=SPLIT,
            base_ms=job.base_ms,
            windows_per_epoch=max(usual.batch_size, round(usual.windows_per_epoch * effort_ratio)),
            simulated_links=max(1, round(usual.simulated_links * effort_ratio)),
        )
        name = json.loads((job.parent / "manifest.json").read_bytes())["name"] if job.parent else usual.model
        options = replace(options, model=name if name in MODEL_NAMES else usual.model)
        try:
            if job.parent:
                tuned = replace(options, parent=job.parent, learning_rate=FINE_TUNING_RATE, epochs=FINE_TUNING_EPOCHS)
                try:
                    return train(tuned, say, traces=traces, on_epoch=job.on_epoch)
                except NotRestorableError as error:
                    say(f"a fresh network, since it cannot go on from the serving model: {error}")
            return train(options, say, traces=traces, on_epoch=job.on_epoch)
        except TooFewExamplesError as error:
            raise TooLittleDataError(str(error)) from error

    return work


def ask(target: str, *, from_scratch: bool, as_json: bool) -> None:
    """Asks a running service for a run."""
    with connect.client(target) as client:
        _print(client.start_retraining(from_scratch=from_scratch), as_json=as_json)


def status(target: str, *, as_json: bool) -> None:
    """Prints what a running service knows of retraining."""
    with connect.client(target) as client:
        _print(client.retraining(), as_json=as_json)


def _print(known: Retraining, *, as_json: bool) -> None:
    if as_json:
        print_json(known)
        return
    run = known.run
    if run is None:
        typer.echo("no retraining has run")
    elif run.ended_at is None:
        how = "from scratch" if run.from_scratch else f"from {run.parent_version}" if run.parent_version else ""
        begun = f"begun {ago(run.started_at)} by {run.holder} ({run.trigger.name.lower()})"
        typer.echo(f"retraining {run.number} {how}: {run.phase.name.lower()} {run.progress:.0%}, {begun}")
    else:
        typer.echo(f"retraining {run.number} ended {ago(run.ended_at)}: {run.outcome.name.lower()}")
        made = f"{run.version}, {f'tried in {run.experiment}' if run.experiment else 'waits to be tried'}"
        typer.echo(f"  {made if run.version else run.reason}")
        if run.links:
            typer.echo(f"  from {run.samples} samples of {run.links} links")
    if known.asked:
        typer.echo("another one was asked for")
    if known.due_at:
        typer.echo(f"due {clock(known.due_at)}")
    if known.absent:
        typer.echo(f"this replica cannot train: {known.absent}")
