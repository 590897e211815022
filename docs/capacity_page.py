"""The capacity page, docs/capacity.md, from the measured constants and the model: `python -m docs.capacity_page`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from pba_service.capacity import Costs, Demand, Fleet, Measured, Plan, measured, plan, use

PAGE = Path(__file__).parent / "capacity.md"
POPULATIONS = (1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_GIB, _GROUPED = 2**30, 1_000

_HEAD = """# Capacity

How much of everything a number of links takes. `pba plan` answers for one case:

```sh
pba plan --links 10000 --interval 60s
pba plan --links 10000 --interval 60s --replicas 20 --json      # exit code 1 where so many are too few
pba plan --links 1000000 --interval 60s --samples-per-message 100 --sticky --update-interval 1h
```

This page is written by `python -m docs.capacity_page` from the constants that `python -m benchmarks.capacity` measures
and puts into `pba_service/capacity/constants.json`. Measure them on the machines that will serve: another processor
moves all of them together.
"""

_MODEL = """## The model

Every sample is a message (or a part of one), a forecast, a commit, an announcement to every process, updates to
subscribers, and questions. Each costs processor time in a process and in Redis, bytes in both, and bytes on the wire.
Four things set the size of a fleet:

- **Processes** share pushes, questions and updates. What does not shrink with more of them: every process hears of
  every prediction, and every replica goes through all links each `PBA_UPDATE_INTERVAL`.
- **A link's last writer remembers it.** Another process reads it again first. Behind a balancer that spreads calls over
  R processes that happens to (R - 1)/R of the samples; on streams and connections that last (`--sticky`) seldom. A
  process remembers at most 100,000 links.
- **Redis** works on one core for each primary. A Cluster spreads the links; the stream of announcements stays on one
  primary, and all processes read it there.
- **Memory of Redis**: history and ledger of every link.

Queues are M/D/1 (Pollaczek-Khinchine). A fleet is planned so that nothing is used above 60 % (`--use`). Where more than
half of that would go into what does not shrink, the plan divides the links into **cells**: services of their own, each
with its own Redis and its own links, by region for example. A node belongs to one cell and needs to know no other.

Not in the model: disks (`appendfsync always` waits for the disk once for all that has come meanwhile), failovers,
retraining, and bursts in which all links report within the same second, which only take longer to work off. Samples
that come alone were measured at a rate that leaves the process half idle; where it is busier they are stored and
predicted together, so that the plan is on the safe side there.
"""


_ABOUT_NODES = """A sample each 60 s, an update and a `GetOptimalParameters` for each; 10,000 samples (7 days) and 7
days of ledger. Nodes that report one link each, through a balancer that spreads their calls, and every setting as it
is by default:
"""

_ABOUT_GATEWAYS = """Gateways on connections that last, 100 samples in a message, sweeps each hour
(`--samples-per-message 100 --sticky --update-interval 1h`), no questions, since the update brings the news:
"""


def page() -> str:
    """The whole page."""
    known = measured()
    parts = [
        _HEAD,
        "## How many links take how much\n",
        _ABOUT_NODES,
        _table(known.costs, Demand(links=1)),
        _ABOUT_GATEWAYS,
        _table(known.costs, Demand(links=1, together=100, sticky=True, sweep_s=3600, parameters=0)),
        _words(known.costs),
        _MODEL,
        _validated(known),
        _constants(known),
    ]
    return "\n".join(parts)


def _table(costs: Costs, demand: Demand) -> str:
    lines = [
        (
            "| links | cells | replicas | process | Redis primaries | fullest primary | Redis memory "
            "| to readers of announcements | clients | fullest |"
        ),
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for links in POPULATIONS:
        made = plan(replace(demand, links=links), costs)
        lines.append(_row(made))
    return "\n".join(lines) + "\n"


def _row(made: Plan) -> str:
    cells, fleet, used = made.cells, made.fleet, made.use
    fullest = max(made.fullness, key=lambda name: made.fullness[name])
    return (
        f"| {made.demand.links:,} | {cells:,} | {cells * fleet.replicas:,} | {used.process:.0%} of a core, "
        f"{used.process_bytes / 2**20:,.0f} MiB | {cells * fleet.primaries:,} | {used.store:.0%} of a core | "
        f"{cells * used.store_bytes / _GIB:,.1f} GiB | {cells * used.stream_mbps:,.1f} Mbit/s | "
        f"{cells * used.clients_mbps:,.1f} Mbit/s | {fullest} |"
    )


def _words(costs: Costs) -> str:
    one = plan(Demand(links=100_000), costs)
    gateways = plan(Demand(links=100_000, together=100, sticky=True, sweep_s=3600, parameters=0), costs)
    return f"""*Fullest* is what would be exceeded first as links are added to that fleet. One process and one primary
