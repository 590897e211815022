# ruff: noqa: RUF009 - `_row` makes a dataclasses.field
"""The service's settings: every `PBA_*` variable, one row each, and nothing else reads the environment.

Values are checked at once and together: whoever mistypes three of them hears of all three.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pba_service.setting_kinds import Choice, DurationMs, FilePath, Host, Ratio, Url, Whole
from pba_service.setting_kinds import row as _row
from pba_service.settings_access import AccessSettings, access_faults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pba_service.setting_kinds import Variable

_PACKAGE = Path(__file__).parent
SHIPPED_MODELS = next(
    (folder for folder in (_PACKAGE / "models", _PACKAGE.parent / "models") if folder.is_dir()), _PACKAGE / "models"
)
"""Where the models are that come with PBA: in the installed package, or beside it in a checkout."""

CLIENT_VARIABLES = ("PBA_TARGET", "PBA_CA", "PBA_CERT", "PBA_KEY", "PBA_SERVER_NAME", "PBA_TOKEN_FILE")
"""Read by the command line as a client; known here so that they may be set beside the service's."""

_ORCHESTRATED = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""Names that Kubernetes sets in every container when a Service is called pba."""


class SettingsError(Exception):
    """The environment cannot be used. Its text lists every fault, one a line.

    Attributes:
        faults: One sentence each, beginning with the variable's name.
    """

    def __init__(self, faults: list[str]) -> None:
        head = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        super().__init__("\n".join([f"{head}:", *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(AccessSettings):
    """What the service runs with; the rows say what each means."""

    collect_interval_ms: int = _row(
        "PBA_COLLECT_INTERVAL",
        "60s",
        DurationMs("1s", "1h"),
        "The cadence on which nodes measure. A link's own cadence is taken from its samples, as a multiple of this.",
    )
    max_samples: int = _row(
        "PBA_MAX_SAMPLES", "10000", Whole(100, 1_000_000, "samples"), "Samples kept for each link; the oldest go first."
    )
    retention_ms: int = _row(
        "PBA_RETENTION",
        "720h",
        DurationMs("1h", "8760h"),
        "How long samples are kept; older ones are refused.",
    )
    ledger_retention_ms: int = _row(
        "PBA_LEDGER_RETENTION", "168h", DurationMs("1h", "8760h"), "How long the accuracy ledger is kept."
    )
    max_clock_skew_ms: int = _row(
        "PBA_MAX_CLOCK_SKEW",
        "2m",
        DurationMs("0s", "1h"),
        "How far ahead of this machine's clock a sample may have been measured, or a transfer have ended.",
    )
    max_links: int = _row(
        "PBA_MAX_LINKS",
        "1000000",
        Whole(1, 100_000_000, "links"),
        "Links that may be known; samples of others are refused then.",
    )
    data_path: Path | None = _row(
        "PBA_DATA_PATH",
        "",
        FilePath(),
        "A JSONL file of samples: read at start if it is there, written at shutdown.",
        default_text="off",
    )
    redis_url: str | None = _row(
        "PBA_REDIS_URL",
        "",
        Url(
            (
                "redis",
                "rediss",
                "unix",
                "redis+sentinel",
                "rediss+sentinel",
                "redis+cluster",
                "rediss+cluster",
            )
        ),
        "The Redis or Valkey (6.2 or later) that holds everything: one server, Sentinel or Cluster.",
        default_text="an embedded server",
        secret=True,
    )
    durability: str = _row(
        "PBA_DURABILITY",
        "auto",
        Choice(("auto", "memory", "everysec", "always", "replicated", "replicated_always")),
        "What an acknowledged sample survives; [reliability](reliability.md) says what each means and costs. Redis is "
        "checked against it, and set to it where it is the embedded one. auto: whatever Redis is set to; the embedded "
        "one: always.",
    )
    replicas: int = _row(
        "PBA_REPLICAS",
        "1",
        Whole(1, 16, "replicas"),
        "Replicas that must have a sample before it is acknowledged, with a durability that waits for them.",
    )
    store_timeout_ms: int = _row(
        "PBA_STORE_TIMEOUT",
        "2s",
        DurationMs("50ms", "1m"),
        "The longest that one round trip to Redis may last; a request to the store may take two and a half times that.",
    )
    max_staleness_ms: int = _row(
        "PBA_MAX_STALENESS",
        "5m",
        DurationMs("0s", "15m"),
        "How long after Redis last answered predictions are still given from memory, marked as stale.",
    )
    data_dir: Path = _row(
        "PBA_DATA_DIR",
        "",
        FilePath(),
        "Where the embedded server keeps its data.",
        default_text="`$XDG_STATE_HOME/pba`, else `~/.local/state/pba`",
    )

    model_path: Path = _row(
        "PBA_MODEL_PATH",
        str(SHIPPED_MODELS),
        FilePath(),
        "The model folder: a model's folder, its ONNX file, or a folder of these, of which `pba_lstm` is taken before "
        "`bandwidth_lstm`. It is watched: see [models](models.md).",
        default_text="the models that come with PBA",
    )
    model_reload: str = _row(
        "PBA_MODEL_RELOAD",
        "activate",
        Choice(("activate", "register")),
        "What becomes of a model that is copied into the model folder and passes its checks. activate: it serves "
        "within one update interval; register: it waits for `pba models activate`.",
    )
    model_sharing: str = _row(
        "PBA_MODEL_SHARING",
        "store",
        Choice(("store", "folder")),
        "Where replicas get a model from that is not in their own folder. store: from Redis, up to 64 MiB each; "
        "folder: nowhere, the folder is one that all of them see.",
    )
    experiment_decisions: str = _row(
        "PBA_EXPERIMENT_DECISIONS",
        "automatic",
        Choice(("automatic", "manual")),
        "automatic: a challenger that is shown to be better serves, a worse one is dropped, and a version that turns "
        "out worse than the one before it is rolled back. manual: verdicts wait for `pba ab stop`.",
    )
    experiment_error_rate: float = _row(
        "PBA_EXPERIMENT_ERROR_RATE",
        "0.05",
        Ratio(),
        "The chance, at most, that a challenger which is no better is ever promoted; likewise for rejection.",
    )
    experiment_max_ms: int = _row(
        "PBA_EXPERIMENT_MAX_DURATION",
        "336h",
        DurationMs("1h", "8760h"),
        "An experiment that was not decided within so many observed hours, or in twice the time, ends undecided.",
    )
    update_interval_ms: int = _row(
        "PBA_UPDATE_INTERVAL",
        "60s",
        DurationMs("1s", "1h"),
        "How often all links are gone through for those that should have a newer prediction. New samples refresh "
        "their link at once, whatever this says.",
    )
    confidence_threshold: float = _row(
        "PBA_CONFIDENCE_THRESHOLD",
        "0.6",
        Ratio(),
        "A prediction with less confidence is not used for transport parameters; the newest measurements are.",
    )
    catch_up_samples: int = _row(
        "PBA_CATCH_UP_SAMPLES",
        "480",
        Whole(10, 10_000, "samples"),
        "Past samples that what is learned of a link is caught up over, when many have come at once.",
    )
    retrain_interval_ms: int = _row(
        "PBA_RETRAIN_INTERVAL",
        "24h",
        DurationMs("0s", "8760h"),
        "How often the model is retrained where the extra named train is installed; what comes of it is tried as a "
        "challenger: see [models](models.md). 0s: only by hand or for `PBA_RETRAIN_DRIFT`.",
    )
    retrain_drift_ratio: float = _row(
        "PBA_RETRAIN_DRIFT",
        "0.2",
        Ratio(),
        "The share of links whose level has shifted from which on a model is trained from scratch at once, at most "
        "every 6 hours. 0: never.",
    )
    retrain_effort_ratio: float = _row(
        "PBA_RETRAIN_EFFORT",
        "1",
        Ratio(),
        "How much is computed in a retraining, beside what the shipped model took.",
    )
    training_data_days: int = _row(
        "PBA_TRAINING_DATA_DAYS",
        "30",
        Whole(1, 365, "days"),
        "Days of history that retraining takes, and `pba train --from-service` unless told.",
    )

    min_streams: int = _row("PBA_MIN_STREAMS", "2", Whole(1, 65_536, "streams"), "The fewest streams recommended.")
    max_streams: int = _row("PBA_MAX_STREAMS", "256", Whole(1, 65_536, "streams"), "The most streams recommended.")
    min_buffer_bytes: int = _row(
        "PBA_MIN_BUFFER", "16384", Whole(4_096, 1_073_741_824, "bytes"), "The smallest buffer recommended for a stream."
    )
    max_buffer_bytes: int = _row(
        "PBA_MAX_BUFFER",
        "1048576",
        Whole(4_096, 1_073_741_824, "bytes"),
        "The largest buffer recommended for a stream.",
    )

    grpc_host: str = _row("PBA_GRPC_HOST", "127.0.0.1", Host(), "Where gRPC listens; `0.0.0.0` or `::` for everywhere.")
    grpc_port: int = _row("PBA_GRPC_PORT", "50051", Whole(0, 65_535), "The gRPC port; 0 takes a free one.")
    workers: int = _row(
        "PBA_WORKERS",
        "1",
        Whole(1, 256, "processes"),
        "Processes that serve the port together, each with one core's worth of work; connections spread over them.",
    )
    max_subscribers: int = _row(
        "PBA_MAX_SUBSCRIBERS",
        "20000",
        Whole(1, 1_000_000, "streams"),
        "Prediction streams open at the same time, in each process.",
    )
    latency_target_ms: int = _row(
        "PBA_LATENCY_TARGET",
        "50ms",
        DurationMs("0s", "10s"),
        "What nine of ten calls should keep. When they do not, fewer calls of their method are let in at a time, "
        "and the others are refused at once with the time after which to try again. 0s: nothing is refused.",
    )
    max_waiting: int = _row(
        "PBA_MAX_WAITING",
        "64",
        Whole(16, 1_000_000, "calls"),
        "Calls and streams that may wait in gRPC for the service to take them, in each process; gRPC itself turns more "
        "of them away with CANCELLED, which costs next to nothing and which the shipped clients try again.",
    )
    drain_timeout_ms: int = _row(
        "PBA_DRAIN_TIMEOUT",
        "10s",
        DurationMs("0s", "10m"),
        "How long calls may still take when the service is told to stop.",
    )
    max_connection_age_ms: int = _row(
        "PBA_MAX_CONNECTION_AGE",
        "0s",
        DurationMs("0s", "24h"),
        "How old a connection gets before it is closed in order, so that clients spread again over replicas that were "
        "added; `0s`: any age. Streams end with it, and clients resume them.",
    )
    metrics_host: str = _row("PBA_METRICS_HOST", "127.0.0.1", Host(), "Where the Prometheus endpoint listens.")
    metrics_port: int = _row("PBA_METRICS_PORT", "9464", Whole(0, 65_535), "Its port; 0 takes a free one.")
    metrics_max_links: int = _row(
        "PBA_METRICS_MAX_LINKS",
        "1000",
        Whole(0, 100_000, "links"),
        "Links that get series of their own; the others are counted in `dwcp_pba_links_unlabelled`.",
    )
    ports_file: Path | None = _row(
        "PBA_PORTS_FILE",
        "",
        FilePath(),
        "A file to write the ports to, once they are listened on, as JSON.",
        default_text="off",
    )
    log_level: str = _row(
        "PBA_LOG_LEVEL", "info", Choice(("debug", "info", "warning", "error")), "The least important events logged."
    )
    log_format: str = _row(
        "PBA_LOG_FORMAT", "auto", Choice(("auto", "json", "console")), "auto: console on a terminal, JSON elsewhere."
    )

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Reads the settings. A variable that is set to nothing counts as not set.

        Raises:
            SettingsError: It lists every wrong value and every unknown `PBA_*` name.
        """
        values: dict[str, Any] = {}
        faults = []
        for attribute, variable in variables().items():
            text = environment.get(variable.name, "").strip()
            if not text:
                continue
            try:
                values[attribute] = variable.kind.parse(text)
            except ValueError as fault:
                shown = "***" if variable.secret else repr(text)
                faults.append(f"{variable.name}={shown}: {fault}")
        if "data_dir" not in values:
            try:
                values["data_dir"] = _state_folder(environment)
            except RuntimeError:
                faults.append("PBA_DATA_DIR: must be set, since no home folder can be found")
        faults += _cross_faults({**{f.name: f.default for f in fields(cls)}, **values})
        faults += _unknown(environment)
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def variables() -> dict[str, Variable[Any]]:
    """The row of each attribute of `Settings`, in order."""
    access = {entry.name for entry in fields(AccessSettings)}  # a base's fields come first; in words they come last
    ordered = sorted(fields(Settings), key=lambda entry: entry.name in access)
    return {entry.name: entry.metadata["variable"] for entry in ordered}


