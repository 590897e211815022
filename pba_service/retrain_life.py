"""Builds what sees to retraining, and starts its processes."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pba_service.engine.retraining import Retraining
from pba_service.engine.retraining_record import RetrainingRecords
from pba_service.engine.supervisor import Supervisor
from pba_service.retrain_scratch import FOLDER, sweep
from pba_service.storage.process import GuardedProcess

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from pba_service.domain.retraining import Run
    from pba_service.engine.documents import Documents
    from pba_service.engine.experiments import Experiments
    from pba_service.engine.population import Population
    from pba_service.engine.ports import Clock
    from pba_service.engine.registry import Registry
    from pba_service.observability.metrics import Metrics
    from pba_service.settings import Settings

NEEDED = ("keras", "tensorflow", "onnx")
"""What the extra named train brings."""

LONGEST_POLL_S = 5.0
STOP_TIMEOUT_S = 5.0
LOG = "last.log"


def missing_for_training() -> str:
    """What training needs and is not installed; empty where all of it is."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"training needs {', '.join(missing)}: pip install 'pba[train]'" if missing else ""


class TrainingProcess:
    """The `Trainer` of the engine's ports: `pba retrain` as a child that dies with this process."""

    def __init__(self, data_dir: Path, redis_url: str) -> None:
        """Starts nothing yet.

        Args:
            data_dir: Where scratch folders and the log of the last run lie.
            redis_url: The Redis of this service.
        """
        self.absent = missing_for_training()
        self._data_dir = data_dir
        self._redis_url = redis_url
        self._process: GuardedProcess | None = None

    def launch(self, run: Run) -> None:
        """Starts a process for a run that has begun. Raises `OSError`."""
        folder = self._data_dir / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # one thread: what serves has the machine first
        own = {"PBA_REDIS_URL": self._redis_url, "PBA_DATA_DIR": str(self._data_dir), "OMP_NUM_THREADS": "1"}
        self._process = GuardedProcess(
            [sys.executable, "-m", "pba_service", "retrain", "--run", str(run.token)],
            log=folder / LOG,
            environment={**os.environ, **own},
        )

    def ended(self) -> int | None:
        """The exit code of the process that was launched, once."""
        code = self._process.poll() if self._process else None
        if code is not None:
            self._process = None
        return code

    def tidy(self) -> None:
        """Removes what runs left behind that were killed."""
        sweep(self._data_dir)

    async def stop(self) -> None:
        """Ends the process, if one runs."""
        if self._process:
            await self._process.stop(STOP_TIMEOUT_S)
            self._process = None


def follow_retraining(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    redis_url: str,
    documents: Documents,
    models: Registry,
    trials: Experiments,
    population: Population | None,
    metrics: Metrics,
    clock: Clock,
) -> Retraining:
    """What retrains until the stack is left; without a population it only tells, and takes what it is asked."""
    retraining = Retraining(
        records=RetrainingRecords(documents, clock),
        models=models,
        challenges=trials,
        trainer=TrainingProcess(settings.data_dir, redis_url),
        shifted_ratio=lambda: population.shifted_ratio if population else 0.0,
        metrics=metrics.retraining,
        clock=clock,
        replica=models.report().replica,
        interval_ms=settings.retrain_interval_ms,
        drift_ratio=settings.retrain_drift_ratio,
        poll_s=min(settings.update_interval_ms / 1000, LONGEST_POLL_S),
    )
    if population is not None:
        supervisor = Supervisor()
        stack.push_async_callback(retraining.stop)
        stack.push_async_callback(supervisor.stop)
        supervisor.start("retraining", retraining.run)
    return retraining
