"""The ratios that matter, measured in seconds instead of minutes: less exact, and the same way every time."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pba.v1 import prediction_service_pb2 as pb
from redis import Redis

from benchmarks.harness import feed
from benchmarks.harness.echo import PATH as ECHO
from benchmarks.harness.generator import ROOT
from benchmarks.harness.raw import RawModel
from benchmarks.harness.service import echo, now_ms, service
from benchmarks.harness.statistics import Section, compared, turns
from benchmarks.ingest.suite import pipelined
from tests.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.runner import Bench

LINKS, SAMPLES, CALLERS = 300, 20, 16
ANSWER_BYTES = 300
SECONDS = 0.3
_SYNCED = ("--appendonly", "yes", "--appendfsync", "always")


def run(bench: Bench) -> Section:
    """All ratios, from one service."""
    section = Section("guard")
    begin_ms = now_ms() - (bench.rounds + 3) * feed.MINUTE_MS
    raw = RawModel(ROOT / "models" / "pba_lstm")
    with (
        standalone(*_SYNCED) as redis,
        standalone(*_SYNCED) as other,
        Redis.from_url(other.url, protocol=2) as client,
        service(redis_url=redis.url) as process,
        echo(ANSWER_BYTES) as bare,
    ):
        bench.generator.run(
            "benchmarks.harness.feed:fill", target=process.target, links=LINKS, samples=SAMPLES, end_ms=begin_ms
        )
        bodies = [
            base64.b64encode(pb.PredictRequest(link_id=feed.name(link)).SerializeToString()).decode()
            for link in range(LINKS)
        ]

        def calls(target: str, path: str) -> Callable[[int], float]:
            return lambda _turn: float(
                bench.load(
                    "closed", target=target, path=path, bodies=bodies, callers=CALLERS, seconds=SECONDS, warm_s=0.1
                )["rate"]
            )

        def burst(turn: int) -> float:
            # links of their own that stay too young to be predicted: storing alone
            at_ms = begin_ms + turn
            found = bench.generator.run(
                "benchmarks.ingest.load:burst",
                target=process.target,
                links=2_000,
                at_ms=at_ms,
                most=1_000,
                conns=2,
                first=1_000,
            )
            return float(found["rate"])

        def refresh(turn: int) -> float:
            at_ms = begin_ms + (turn + 2) * feed.MINUTE_MS
            found = bench.generator.run(
                "benchmarks.harness.feed:refresh", target=process.target, links=LINKS, at_ms=at_ms, most=LINKS
            )
            return float(found["rate"])

        found = turns(
            {
                "refresh": refresh,
                "raw": lambda _turn: raw.rate(SECONDS),
                "burst": burst,
                "pipeline": lambda turn: pipelined(client, 2_000, begin_ms + turn * feed.MINUTE_MS),
                "Predict": calls(process.target, feed.SERVICE + "Predict"),
                "echo": calls(bare, ECHO),
            },
            bench.rounds,
        )
    section.figures += [
        compared("refresh", "links/s", found["refresh"], found["raw"], "raw, 1 thread"),
        compared("pushes", "samples/s", found["burst"], found["pipeline"], "pipeline"),
        compared("Predict, 16 callers", "requests/s", found["Predict"], found["echo"], "echo"),
    ]
    return section
