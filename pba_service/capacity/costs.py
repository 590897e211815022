"""What was measured: `python -m benchmarks.capacity` writes constants.json, and this reads it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time in microseconds of one core, and bytes, of the machine that was measured.

    Attributes:
        process_base_bytes: Resident memory of a process that knows no link.
        link_bytes: What it grows by for a link that it advances.
        heard_bytes: For a link that it only hears of.
        stream_bytes: For an open stream of predictions.
        idle_cores: What a process takes when nothing is asked of it.
        push_1_us: A sample that comes alone, up to its announced prediction.
        push_20_us: One of twenty in a message: what comes together is stored and predicted together.
        push_1000_us: One of a thousand.
        reread_us: More of it where another process had the link's last sample, or the link is not remembered.
        event_us: Each announced prediction, in every process.
        delivery_us: Each update delivered to a subscriber.
        predict_us: A call of `Predict`, answered from memory.
        parameters_us: A call of `GetOptimalParameters`.
        sweep_us: A link in a round through all links, in each replica.
        store_idle_cores: What the server takes with one process and nothing to do.
        store_push_1_us: As `push_1_us`, in the server: stored, state and prediction committed, announced, read by one.
        store_push_20_us: As `push_20_us`, in the server.
        store_push_1000_us: As `push_1000_us`, in the server.
        store_reread_us: As `reread_us`, in the server.
        store_event_us: Each announced prediction, for each process that reads it.
        store_sweep_us: As `sweep_us`, in the server.
        store_base_bytes: The server's memory without links, the stream of announcements included.
        store_link_bytes: Of a link, without its samples and its ledger.
        store_sample_bytes: Of a sample.
        store_ledger_bytes: Of a scored or waiting forecast.
        store_in_bytes: What the server receives for a sample.
        store_out_bytes: What it sends for one, to the process and one reader of announcements.
        store_reread_bytes: What it sends more where the link is read again.
        store_event_bytes: What it sends each reader for an announced prediction.
        store_disk_bytes: What it appends to its log for a sample.
        wire_call_bytes: A message of samples and its answer between node and service, without samples.
        wire_sample_bytes: Each sample in it.
        wire_update_bytes: An update delivered to a subscriber.
        wire_predict_bytes: A call of `Predict`, both ways.
        wire_parameters_bytes: A call of `GetOptimalParameters`, both ways.
    """

    process_base_bytes: float
    link_bytes: float
    heard_bytes: float
    stream_bytes: float
    idle_cores: float
    push_1_us: float
    push_20_us: float
    push_1000_us: float
    reread_us: float
    event_us: float
    delivery_us: float
    predict_us: float
    parameters_us: float
    sweep_us: float
    store_idle_cores: float
    store_push_1_us: float
    store_push_20_us: float
    store_push_1000_us: float
    store_reread_us: float
    store_event_us: float
    store_sweep_us: float
    store_base_bytes: float
    store_link_bytes: float
    store_sample_bytes: float
    store_ledger_bytes: float
    store_in_bytes: float
    store_out_bytes: float
    store_reread_bytes: float
    store_event_bytes: float
    store_disk_bytes: float
    wire_call_bytes: float
    wire_sample_bytes: float
    wire_update_bytes: float
    wire_predict_bytes: float
    wire_parameters_bytes: float

    def push(self, together: float) -> float:
        """Microseconds of a process for one of so many samples in a message."""
        return _between(together, (self.push_1_us, self.push_20_us, self.push_1000_us))

    def store_push(self, together: float) -> float:
        """Microseconds of the server for one of so many samples in a message."""
        return _between(together, (self.store_push_1_us, self.store_push_20_us, self.store_push_1000_us))


_TOGETHER = (1.0, 20.0, 1_000.0)


def _between(together: float, costs: tuple[float, ...]) -> float:
    """A straight line in logarithms between the sizes that were measured; beyond them nothing is gained or lost."""
    at = math.log(min(max(together, _TOGETHER[0]), _TOGETHER[-1]))
    places = [math.log(size) for size in _TOGETHER]
    for i in range(len(places) - 1):
        if at <= places[i + 1]:
            part = (at - places[i]) / (places[i + 1] - places[i])
            return math.exp((1 - part) * math.log(costs[i]) + part * math.log(costs[i + 1]))
    return costs[-1]


@dataclass(frozen=True, slots=True)
class Measured:
    """The constants, where and when they were measured, and a load that none of them comes from.

    Attributes:
        costs: The constants.
        machine: `date`, `machine`, `versions` and `load` (the load average).
        validation: A mixed load and what was used for it; see `benchmarks/capacity/measure.py`.
    """

    costs: Costs
    machine: dict[str, str]
    validation: dict[str, float]


def measured() -> Measured:
    """The constants that come with this version."""
    return parsed(json.loads(resources.files(__package__).joinpath("constants.json").read_text()))


def parsed(stored: dict[str, Any]) -> Measured:
    """What the file says.

    Raises:
        TypeError: A constant is missing, or unknown.
    """
    return Measured(Costs(**stored["costs"]), stored["measured"], stored["validation"])
