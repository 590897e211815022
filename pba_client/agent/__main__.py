"""The agent's own command line: `pba-agent run|respond|measure|check`, and `pba agent` which hands over to it.

It imports neither the service nor the libraries of `pba`: it shall be small beside the transport.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from pba_client.agent.config import AgentConfig
    from pba_client.agent.measurement import Measurement
    from pba_client.agent.reflector import Reflector

_USAGE, _FAILED = 2, 1
_FIELDS = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}


class _JsonLines(logging.Formatter):
    """A line of JSON for each event, with what was given beside its text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def run() -> None:
    """The entry point of the `pba-agent` script."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    Args:
        arguments: The command line; None: the process's own.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    chosen = _parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=chosen.log_level.upper(), handlers=[handler], force=True)
    from pba_client.agent.config import ConfigError  # noqa: PLC0415 - --help costs nothing
    from pba_client.agent.config_file import load_config  # noqa: PLC0415 - likewise

    try:
        config = load_config(chosen.config)
    except ConfigError as error:
        print(f"pba agent: {error}", file=sys.stderr)  # noqa: T201 - for people
        return _USAGE
    stopped = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, stop)
    try:
        return {"run": _run, "respond": _respond, "measure": _measure, "check": _check}[chosen.command](
            config, stopped, chosen
        )
    except (OSError, ValueError) as error:
        print(f"pba agent: {error}", file=sys.stderr)  # noqa: T201 - for people
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pba agent", description="The node's side of PBA: measures links and keeps transport parameters in force."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "Measure, deliver, keep parameters in force, and answer peers where the file says so."),
        ("respond", "Only answer the probes of peers."),
        ("measure", "Measure and print each sample as JSON, without a service."),
        ("check", "Check the configuration file."),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--config", "-c", type=Path, default=Path("/etc/pba/agent.yaml"), help="The YAML file.")
        one.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
        if name == "measure":
            one.add_argument("--samples", type=int, default=0, help="End after so many of each link; 0: never.")
    return parser


def _run(config: AgentConfig, stopped: Event, _chosen: argparse.Namespace) -> int:
    from pba_client.agent.agent import Agent  # noqa: PLC0415 - only what a command needs

    if config.respond is not None:
        from pba_client.agent.reflector import Reflector  # noqa: PLC0415 - likewise

        reflector = Reflector(config.respond)  # here, for an address that cannot be used is to be told
        Thread(target=_answer, args=(reflector, stopped), daemon=True).start()
    if not config.links:
        stopped.wait()
        return 0
    with Agent(config) as agent:
        while not stopped.wait(1.0):
            if agent.wait(0):
                return _FAILED
    return 0


def _respond(config: AgentConfig, stopped: Event, _chosen: argparse.Namespace) -> int:
    from pba_client.agent.reflector import Reflector  # noqa: PLC0415 - only what a command needs

    if config.respond is None:
        print("pba agent: the file has no respond section", file=sys.stderr)  # noqa: T201 - for people
        return _USAGE
    _answer(Reflector(config.respond), stopped)
    return 0


def _answer(reflector: Reflector, stopped: Event) -> None:
    try:
        reflector.run(stopped.is_set)
    finally:
        reflector.close()


def _measure(config: AgentConfig, stopped: Event, chosen: argparse.Namespace) -> int:
    from pba_client.agent.measurer import Measurer  # noqa: PLC0415 - only what a command needs
    from pba_client.agent.outlets import measurement_fields  # noqa: PLC0415 - likewise

    left = dict.fromkeys((one.link for one in config.links), chosen.samples)

    def tell(measurements: Sequence[Measurement]) -> None:
        for one in measurements:
            print(json.dumps(measurement_fields(one)), flush=True)  # noqa: T201 - the result
            left[one.link_id] -= 1
        if chosen.samples and all(count <= 0 for count in left.values()):
            stopped.set()

    Measurer(config, tell).run(stopped.is_set)
    return 0


def _check(config: AgentConfig, _stopped: Event, _chosen: argparse.Namespace) -> int:
    reflector = f", a reflector on port {config.respond.port}" if config.respond else ""
    print(f"{len(config.links)} links every {config.interval_s:g} s to {config.target}{reflector}")  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    run()
