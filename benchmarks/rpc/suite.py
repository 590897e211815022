"""`Predict` and `GetOptimalParameters` beside a bare echo and a bare model server."""

from __future__ import annotations

import base64
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pba.v1 import prediction_service_pb2 as pb

from benchmarks.harness import feed
from benchmarks.harness.echo import PATH as ECHO
from benchmarks.harness.service import cpu_s, echo, now_ms, service
from benchmarks.harness.statistics import Section, compared, plain, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.runner import Bench

CALLERS = (1, 16, 64)
LINKS, SAMPLES = 500, 40
MODEL = Path(__file__).parents[2] / "models" / "pba_lstm"
_METHODS = {
    "Predict": lambda link: pb.PredictRequest(link_id=link),
    "GetOptimalParameters": lambda link: pb.GetOptimalParametersRequest(link_id=link, current_streams=4),
}
_GOALS = {"Predict": ">= 0.9", "GetOptimalParameters": ">= 0.8"}


def run(bench: Bench) -> Section:
    """All figures of single calls."""
    section = Section("rpc")
    with service() as process:
        bench.say(f"filling {LINKS} links")
        bench.generator.run(
            "benchmarks.harness.feed:fill",
            target=process.target,
            links=LINKS,
            samples=SAMPLES,
            end_ms=now_ms() // feed.MINUTE_MS * feed.MINUTE_MS - bench.rounds * feed.MINUTE_MS,
        )
        bodies = {name: [_encoded(make(feed.name(i))) for i in range(LINKS)] for name, make in _METHODS.items()}
        size = bench.generator.run(
            "benchmarks.harness.feed:ask", target=process.target, method="Predict", body=bodies["Predict"][0]
        )
        with echo(size["bytes"]) as bare, echo(size["bytes"], MODEL) as modelled:
            targets = {
                "Predict": (process.target, feed.SERVICE + "Predict", bodies["Predict"]),
                "GetOptimalParameters": (
                    process.target,
                    feed.SERVICE + "GetOptimalParameters",
                    bodies["GetOptimalParameters"],
                ),
                "echo": (bare, ECHO, bodies["Predict"]),
                "echo and model": (modelled, ECHO, bodies["Predict"]),
            }
            _first_asks(bench, process.target, targets["GetOptimalParameters"], section)
            nodes = _Nodes(bench, process.target)
            rates: dict[int, dict[str, list[float]]] = {}
            for callers in CALLERS:
                rates[callers] = _saturation(bench, targets, callers, section, pid=process.process.pid, nodes=nodes)
            _half_load(bench, targets, rates[16], section, nodes)
    return section


class _Nodes:
    """What gives every link its sample a minute, between measurements: links that fell silent are another case."""

    def __init__(self, bench: Bench, target: str) -> None:
        self._bench, self._target, self._newest_ms = bench, target, now_ms()

    def measure(self) -> None:
        """Pushes a sample of each link and waits for the predictions, once a minute."""
        if now_ms() > self._newest_ms:
            self._newest_ms = now_ms()
            self._bench.generator.run(
                "benchmarks.harness.feed:refresh",
                target=self._target,
                links=LINKS,
                at_ms=self._newest_ms,
                most=LINKS,
            )


def _encoded(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def _first_asks(bench: Bench, target: str, method: tuple[str, str, list[str]], section: Section) -> None:
    """What it costs to be the first who asks about a prediction: a plan is made, from what the store has."""
    _, path, bodies = method
    found: dict[str, list[float]] = {"rate": [], "p50_ms": []}
    for left in reversed(range(bench.rounds)):
        bench.generator.run(
            "benchmarks.harness.feed:refresh",
            target=target,
            links=LINKS,
            at_ms=now_ms() // feed.MINUTE_MS * feed.MINUTE_MS - left * feed.MINUTE_MS,
            most=LINKS,
        )
        answered = bench.load("once", target=target, path=path, bodies=bodies, callers=16)
        for name, values in found.items():
            values.append(answered[name])
    section.figures += [
        plain("GetOptimalParameters, first ask about each prediction, 16 callers", "requests/s", found["rate"]),
        plain("GetOptimalParameters, first ask about each prediction, p50", "ms", found["p50_ms"]),
    ]
    bench.show(section)


def _ask_before(bench: Bench, name: str, targets: dict[str, Any]) -> None:
    """Of parameters each question has been asked before, as has that about each prediction."""
    if name == "GetOptimalParameters":
        target, path, bodies = targets[name]
        bench.load("once", target=target, path=path, bodies=bodies, callers=16)


def _saturation(
    bench: Bench, targets: dict[str, Any], callers: int, section: Section, *, pid: int, nodes: _Nodes
) -> dict[str, list[float]]:
    busy: list[float] = []
    spent: list[float] = []

    def asking(name: str) -> Callable[[int], float]:
        target, path, bodies = targets[name]

        def work(_turn: int) -> float:
            nodes.measure()
            _ask_before(bench, name, targets)
            before = cpu_s(pid)
            found = bench.load(
                "closed", target=target, path=path, bodies=bodies, callers=callers, seconds=bench.seconds(1.5)
            )
            if name == "echo":
                busy.append(found["cpu_s"] / found["elapsed_s"])
            if name == "Predict":
                spent.append((cpu_s(pid) - before) / found["rate"] / found["elapsed_s"] * 1e6)
            return float(found["rate"])

        return work

    found = turns({name: asking(name) for name in targets}, bench.rounds)
    for name in _METHODS:
        section.figures.append(
            compared(f"{name}, {callers} callers", "requests/s", found[name], found["echo"], "echo", goal=_GOALS[name])
        )
    section.figures.append(
        compared(
            f"Predict, {callers} callers", "requests/s", found["Predict"], found["echo and model"], "echo and model"
        )
    )
    ceiling = statistics.median(found["echo"]) / statistics.median(busy)
    section.notes.append(
        f"{callers} callers: against the echo the load generator was busy {statistics.median(busy):.0%} of its time, "
        f"so its own ceiling lies near {ceiling:,.0f} requests/s; the service's process spent "
        f"{statistics.median(spent):,.0f} us of processor time a Predict."
    )
    bench.show(section)
    return found


def _half_load(
    bench: Bench, targets: dict[str, Any], rates: dict[str, list[float]], section: Section, nodes: _Nodes
) -> None:
    """Both at half of what the service can answer, at most."""
    half = {name: statistics.median(rates[name]) / 2 for name in _METHODS}

    def asking(name: str, rate: float, found: list[float]) -> Callable[[int], float]:
        target, path, bodies = targets[name]

        def work(turn: int) -> float:
            nodes.measure()
            _ask_before(bench, name, targets)
            answer = bench.load("paced", target=target, path=path, bodies=bodies, rate=rate, seconds=bench.seconds(2.0))
            if turn >= 0:
                found.append(answer["p50_ms"])
            return float(answer["p99_ms"])

        return work

    for name, goal in (("Predict", "<= 1.5"), ("GetOptimalParameters", "")):
        medians: dict[str, list[float]] = {name: [], "echo": []}
        found = turns({one: asking(one, half[name], medians[one]) for one in medians}, bench.rounds)
        section.figures += [
            compared(
                f"{name}, p99 at {half[name]:,.0f} requests/s, half load",
                "ms",
                found[name],
                found["echo"],
                "echo",
                goal=goal,
            ),
            plain(f"{name}, p99 at half load", "ms", found[name], goal="<= 10" if goal else ""),
            compared(f"{name}, p50 at half load", "ms", medians[name], medians["echo"], "echo"),
        ]
        bench.show(section)
