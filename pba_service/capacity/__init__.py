"""How much of everything a number of links takes: arithmetic on measured constants, for `pba plan`."""

from pba_service.capacity.costs import Costs, Measured, measured
from pba_service.capacity.demand import Demand
from pba_service.capacity.plan import Plan, plan
from pba_service.capacity.use import Fleet, Use, use

__all__ = ["Costs", "Demand", "Fleet", "Measured", "Plan", "Use", "measured", "plan", "use"]
