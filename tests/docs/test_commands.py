"""Every command and every piece of Python in the README and the documents is run, or excused for a stated reason."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import pytest
import typer
import yaml

from pba_client import Sample
from pba_service.cli.app import app
from tests.docs.blocks import PAGES, RUN, all_blocks, blocks
from tests.docs.told import names
from tests.process import ROOT, ServiceProcess

TIMEOUT_S = 120
KINDS = {"", "sh", "python", "go", "js", "yaml", "toml", "json"}
"""Languages of blocks. An empty one is a drawing. Go and JavaScript are compiled and run by tests/interop."""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service that knows the links which the documents speak of."""
    with ServiceProcess(tmp_path_factory.mktemp("service")) as running:
        with running.client() as client:
            now = datetime.now(UTC)
            for link in ("demo/wan-1", "fra-ams"):
                client.push(
                    [
                        Sample(link, bandwidth_mbps=90 + i % 5, latency_ms=20.0, measured_at=now - timedelta(minutes=i))
                        for i in range(30, 0, -1)
                    ]
                )
        yield running


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """A folder with `pba`, whose `watch` ends by itself, and with a stand-in for grpcurl whose streams do."""
    folder = tmp_path_factory.mktemp("bin")
    python = f'exec "{sys.executable}" -m'
    scripts = {
        "pba": f'[ "$*" = watch ] && set -- watch --updates 1\n{python} pba_service "$@"\n',
        "grpcurl": f'{python} tests.docs.grpcurl "$@"\n',
    }
    for name, script in scripts.items():
        (folder / name).write_text("#!/bin/sh\n" + script)
        (folder / name).chmod(0o755)
    return folder


def here(text, service):
    """The same for the service of the test."""
    return text.replace("127.0.0.1:50051", service.target).replace(":9464", f":{service.metrics_port}")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.excuse and b.language in RUN for b in blocks(page))]
)
def test_what_a_page_says_works_in_its_order(page, service, tools, tmp_path, monkeypatch):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PBA_")},
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
        "PBA_TARGET": service.target,
    }
    monkeypatch.chdir(tmp_path)
    known = names(service.target)
    with known["pba"] as client:
        for block in blocks(page):
            if block.excuse or block.language not in RUN:
                continue
            text = here(block.text, service)
            if block.language == "python":
                # a block that opens a client of its own closes it
                exec(compile(text, block.name, "exec"), known | {"pba": client})  # noqa: S102 - the documents are ours
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            assert done.returncode == 0, f"{block.name}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.name)
def test_every_block_can_be_read(block):
    assert block.language in KINDS, "say in tests/docs how it is checked"
    if block.language == "sh":
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif block.language == "python":
        ast.parse(block.text)
    elif block.language in {"yaml", "toml", "json"}:
        assert {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads}[block.language](block.text)


def test_only_what_cannot_run_is_excused():
    excused = {block.name: block.excuse for block in all_blocks() if block.excuse}
    assert all(len(reason) > 10 for reason in excused.values()), excused
    assert all(block.language in RUN for block in all_blocks() if block.excuse)


def test_commands_of_pba_in_excused_blocks_are_there():
    shown = {
        words[1]
        for block in all_blocks()
        if block.language == "sh" and block.excuse
        for words in map(str.split, block.text.splitlines())
        if words[:1] == ["pba"] and not words[1].startswith("-")
    }
    there = {one.name for one in (*app.registered_commands, *app.registered_groups)}
    assert shown
    assert shown <= there


def test_commands_in_running_text_are_there():
    modules, targets, commands = set(), set(), set()
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", (ROOT / page).read_text()):
            words = span.split()
            if words[:2] == ["python", "-m"]:
                modules.add(words[2])
            elif words[0] == "make":
                targets |= {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)}
            elif words[0] == "pba" and len(words) > 1:
                commands.add(span)
    assert len(modules) > 5
    assert len(targets) > 5
    assert len(commands) > 20
    assert all(find_spec(module) for module in modules)
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [fault for span in sorted(commands) for fault in faults(span)] == []


def faults(span):
    """What a command line of `pba` names that is not there: a command, or an option."""
    command, path = typer.main.get_command(app), []
    for word in span.split("[")[0].split()[1:]:
        if command.context_settings.get("ignore_unknown_options"):
            return  # it has a parser of its own
        if word.startswith("-"):
            option = word.rstrip(",").partition("=")[0]
            if option not in {"--help"} | {name for one in command.params for name in one.opts}:
                yield f"{span}: no option {option}"
        elif hasattr(command, "commands") and re.fullmatch(r"[a-z-]+,?", word):
            command = command.commands.get(word.rstrip(","))
            path.append(word)
            if command is None:
                yield f"{span}: no command {' '.join(path)}"
                return


def test_pages_that_are_named_are_there():
    for page in PAGES:
        folder = (ROOT / page).parent
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", (ROOT / page).read_text()):
            assert (folder / link).exists(), f"{page}: {link}"
