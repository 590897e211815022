"""The report: one JSON file per suite, and RESULTS.md made from all of them."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
from pathlib import Path

from benchmarks.harness.statistics import Figure, Section

FOLDER = Path(__file__).parents[1]
RESULTS, STORED = FOLDER / "RESULTS.md", FOLDER / "results"

SUITES = ("graph", "rpc", "refresh", "ingest", "streams", "scale", "guard")
"""In the order in which they are run and reported."""

_PACKAGES = ("grpcio", "onnxruntime", "numpy", "redis", "protobuf")
_HEAD = """# What PBA costs

Written by `make bench`; [README.md](README.md) says what each suite measures and how. Every ratio is the median over
interleaved rounds of ours to a control measured beside it, and behind it the least and the greatest of the rounds. The
absolute figures only give the scale. Where the load average is far above the number of cores, others used the machine
at the same time: such ratios scatter, and the figures are those of a machine that is short of processor time.
"""


def machine() -> dict[str, str]:
    """What the figures depend on."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores of {cpu}, {memory / 2**20:.0f} GiB, {platform.system()}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }


def store(section: Section, load: tuple[float, float], scale: float) -> None:
    """Stores what a suite found, and writes the report anew; `load` is the load average before and after."""
    section.machine = {**machine(), "load": f"{load[0]:.1f} before, {load[1]:.1f} after", "scale": f"{scale:g}"}
    STORED.mkdir(exist_ok=True)
    (STORED / f"{section.suite}.json").write_text(json.dumps(section.as_json(), indent=1) + "\n")
    write()


def write() -> None:
    """RESULTS.md from all that is stored."""
    files = {suite: STORED / f"{suite}.json" for suite in SUITES}
    sections = [Section.from_json(json.loads(file.read_text())) for file in files.values() if file.exists()]
    absent = [suite for suite, file in files.items() if not file.exists()]
    missing = [f"Not measured to the end on this machine yet: {', '.join(absent)}.\n"] if absent else []
    RESULTS.write_text("\n".join([_HEAD, *missing, *(_page(section) for section in sections)]))


def _page(section: Section) -> str:
    facts = section.machine
    rows = [
        f"## {section.suite}",
        "",
        f"{facts['date']}; {facts['machine']}; load average {facts['load']}; {facts['versions']}.{_shortened(facts)}",
        "",
        "| what | PBA | control | ratio (least to greatest) | goal | |",
        "|---|--:|--:|--:|---|---|",
        *map(_row, section.figures),
        "",
    ]
    rows += [f"- {note}" for note in [*section.notes, *_notes(section.figures)]]
    return "\n".join(rows) + "\n"


def _shortened(facts: dict[str, str]) -> str:
    return "" if facts["scale"] == "1" else f" A short run: durations and sizes are {facts['scale']} of the full ones."


def _notes(figures: list[Figure]) -> list[str]:
    return [f"{figure.what}: {figure.note}" for figure in figures if figure.note]


def _row(figure: Figure) -> str:
    ours = f"{number(figure.ours)} {figure.unit}"
    if figure.ratio is None:
        control, ratio = "", f"{number(figure.low)} to {number(figure.high)}" if figure.rounds > 1 else ""
    else:
        control = f"{number(figure.control or 0)} ({figure.control_name})"
        ratio = f"**{figure.ratio:.3g}** ({figure.low:.3g} to {figure.high:.3g})"
    verdict = {None: "", True: "met", False: "**missed**"}[figure.met]
    return f"| {figure.what} | {ours} | {control} | {ratio} | {figure.goal} | {verdict} |"


def line(figure: Figure) -> str:
    """A figure for the terminal."""
    text = f"{figure.what:<64} {number(figure.ours):>10} {figure.unit:<12}"
    if figure.ratio is not None:
        text += f" {number(figure.control or 0):>10} {figure.control_name:<22} {figure.ratio:6.3g}"
        text += f" ({figure.low:.3g} to {figure.high:.3g})"
    verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
    return f"{text} {figure.goal} {verdict}".rstrip()


def number(value: float) -> str:
    """Three digits, with separators for thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
