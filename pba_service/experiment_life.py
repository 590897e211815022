"""Builds what decides experiments on models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.experiments import PERIOD_MS, Rule
from pba_service.engine.experiments import ExperimentOptions, Experiments
from pba_service.engine.supervisor import Supervisor

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from pba_service.engine.documents import Documents
    from pba_service.engine.ports import Clock
    from pba_service.engine.refresh import Refresher
    from pba_service.engine.registry import Registry
    from pba_service.observability.metrics import Metrics
    from pba_service.settings import Settings

LONGEST_INTERVAL_S = 10.0
SETTLED_INTERVALS = 3
"""Every replica has written its counts of a period within so many intervals."""


def follow_experiments(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    documents: Documents,
    models: Registry,
    refresher: Refresher,
    metrics: Metrics,
    clock: Clock,
) -> Experiments:
    """What counts and decides until the stack is left."""
    interval_s = min(settings.update_interval_ms / 1000, LONGEST_INTERVAL_S)
    rate = settings.experiment_error_rate
    experiments = Experiments(
        models=models,
        documents=documents,
        options=ExperimentOptions(
            replica=models.report().replica,
            rule=Rule(rate, rate, settings.experiment_max_ms // PERIOD_MS),
            automatic=settings.experiment_decisions == "automatic",
            interval_s=interval_s,
            settle_s=SETTLED_INTERVALS * interval_s,
        ),
        clock=clock,
        metrics=metrics,
    )
    refresher.on_settled = experiments.settled
    supervisor = Supervisor()
    stack.push_async_callback(supervisor.stop)
    supervisor.start("experiments", experiments.run)
    return experiments
