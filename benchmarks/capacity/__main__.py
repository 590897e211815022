"""Measures the constants of `pba plan` and writes them: `python -m benchmarks.capacity [--scale 1] [--dry]`.

Two replicas and a server that syncs every write, on this machine. Processor time is counted, not the clock's, so other
work on the machine moves the figures little. At the end a mixed load is measured that no constant comes from: what the
plan says of it is how far the plan can be trusted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path

from benchmarks.capacity.measure import Measuring
from benchmarks.harness import report
from benchmarks.harness.generator import Generator
from benchmarks.harness.runner import Bench
from benchmarks.harness.service import rss_bytes, service
from tests.servers import RunningServer, free_ports, short_folder

CONSTANTS = Path(__file__).parents[2] / "pba_service" / "capacity" / "constants.json"
SERVER = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="shorter and smaller, for a quick look")
    parser.add_argument("--dry", action="store_true", help="print, and leave the constants alone")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    settings = {"PBA_UPDATE_INTERVAL": "1h", "PBA_LATENCY_TARGET": "0s", "PBA_MAX_CLOCK_SKEW": "1h"}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        redis = RunningServer(folder, *SERVER, port=free_ports(1)[0])
        stack.callback(redis.close)
        bench = Bench(stack.enter_context(Generator()), 5, options.scale)
        first = stack.enter_context(service(settings, redis_url=redis.url))
        measuring = Measuring(bench, redis, [first], rss_bytes(first.process.pid))
        measuring.alone()
        measuring.replicas.append(stack.enter_context(service(settings, redis_url=redis.url)))
        measuring.together()
        validation = measuring.validation()
        measuring.sizes()
    found = {
        "measured": {**report.machine(), "load": f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"},
        "costs": {name: float(f"{value:.4g}") for name, value in measuring.costs.items()},
        "validation": validation,
    }
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if not options.dry:
        CONSTANTS.write_text(text)


if __name__ == "__main__":
    main()