def _state_folder(environment: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification puts state; a relative XDG_STATE_HOME is to be ignored."""
    stated = Path(environment.get("XDG_STATE_HOME", ""))
    if stated.is_absolute():
        return stated / "pba"
    home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    return home / ".local" / "state" / "pba"


def _cross_faults(values: Mapping[str, Any]) -> list[str]:
    """What is wrong between settings."""
    names = {attribute: variable.name for attribute, variable in variables().items()}
    faults = [
        f"{names[low]} ({values[low]:,}) must not be more than {names[high]} ({values[high]:,})"
        for low, high in (("min_streams", "max_streams"), ("min_buffer_bytes", "max_buffer_bytes"))
        if values[low] > values[high]
    ]
    if values["grpc_port"] and (values["grpc_host"], values["grpc_port"]) == (
        values["metrics_host"],
        values["metrics_port"],
    ):
        faults.append(f"PBA_GRPC_PORT and PBA_METRICS_PORT are both {values['grpc_port']} on {values['grpc_host']}")
    if values["redis_url"] is None and values["durability"].startswith("replicated"):
        faults.append(f"PBA_DURABILITY={values['durability']} needs replicas: name their Redis with PBA_REDIS_URL")
    if not 0 < values["experiment_error_rate"] < 1:
        faults.append("PBA_EXPERIMENT_ERROR_RATE must be above 0 and below 1")
    file = values["data_path"]
    if file is not None and (file.is_dir() or not file.name.removesuffix(".gz").endswith(".jsonl")):
        faults.append("PBA_DATA_PATH must name a .jsonl or .jsonl.gz file")
    if values["update_interval_ms"] > values["retention_ms"]:
        faults.append("PBA_UPDATE_INTERVAL must not be longer than PBA_RETENTION")
    return faults + access_faults(values)


def _unknown(environment: Mapping[str, str]) -> list[str]:
    """`PBA_*` names that mean nothing: most likely misspelt, and then silently without effect."""
    known = [*(variable.name for variable in variables().values()), *CLIENT_VARIABLES]
    faults = []
    for name in sorted(environment):
        if not name.startswith("PBA_") or name in known or _set_by_orchestrator(name, environment[name]):
            continue
        near = difflib.get_close_matches(name, known, 1, 0.75)
        faults.append(f"{name}: is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return faults


def _set_by_orchestrator(name: str, value: str) -> bool:
    is_link = name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    return is_link or _ORCHESTRATED.search(name) is not None
