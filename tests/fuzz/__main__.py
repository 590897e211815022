"""The long form: `python -m tests.fuzz [--seconds 60] [--seed text] [target ...]`, every target unless some are named.

Prints inputs tried, seconds and findings for each; exits with 1 if there is any finding.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import wire
from tests.fuzz.targets import TARGETS
from tests.process import ServiceProcess

WIRE = "wire"
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_PULSE = re.compile(r"^#(\d+)\s", re.MULTILINE)


def decoder(name, seconds):
    """Inputs tried, seconds, and the finding's text or nothing."""
    with tempfile.TemporaryDirectory(prefix="pba-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(TARGETS[name].seeds):
            (corpus / str(number)).write_bytes(seed)
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.fuzz.one", name, str(corpus), f"-max_total_time={seconds}"]
        command += ["-rss_limit_mb=2048", "-timeout=20", f"-artifact_prefix={folder}/", "-max_len=16384"]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = run.stdout + run.stderr
        took_s = time.monotonic() - began
        if found := _DONE.search(said):
            return int(found[1]), took_s, ""
        tried = max((int(count) for count in _PULSE.findall(said)), default=0)
        crash = next((path.read_bytes() for path in Path(folder).glob("*-*") if path.is_file()), b"")
        return (
            tried,
            took_s,
            f"{run.stdout[-3_000:]}\n{run.stderr[-1_500:]}\nended with {run.returncode}\ninput: {crash[:2_000]!r}",
        )


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", default=str(time.time_ns()), help="of the wire's messages")
    parser.add_argument("names", nargs="*", metavar="target", help=", ".join([WIRE, *TARGETS]))
    given = parser.parse_args()
    findings = total = 0
    for name in given.names or [WIRE, *TARGETS]:
        if name == WIRE:
            with tempfile.TemporaryDirectory() as folder, ServiceProcess(folder) as service:
                report = asyncio.run(wire.fuzz(service.target, given.seconds, given.seed))
                report.findings += [line for line in service.log.read_text().splitlines() if "rpc_failed" in line]
                service.stop()
            print(f"wire, seed {given.seed}: {report}", flush=True)
            total += sum(report.inputs.values())
            findings += len(report.findings)
            continue
        tried, took_s, finding = decoder(name, given.seconds)
        total += tried
        findings += bool(finding)
        print(f"{name}: {tried:,} inputs in {took_s:.0f} s, {'a finding' if finding else 'no finding'}", flush=True)
        if finding:
            print(finding, flush=True)
    print(f"together: {total:,} inputs, {findings} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
