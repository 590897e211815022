"""Where an agent's findings go besides the service: files and commands of the node."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pba_client.agent.guide import Decision
    from pba_client.agent.measurement import Measurement

log = logging.getLogger(__name__)

_COMMAND_S = 10.0

METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")
"""The four metrics, in the order of a measurement's values."""


def decision_json(decision: Decision) -> str:
    """A decision as a line of JSON."""
    said = decision.parameters
    return json.dumps(
        {
            "link": decision.link_id,
            "origin": decision.origin.value,
            "streams": decision.streams,
            "buffer_bytes": decision.buffer_bytes,
            "chunk_bytes": decision.chunk_bytes,
            "not_sent_bytes": decision.not_sent_bytes,
            "pacing_mbps": decision.pacing_mbps,
            "explanation": decision.explanation,
            "valid_until": said.valid_until.isoformat() if said else None,
            "source": said.source.name.lower() if said else None,
        }
    )


def measurement_fields(one: Measurement) -> dict[str, object]:
    """A sample with what stands behind each value, for logs and for people."""
    fields: dict[str, object] = {"link": one.link_id, "measured_at_ms": one.measured_at_ms}
    for name, value, source in zip(METRICS, one.values, one.sources, strict=True):
        if value is not None:
            fields[name] = float(f"{value:.6g}")
            fields[f"{name}_source"] = source.name.lower()
    for prefix, found in (("loss", one.loss), ("transport_loss", one.transport_loss)):
        if found is not None:
            fields |= {
                f"{prefix}_ratio": float(f"{found.ratio:.3g}"),
                f"{prefix}_low": float(f"{found.low:.3g}"),
                f"{prefix}_high": float(f"{found.high:.3g}"),
                f"{prefix}_trials": found.trials,
            }
    if one.base_latency_ms is not None:
        fields["base_latency_ms"] = float(f"{one.base_latency_ms:.6g}")
    fields["carried_mbps"] = float(f"{one.carried_mbps:.6g}")
    return fields


@dataclass(frozen=True, slots=True)
class Outlets:
    """Hands decisions on: a file for each link, a command.

    Attributes:
        folder: Where the files go; None: none.
        command: Run with the decision as JSON on its standard input; empty: none.
    """

    folder: Path | None
    command: tuple[str, ...]

    def decided(self, decision: Decision) -> None:
        """Hands a decision on.

        Raises:
            OSError: A file cannot be written or the command cannot be run.
            subprocess.SubprocessError: The command failed or took too long.
        """
        text = decision_json(decision)
        log.info("parameters", extra=json.loads(text))
        if self.folder is not None:
            write_whole(self.folder / f"{quote(decision.link_id, safe='')}.json", text + "\n")
        if self.command:
            subprocess.run(self.command, input=text, text=True, timeout=_COMMAND_S, check=True)  # noqa: S603 - the node's own


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that readers see the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)  # noqa: PTH105 - says that an old one may be there


_HELP = {
    "pba_agent_samples_measured_total": ("counter", "Samples measured since the start."),
    "pba_agent_samples_delivered_total": ("counter", "Samples that the service stored since the start."),
    "pba_agent_samples_waiting": ("gauge", "Samples that wait for the service."),
    "pba_agent_samples_in_memory": ("gauge", "Samples that could not be saved to the disk yet."),
    "pba_agent_samples_dropped_total": ("counter", "Samples given up for newer ones, ever."),
    "pba_agent_samples_refused_total": ("counter", "Samples that the service refused for good, ever."),
    "pba_agent_samples_restamped_total": ("counter", "Samples given another time after the clock was set."),
    "pba_agent_disk_failures_total": ("counter", "Failures to save samples since the start."),
    "pba_agent_service_failures_total": ("counter", "Calls of the service that failed since the start."),
    "pba_agent_service_away": ("gauge", "1 while the service is away."),
    "pba_agent_links_alone": ("gauge", "Links on which local rules are in force."),
    "pba_agent_callback_failures_total": ("counter", "Failures of on_parameters or on_sample since the start."),
    "pba_agent_missed_turns_total": ("counter", "Intervals left out because the machine was too busy or asleep."),
    "pba_agent_probes_sent_total": ("counter", "Probes sent since the start."),
    "pba_agent_train_bytes_last_hour": ("gauge", "Bytes of packet trains within the last hour."),
    "pba_agent_interface_sent_bytes_total": ("counter", "Bytes that the interface has sent."),
    "pba_agent_interface_received_bytes_total": ("counter", "Bytes that the interface has received."),
    "pba_agent_passive_available": ("gauge", "1 while the kernel tells of the transport's connections."),
}


def metrics_text(values: Mapping[str, float], samples: Mapping[str, Measurement]) -> str:
    """Metrics in the text format of Prometheus, for node exporter's textfile collector."""
    lines = []
    for name, value in values.items():
        kind, text = _HELP[name]
        # counters to the last digit: rates are made of their differences
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:.17g}"]
    lines += ["# HELP pba_agent_value The newest sample of a link.", "# TYPE pba_agent_value gauge"]
    for link, one in samples.items():
        label = link.replace("\\", r"\\").replace('"', r"\"")
        for metric, measured, source in zip(METRICS, one.values, one.sources, strict=True):
            if measured is not None:
                how = source.name.lower()
                lines.append(f'pba_agent_value{{link="{label}",metric="{metric}",source="{how}"}} {measured:g}')
    return "\n".join([*lines, ""])
