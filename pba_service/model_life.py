"""Builds what keeps this replica's models as they are desired."""

from __future__ import annotations

import os
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pba_service.engine.registry import Registry
from pba_service.engine.stock import RegistryOptions
from pba_service.engine.supervisor import Supervisor
from pba_service.runtime.folder import LocalFolder

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from pba_service.engine.model_ports import ModelRegistry
    from pba_service.engine.ports import Clock
    from pba_service.engine.refresh import Refresher
    from pba_service.observability.metrics import Metrics
    from pba_service.settings import Settings

POLL_S = 2.0
"""How often the model folder and the desired state are looked at, at least."""


async def follow_models(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    shared: ModelRegistry,
    refresher: Refresher,
    metrics: Metrics,
    clock: Clock,
) -> Registry:
    """Models that serve already, and the loop that keeps them as they are desired until the stack is left.

    Raises:
        ModelRefusedError: Neither what is desired nor the model that `PBA_MODEL_PATH` means can be loaded.
    """
    registry = Registry(
        shared=shared,
        folder=LocalFolder(settings.model_path),
        refresher=refresher,
        loader=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="models")),
        metrics=metrics,
        options=RegistryOptions(
            replica=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",
            poll_s=min(settings.update_interval_ms / 2_000, POLL_S),
            activate_arrivals=settings.model_reload == "activate",
            share=settings.model_sharing == "store",
        ),
        clock=clock,
    )
    await registry.start()
    supervisor = Supervisor()
    stack.push_async_callback(registry.stop)
    stack.push_async_callback(supervisor.stop)
    supervisor.start("models", registry.run)
    return registry
