"""The agent: measures this node's links, delivers what it finds, keeps transport parameters in force.

from pba_client.agent import Agent, load_config

with Agent(load_config(Path("agent.yaml")), on_parameters=transport.apply) as agent:
agent.wait()
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from pba_client.agent.clock import Clock
from pba_client.agent.courier import ClientService, Courier
from pba_client.agent.depot import Depot
from pba_client.agent.guide import Guide
from pba_client.agent.interface import carried_bytes
from pba_client.agent.measurer import Measurer
from pba_client.agent.outlets import Outlets, measurement_fields, metrics_text, write_whole
from pba_client.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from pba_client.agent.config import AgentConfig
    from pba_client.agent.guide import Decision
    from pba_client.agent.measurement import Measurement

log = logging.getLogger(__name__)

RING_FILE = "samples.ring"
SPENT_FILE = "trains.json"
_STOP_S = 10.0
_LONGEST_S = 5.0


class Agent:
    """Runs on two threads of its own: one measures, one talks to the service."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        on_parameters: Callable[[Decision], None] | None = None,
        on_sample: Callable[[Measurement], None] | None = None,
        client: Client | None = None,
    ) -> None:
        """Opens the buffer and the sockets; nothing is sent yet.

        Args:
            config: What to do.
            on_parameters: Called when the parameters of a link change, on the thread that talks to the service.
            on_sample: Called with each sample and how its values were obtained, on the thread that measures.
            client: Reaches the service; None: one by the configuration.

        Raises:
            OSError: The network or a file cannot be used, or another agent uses the state directory.
            ValueError: A token would go over the network in plain text.
        """
        self._config = config
        self._outlets = Outlets(config.parameters_dir, config.command)
        self._on_parameters, self._on_sample = on_parameters, on_sample
        self._clock = Clock()
        self._stopped, self._due = Event(), Event()
        self._threads: list[Thread] = []
        self._newest: dict[str, Measurement] = {}
        self._measured = self._callback_failures = 0
        self._fatal: BaseException | None = None
        # waiting for the service is the courier's business, which knows what the service asked for
        self._client = client or Client(config.target, replace(config.options, patience_s=0.0))
        self._depot = Depot(config.state_dir / RING_FILE, config.buffer_samples, self._clock)
        try:
            self._measurer = Measurer(config, self._take, spent=read_spent(config.state_dir / SPENT_FILE))
        except BaseException:
            self._depot.close()
            raise
        self._guide = Guide(config.links, config.interval_s, self._decided, self._clock.monotonic())
        self._courier = Courier(
            config, self._depot, self._guide, service=ClientService(self._client), clock=self._clock
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins."""
        for name, target in (("measure", self._run_measurer), ("deliver", self._run_courier)):
            thread = Thread(target=self._guarded, args=(target,), name=f"pba-agent-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is stopped, by `stop` or by a fault of its own; False when that did not happen in time.

        Raises:
            RuntimeError: A fault of its own stopped it.
        """
        ended = self._stopped.wait(timeout_s)
        if self._fatal is not None:
            raise RuntimeError("the agent has failed") from self._fatal
        return ended

    def stop(self) -> None:
        """Ends it; samples that were not delivered stay on the disk."""
        self._stopped.set()
        self._due.set()
        # closing ends calls under way, so that nobody waits for a service that does not answer
        self._client.close()
        for thread in self._threads:
            thread.join(_STOP_S)
        self._keep_spent()
        self._depot.close()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self._fatal = self._fatal or error
            log.critical("the agent has failed", exc_info=True)
        finally:
            self._stopped.set()
            self._due.set()

    def _run_measurer(self) -> None:
        self._measurer.run(self._stopped.is_set)

    def _run_courier(self) -> None:
        while not self._stopped.is_set():
            wait_s = self._courier.work()
            if self._due.wait(min(wait_s, _LONGEST_S)):
                self._due.clear()

    def _take(self, measurements: Sequence[Measurement]) -> None:
        """A turn is over: saves first, then tells."""
        self._depot.add(measurements)
        self._guide.measured(measurements)
        self._measured += len(measurements)
        self._courier.measured()
        self._due.set()
        for one in measurements:
            self._newest[one.link_id] = one
            log.info("sample", extra=measurement_fields(one))
            if self._on_sample is not None:
                try:
                    self._on_sample(one)
                except Exception:
                    self._callback_failures += 1
                    log.exception("on_sample failed", extra={"link": one.link_id})
        self._keep_spent()
        if self._config.metrics_file is not None:
            try:
                write_whole(self._config.metrics_file, metrics_text(self.metrics(), self._newest))
            except OSError as error:
                log.warning("metrics cannot be written", extra={"error": str(error)})

    def _decided(self, decision: Decision) -> None:
        if self._on_parameters is not None:
            self._on_parameters(decision)
        self._outlets.decided(decision)

    def metrics(self) -> dict[str, float]:
        """What would be told to Prometheus, by name."""
        now_s = time.monotonic()
        budgets = self._measurer.budgets
        spent = sum(self._budget_of(link) - budget.left_bytes(now_s) for link, budget in budgets.items())
        values: dict[str, float] = {
            "pba_agent_samples_measured_total": self._measured,
            "pba_agent_samples_delivered_total": self._courier.counts.delivered,
            "pba_agent_samples_waiting": self._depot.waiting,
            "pba_agent_samples_in_memory": self._depot.in_memory,
            "pba_agent_samples_dropped_total": self._depot.dropped,
            "pba_agent_samples_refused_total": self._depot.refused,
            "pba_agent_samples_restamped_total": self._courier.counts.restamped,
            "pba_agent_disk_failures_total": self._depot.disk_failures,
            "pba_agent_service_failures_total": self._courier.counts.failures,
            "pba_agent_service_away": self._courier.away,
            "pba_agent_links_alone": len(self._guide.alone),
            "pba_agent_callback_failures_total": self._callback_failures + self._guide.callback_failures,
            "pba_agent_missed_turns_total": self._measurer.missed_turns,
            "pba_agent_probes_sent_total": self._measurer.probes_sent,
            "pba_agent_train_bytes_last_hour": spent,
            "pba_agent_passive_available": self._measurer.passive_available,
        }
        if carried := carried_bytes(self._config.interface) if self._config.interface else None:
            values["pba_agent_interface_sent_bytes_total"], values["pba_agent_interface_received_bytes_total"] = carried
        return values

    def _budget_of(self, link_id: str) -> int:
        return next(one.train.bytes_per_hour for one in self._config.links if one.link == link_id)

    def _keep_spent(self) -> None:
        """Keeps what trains have used, so that a restart does not begin a new hour."""
        try:
            write_spent(
                self._config.state_dir / SPENT_FILE,
                {link: budget.spent for link, budget in self._measurer.budgets.items()},
            )
        except OSError as error:
            log.debug("the trains' bytes cannot be kept", extra={"error": str(error)})


def write_spent(path: Path, spent: dict[str, list[tuple[float, int]]]) -> None:
    """Writes what trains have used, with times by the wall clock.

    Raises:
        OSError: It cannot be written.
    """
    offset_s = time.time() - time.monotonic()
    write_whole(path, json.dumps({link: [(at + offset_s, n) for at, n in found] for link, found in spent.items()}))


def read_spent(path: Path) -> dict[str, list[tuple[float, int]]]:
    """Reads what trains have used, with times by the monotonic clock; nothing where nothing can be read.

    What the wall clock says is still to come counts as of now: a clock that was set back must not free the budget.
    """
    offset_s, now_s = time.time() - time.monotonic(), time.monotonic()
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(link): sorted((min(float(at) - offset_s, now_s), int(count)) for at, count in found)
            for link, found in stored.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
