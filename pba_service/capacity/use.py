"""How full processes, primaries and network cards are, for a demand and a fleet of one cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pba_service.capacity.costs import Costs
    from pba_service.capacity.demand import Demand

REMEMBERED = 100_000
"""Links that a process remembers (`engine/batch.py`, `engine/lastknown.py`); a test compares."""

_US = 1e-6
_MBPS = 8e-6


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas and the primaries of their Redis.

    Attributes:
        replicas: How many.
        workers: Processes of each.
        primaries: 1, or those of a Cluster.
    """

    replicas: int
    workers: int
    primaries: int

    @property
    def processes(self) -> int:
        """All of them."""
        return self.replicas * self.workers


@dataclass(frozen=True, slots=True)
class Use:
    """What is in use of one cell.

    Attributes:
        process: Of one core, in the fullest process.
        process_fixed: The part of it that does not shrink with more processes: announcements, sweeps.
        store: Of one core, in the fullest primary: the one that holds the stream of announcements.
        store_fixed: The part of it that does not shrink with more primaries: the stream's readers.
        process_bytes: Memory of a process.
        store_bytes: Memory of all primaries together.
        replica_mbps: What a replica sends and receives, both ways together.
        store_mbps: What the fullest primary sends, or receives if that is more.
        stream_mbps: The part of it that goes to the readers of the stream.
        clients_mbps: Between clients and all replicas, both ways together.
        disk_mbps: What all primaries append to their logs.
        store_ops: Links written per second, by all primaries.
        queue_ms: The mean wait of a message in queues, before process and primary.
    """

    process: float
    process_fixed: float
    store: float
    store_fixed: float
    process_bytes: float
    store_bytes: float
    replica_mbps: float
    store_mbps: float
    stream_mbps: float
    clients_mbps: float
    disk_mbps: float
    store_ops: float
    queue_ms: float

    def fullness(self, demand: Demand, primaries: int) -> dict[str, float]:
        """By name, how much of each thing is in use, relative to what may be."""
        return {
            "process": self.process / demand.fill,
            "announcements": self.process_fixed / demand.fill,
            "store": self.store / demand.fill,
            "stream": self.store_fixed / demand.fill,
            "store memory": self.store_bytes / primaries / (demand.fill * demand.primary_bytes),
            "store network": self.store_mbps / (demand.fill * demand.card_mbps),
            # a card carries as much each way
            "replica network": self.replica_mbps / 2 / (demand.fill * demand.card_mbps),
        }


def use(demand: Demand, costs: Costs, fleet: Fleet) -> Use:
    """What a fleet of one cell has in use."""
    known = known_share(demand, fleet.processes)
    shared, fixed = _process(demand, costs, known)
    process = shared / fleet.processes + fixed
    spread, stream = _store(demand, costs, known, fleet)
    store = spread / fleet.primaries + stream
    clients_mbps = _clients_bytes(demand, costs) * _MBPS
    in_bytes = demand.rate * costs.store_in_bytes
    events_bytes = demand.rate * costs.store_event_bytes
    alone_bytes = max(costs.store_out_bytes - costs.store_event_bytes, 0)
    out_bytes = demand.rate * (alone_bytes + (1 - known) * costs.store_reread_bytes)
    primary_out = out_bytes / fleet.primaries + events_bytes * fleet.processes
    store_traffic = (in_bytes + out_bytes) / fleet.replicas + events_bytes * fleet.workers
    return Use(
        process=process,
        process_fixed=fixed,
        store=store,
        store_fixed=stream,
        process_bytes=_process_bytes(demand, costs, fleet),
        store_bytes=fleet.primaries * costs.store_base_bytes + demand.links * link_store_bytes(demand, costs),
        replica_mbps=clients_mbps / fleet.replicas + store_traffic * _MBPS,
        store_mbps=max(in_bytes / fleet.primaries, primary_out) * _MBPS,
        stream_mbps=events_bytes * fleet.processes * _MBPS,
        clients_mbps=clients_mbps,
        disk_mbps=demand.rate * costs.store_disk_bytes * _MBPS,
        store_ops=2 * demand.rate,
        queue_ms=_wait_ms(process, demand.together * costs.push(demand.together))
        + _wait_ms(store, demand.together * costs.store_push(demand.together)),
    )


def known_share(demand: Demand, processes: int) -> float:
    """The chance that the process which gets a sample remembers its link as it is in the store."""
    if demand.sticky:
        return min(1.0, REMEMBERED * processes / demand.links)
    return min(1.0, REMEMBERED / demand.links) / processes


def link_store_bytes(demand: Demand, costs: Costs) -> float:
    """What a link takes in the store once its history and ledger are full."""
    return (
        costs.store_link_bytes
        + demand.samples_kept * costs.store_sample_bytes
        + demand.forecasts_kept * costs.store_ledger_bytes
    )


def _process(demand: Demand, costs: Costs, known: float) -> tuple[float, float]:
    """Cores of work that all processes share, and of work that each has to do."""
    heard = min(1.0, REMEMBERED / demand.links)
    predict_us = costs.predict_us + (1 - heard) * costs.reread_us
    sample_us = (
        costs.push(demand.together)
        + (1 - known) * costs.reread_us
        + demand.updates * costs.delivery_us
        + demand.predicts * predict_us
        + demand.parameters * (costs.parameters_us + (1 - heard) * costs.reread_us)
    )
    swept = demand.links * costs.sweep_us * _US / _round_s(demand, costs)
    return demand.rate * sample_us * _US, costs.idle_cores + demand.rate * costs.event_us * _US + swept


def _store(demand: Demand, costs: Costs, known: float, fleet: Fleet) -> tuple[float, float]:
    """Cores of work that all primaries share, and of that which the one with the stream has to do."""
    push_us = max(costs.store_push(demand.together) - costs.store_event_us, 0)
    sample_us = push_us + (1 - known) * costs.store_reread_us
    swept = fleet.replicas * demand.links * costs.store_sweep_us * _US / _round_s(demand, costs)
    read = demand.rate * costs.store_event_us * _US
    return demand.rate * sample_us * _US + swept, fleet.processes * (read + costs.store_idle_cores)


def _round_s(demand: Demand, costs: Costs) -> float:
    """How long a round through all links lasts, with the pause after it."""
    return demand.sweep_s + demand.links * (costs.sweep_us + costs.store_sweep_us) * _US


def _process_bytes(demand: Demand, costs: Costs, fleet: Fleet) -> float:
    """Memory: every process hears of all links, and advances its share of them, or any of them."""
    heard = min(demand.links, REMEMBERED)
    advanced = min(demand.links / (fleet.processes if demand.sticky else 1), REMEMBERED)
    links = heard * costs.heard_bytes + advanced * max(costs.link_bytes - costs.heard_bytes, 0)
    return costs.process_base_bytes + links + demand.streams / fleet.processes * costs.stream_bytes


def _clients_bytes(demand: Demand, costs: Costs) -> float:
    """Bytes per second between clients and the service."""
    return demand.rate * (
        costs.wire_call_bytes / demand.together
        + costs.wire_sample_bytes
        + demand.updates * costs.wire_update_bytes
        + demand.predicts * costs.wire_predict_bytes
        + demand.parameters * costs.wire_parameters_bytes
    )


def _wait_ms(used: float, service_us: float) -> float:
    """The mean wait in a queue of equal pieces of work that come by chance: M/D/1, Pollaczek-Khinchine."""
    return service_us / 1000 * used / (2 * (1 - used)) if used < 1 else float("inf")