carry about {_rough(one)} of the first kind of links, where {one.runs_out_first} is short first, and {_rough(gateways)}
of the second kind, where it is {gateways.runs_out_first}.

**What to do first**: larger messages and connections that last; `PBA_UPDATE_INTERVAL=1h` from some 100,000 links on.
**Then** replicas, as long as announcements leave room in each process. **Then** a Cluster, when a primary's core or
memory says so. **Then** cells.
"""


def _rough(made: Plan) -> str:
    return f"{round(made.single_links, -len(str(made.single_links)) + 2):,}"


def _validated(known: Measured) -> str:
    """What the model says of a load that no constant comes from, beside what was measured."""
    seen = known.validation
    demand, fleet = validation_demand(seen), Fleet(int(seen["replicas"]), 1, 1)
    used = use(demand, known.costs, fleet)
    rows = (
        ("both processes", "cores", fleet.processes * used.process, seen["process_cores"]),
        ("Redis", "cores", used.store, seen["store_cores"]),
        ("network of Redis", "Mbit/s", used.store_mbps, max(seen["store_in_mbps"], seen["store_out_mbps"])),
    )
    lines = [
        "## How far it can be trusted\n",
        (
            f"{demand.rate:,.0f} samples/s of {demand.links:,} links in messages of {demand.together:g}, each "
            f"link's to the same of two replicas, {seen['updates_per_s']:,.0f} updates and "
            f"{seen['predicts_per_s']:,.0f} `Predict` a second, for {seen['seconds']:g} s; no constant comes from this "
            "load. Network is that of the busier direction.\n"
        ),
        "| | measured | the model | error |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {what} | {was:.3g} {unit} | {said:.3g} {unit} | {said / was - 1:+.0%} |" for what, unit, said, was in rows
    ]
    return "\n".join(lines) + "\n"


def validation_demand(seen: dict[str, float]) -> Demand:
    """The mixed load of the benchmark: messages go round the replicas, and each link to the same in every round."""
    rate = seen["links"] / seen["interval_s"]
    return Demand(
        links=int(seen["links"]),
        interval_s=seen["interval_s"],
        together=seen["together"],
        updates=seen["updates_per_s"] / rate,
        predicts=seen["predicts_per_s"] / rate,
        parameters=0,
        sticky=True,
        sweep_s=3600,
    )


def _constants(known: Measured) -> str:
    facts = known.machine
    lines = [
        "## The constants\n",
        (
            f"{facts['date']}; {facts['machine']}; load average {facts['load']}; {facts['versions']}. Processor "
            "time is counted on the service as it is shipped, its Redis syncing every write.\n"
        ),
        "| constant | value | |",
        "|---|--:|---|",
    ]
    told = _told()
    for one in fields(Costs):
        value, unit = getattr(known.costs, one.name), one.name.rpartition("_")[2]
        shown = f"{value:,.0f}" if value >= _GROUPED else f"{value:.3g}"
        lines.append(f"| `{one.name}` | {shown} {unit} | {told[one.name]} |")
    return "\n".join(lines) + "\n"


def _told() -> dict[str, str]:
    """What each constant is, from the docstring of `Costs`."""
    _, _, attributes = (Costs.__doc__ or "").partition("Attributes:\n")
    pairs = (line.strip().split(": ", 1) for line in attributes.strip().splitlines())
    return {name: text.rstrip(".") for name, text in pairs}


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
