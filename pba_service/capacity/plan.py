"""The smallest fleet that carries a demand, and where it has to be divided."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pba_service.capacity.use import Fleet, Use, use

if TYPE_CHECKING:
    from pba_service.capacity.costs import Costs
    from pba_service.capacity.demand import Demand

MOST_CELLS = 100_000
_OVERHEAD = 0.5
"""The most of a full process or primary that may go into what does not shrink with more of them. Above it, adding
replicas gives little: then two cells, each with a Redis and replicas of its own, take less than one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A fleet for a demand.

    Attributes:
        demand: What was asked for, of all cells together.
        cells: Services of their own, each with its own Redis and its share of the links.
        fleet: Of one cell.
        use: What one cell has in use.
        fullness: By name, how much is in use of what may be, in one cell; above 1: too much.
        alone: The same for one process and one primary that carry everything: what runs out first.
        single_links: How many such links one process and one primary carry.
    """

    demand: Demand
    cells: int
    fleet: Fleet
    use: Use
    fullness: dict[str, float]
    alone: dict[str, float]
    single_links: int

    @property
    def carries(self) -> bool:
        """Whether nothing is fuller than it may be."""
        return max(self.fullness.values()) <= 1

    @property
    def runs_out_first(self) -> str:
        """Of one process and one primary."""
        return max(_EXHAUSTIBLE, key=lambda name: self.alone[name])


_EXHAUSTIBLE = ("process", "store", "store memory", "store network", "replica network")


def plan(demand: Demand, costs: Costs, *, replicas: int | None = None, primaries: int | None = None) -> Plan:
    """A fleet that is no fuller than it may be; what is given is taken as it is, and may turn out too small.

    Args:
        demand: What is asked for.
        costs: What it costs.
        replicas: So many; None: as many as are needed.
        primaries: Likewise. With either there is one cell.

    Raises:
        OverflowError: Not even one link a cell would do.
    """
    if replicas or primaries:
        fleet = _sized(demand, costs, replicas, primaries, overhead=1.0)
        return _made(demand, demand, costs, fleet or Fleet(replicas or 1, demand.workers, primaries or 1), 1)
    for cells in range(1, MOST_CELLS + 1):
        part = replace(demand, links=math.ceil(demand.links / cells), streams=math.ceil(demand.streams / cells))
        sized = _sized(part, costs, None, None)
        if sized is not None:
            return _made(demand, part, costs, sized, cells)
    raise OverflowError("no number of cells carries this")


def _made(whole: Demand, part: Demand, costs: Costs, fleet: Fleet, cells: int) -> Plan:
    used = use(part, costs, fleet)
    alone = _alone(whole, costs)
    return Plan(whole, cells, fleet, used, used.fullness(part, fleet.primaries), alone, _single_links(whole, costs))


def _alone(demand: Demand, costs: Costs) -> dict[str, float]:
    return use(demand, costs, Fleet(1, 1, 1)).fullness(demand, 1)


def _single_links(demand: Demand, costs: Costs) -> int:
    """The most that one process and one primary carry; not in proportion, for part of the work is there without any."""

    def carried(links: int) -> bool:
        return max(_alone(replace(demand, links=links), costs).values()) <= 1

    above = 1
    while carried(above):
        above *= 2
    return bisect_left(range(1, above), True, key=lambda links: not carried(links))  # noqa: FBT003 - what is looked for


def _sized(
    demand: Demand, costs: Costs, replicas: int | None, primaries: int | None, overhead: float = _OVERHEAD
) -> Fleet | None:
    """The smallest fleet of one cell; None where none will do, or more than `overhead` of it would be overhead."""
    fleet = Fleet(replicas or 1, demand.workers, primaries or 1)
    while True:
        used = use(demand, costs, fleet)
        overheads = (used.process_fixed, used.store_fixed, used.stream_mbps / demand.card_mbps)
        if max(overheads) >= overhead * demand.fill:
            return None
        grown = Fleet(
            replicas or _replicas(demand, used, fleet), demand.workers, primaries or _primaries(demand, used, fleet)
        )
        if grown == fleet:
            return fleet
        fleet = grown


def _replicas(demand: Demand, used: Use, fleet: Fleet) -> int:
    """At least as many as there are: more readers of links that others wrote never make work less."""
    shared = (used.process - used.process_fixed) * fleet.processes
    by_core = math.ceil(shared / (demand.fill - used.process_fixed) / fleet.workers)
    by_card = math.ceil(fleet.replicas * used.replica_mbps / 2 / (demand.fill * demand.card_mbps))
    return max(fleet.replicas, by_core, by_card)


def _primaries(demand: Demand, used: Use, fleet: Fleet) -> int:
    spread = (used.store - used.store_fixed) * fleet.primaries
    by_core = math.ceil(spread / (demand.fill - used.store_fixed))
    by_memory = math.ceil(used.store_bytes / (demand.fill * demand.primary_bytes))
    by_card = fleet.primaries + (used.store_mbps > demand.fill * demand.card_mbps)
    return max(fleet.primaries, by_core, by_memory, by_card)
