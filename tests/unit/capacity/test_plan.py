import dataclasses
import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pba_service.capacity import Demand, Fleet, measured, plan, use
from pba_service.capacity.costs import Costs, parsed
from pba_service.capacity.use import REMEMBERED, known_share, link_store_bytes
from pba_service.engine.batch import MAX_HOT_LINKS
from pba_service.engine.lastknown import MAX_LINKS

COSTS = measured().costs

demands = st.builds(
    Demand,
    links=st.integers(1, 10_000_000),
    interval_s=st.floats(1, 3600),
    together=st.integers(1, 1_000),
    updates=st.floats(0, 20),
    predicts=st.floats(0, 5),
    parameters=st.floats(0, 5),
    streams=st.integers(0, 100_000),
    sticky=st.booleans(),
    sweep_s=st.floats(60, 3600),
    workers=st.integers(1, 4),
)


@given(demands)
def test_a_plan_carries_what_it_was_made_for(demand):
    assume(demand.rate < 1e6)
    made = plan(demand, COSTS)
    assert made.carries
    assert made.cells * made.use.clients_mbps >= use(demand, COSTS, Fleet(1, 1, 1)).clients_mbps * 0.999


@given(demands, st.floats(3e3, 9e4))
def test_one_replica_less_would_be_too_full_or_idle(demand, rate):
    demand = dataclasses.replace(demand, interval_s=max(demand.links / rate, 1.0))
    made = plan(demand, COSTS)
    assume(made.fleet.replicas > 2)
    part = dataclasses.replace(demand, links=math.ceil(demand.links / made.cells))
    half = use(part, COSTS, dataclasses.replace(made.fleet, replicas=made.fleet.replicas // 2))
    assert max(half.process, half.replica_mbps / 2 / demand.card_mbps) > demand.fill


@given(demands, st.integers(2, 10))
def test_more_links_never_take_less(demand, times):
    assume(demand.rate < 1e4)
    few, many = plan(demand, COSTS), plan(dataclasses.replace(demand, links=demand.links * times), COSTS)
    assert many.cells >= few.cells
    assert many.cells * many.fleet.replicas >= few.cells * few.fleet.replicas
    assert many.cells * many.use.store_bytes >= few.cells * few.use.store_bytes


def test_announcements_set_the_end_of_one_cell():
    # one process must hear of everything: a rate that fills it leaves nothing for work
    rate = 0.9 / (COSTS.event_us * 1e-6)
    demand = Demand(links=int(rate * 60), sticky=True, sweep_s=3600)
    assert plan(demand, COSTS).cells > 1
    stuck = plan(demand, COSTS, replicas=1_000, primaries=100)
    assert stuck.cells == 1
    assert not stuck.carries
    assert stuck.fullness["announcements"] > 1


def test_a_fleet_that_is_given_is_judged_and_not_changed():
    demand = Demand(links=1_000_000)
    made = plan(demand, COSTS, replicas=3, primaries=1)
    assert (made.cells, made.fleet) == (1, Fleet(3, 1, 1))
    assert not made.carries
    assert made.fullness["process"] > 1


def test_what_was_not_given_is_found():
    made = plan(Demand(links=10_000), COSTS, primaries=2)
    assert made.fleet.primaries == 2
    assert made.carries


def test_a_link_in_redis_is_its_samples_its_ledger_and_its_state():
    demand = Demand(links=1, interval_s=60, retention_s=3600, ledger_s=7200)
    assert link_store_bytes(demand, COSTS) == pytest.approx(
        COSTS.store_link_bytes + 60 * COSTS.store_sample_bytes + 120 * COSTS.store_ledger_bytes
    )
    # the bound on the number of samples holds as well
    assert Demand(links=1, interval_s=1).samples_kept == 10_000


@pytest.mark.parametrize("links", [5, 500, 1_000_000])
def test_one_process_and_one_primary_carry_as_many_whatever_is_asked_for(links):
    most = plan(Demand(links), COSTS).single_links
    assert plan(Demand(most), COSTS, replicas=1, primaries=1).carries
    assert not plan(Demand(most + 1), COSTS, replicas=1, primaries=1).carries


def test_small_primaries_take_more_of_them():
    big, small = (
        plan(Demand(links=20_000, interval_s=300, primary_bytes=gib * 2**30), COSTS).fleet.primaries for gib in (64, 4)
    )
    assert small > big


def test_who_remembers_a_link():
    spread, lasting = Demand(links=1_000), Demand(links=1_000, sticky=True)
    assert [known_share(spread, n) for n in (1, 4)] == [1, 0.25]
    assert [known_share(lasting, n) for n in (1, 4)] == [1, 1]
    many = Demand(links=4 * REMEMBERED, sticky=True)
    assert [known_share(many, n) for n in (1, 4)] == [0.25, 1]


def test_the_bounds_are_those_of_the_service():
    assert {MAX_HOT_LINKS, MAX_LINKS} == {REMEMBERED}


def test_a_queue_that_is_full_never_ends():
    assert use(Demand(links=10_000_000), COSTS, Fleet(1, 1, 1)).queue_ms == math.inf


@pytest.mark.parametrize(
    "wrong",
    [{"links": 0}, {"interval_s": 0}, {"updates": -1}, {"fill": 1}, {"fill": 0}, {"primary_bytes": 0}, {"workers": 0}],
)
def test_a_demand_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"above 0|at least 0|between 0 and 1"):
        Demand(**{"links": 1, **wrong})


def test_constants_are_complete_and_measured():
    found = measured()
    values = dataclasses.asdict(found.costs)
    assert all(math.isfinite(value) and value >= 0 for value in values.values())
    assert not [name for name, value in values.items() if value == 0]
    assert {"date", "machine", "versions", "load"} <= found.machine.keys()
    with pytest.raises(TypeError, match="link_bytes"):
        parsed({"costs": {k: v for k, v in values.items() if k != "link_bytes"}, "measured": {}, "validation": {}})


def test_every_constant_counts():
    # a model that does not look at what was measured would say the same without it
    demands = [
        Demand(links=500_000, together=together, predicts=1, streams=10, sticky=sticky)
        for together, sticky in ((1, False), (20, False), (1_000, True))
    ]
    fleet = Fleet(8, 1, 2)
    before = [use(demand, COSTS, fleet) for demand in demands]
    for field in dataclasses.fields(Costs):
        doubled = dataclasses.replace(COSTS, **{field.name: 2 * getattr(COSTS, field.name)})
        assert [use(demand, doubled, fleet) for demand in demands] != before, field.name


@given(st.floats(1, 10_000), st.floats(1, 10_000))
def test_samples_cost_what_was_measured_and_between_that_no_more_or_less(one, other):
    few, many = sorted((one, other))
    assert [COSTS.push(size) for size in (1, 20, 1_000)] == pytest.approx(
        [COSTS.push_1_us, COSTS.push_20_us, COSTS.push_1000_us]
    )
    assert COSTS.push(many) <= COSTS.push(few) * 1.000001
    assert COSTS.store_push(5_000) == COSTS.store_push(1_000)


def test_the_plan_grows_in_steps_of_what_runs_out():
    fleets = [plan(Demand(links=links), COSTS) for links in (1_000, 10_000, 100_000, 1_000_000, 10_000_000)]
    totals = [one.cells * one.fleet.replicas for one in fleets]
    assert all(later > sooner for sooner, later in itertools.pairwise(totals))
    assert fleets[0].cells == 1


def test_primaries_are_found_for_replicas_that_are_given_where_announcements_take_much_of_them():
    demand = Demand(links=800_000, together=1_000, sticky=True, parameters=0)
    given = plan(demand, measured().costs, replicas=20, primaries=60)
    assert given.carries
    found = plan(demand, measured().costs, replicas=20)
    assert found.carries
    assert found.fleet.replicas == 20
    assert found.fleet.primaries <= 60
