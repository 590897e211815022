"""Reads an agent's configuration from YAML, strictly: unknown names are refused, and all faults are told at once.

Paths in it are relative to the file's folder. Keys and tokens are named by the files that hold them.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pba_client.advice import BandwidthKind, CongestionControl
from pba_client.agent.config import AgentConfig, ConfigError, LinkConfig, ProbeConfig, ReflectorConfig, TrainConfig
from pba_client.options import Options, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_TLS_FILES = {"ca_file": "ca", "cert_file": "certificate", "private_key_file": "key"}

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SPAN_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(K|M|G)?(i?)B?")
_POWER = {None: 0, "K": 1, "M": 2, "G": 3}


def load_config(path: Path) -> AgentConfig:
    """Reads a YAML file.

    Raises:
        ConfigError: It cannot be read or says something that is not to be said; all faults are told.
    """
    import yaml  # noqa: PLC0415 - an agent that is embedded needs none

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or no such day
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be a mapping")
    reader = _Reader(path.parent)
    config = reader.agent(tree)
    if reader.faults or config is None:
        raise ConfigError("\n".join([f"{path}:", *(f"  {fault}" for fault in reader.faults)]))
    return config


class _Reader:
    """Reads the tree of a file and collects what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.faults: list[str] = []

    def agent(self, tree: Mapping[str, Any]) -> AgentConfig | None:
        service = self._part(tree, "service")
        shared_key = self._key(tree.get("key_file"), "key_file")
        respond = self._respond(tree["respond"], shared_key) if tree.get("respond") is not None else None
        raw_links = tree.get("links")
        raw = raw_links if isinstance(raw_links, list) else []
        if raw_links is not None and raw is not raw_links:
            self.faults.append("links: must be a list")
        links = [self._link(one, position, shared_key) for position, one in enumerate(raw)]
        if not links and respond is None:
            self.faults.append("links: name at least one, or a reflector in respond")
        values = self._values(
            tree,
            "",
            {
                "node": str,
                "interval": seconds,
                "poll": seconds,
                "probes_per_s": float,
                "state_dir": self._path,
                "buffer_samples": int,
                "interface": str,
                "metrics_file": self._path,
                "parameters_dir": self._path,
                "command": lambda v: tuple(str(one) for one in _list(v)),
            },
            also={"service", "links", "respond", "key_file"},
            named={"interval": "interval_s", "poll": "poll_s"},
        )
        values.setdefault("state_dir", Path("/var/lib/pba-agent"))
        values |= self._service(service)
        good = tuple(one for one in links if one is not None)
        return self._made(AgentConfig, "", values | {"links": good, "respond": respond})

    def _service(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        values = self._values(
            tree,
            "service.",
            {"target": str, "tls": bool, "token_file": self._path, **dict.fromkeys(_TLS_FILES, self._path)},
        )
        files = {one: values.pop(name, None) for name, one in _TLS_FILES.items()}
        wanted = values.pop("tls", False) or any(files.values())
        tls = self._made(TlsFiles, "service.", files) if wanted else None
        return values | {"options": Options(tls=tls, token_file=values.pop("token_file", None))}

    def _link(self, tree: object, position: int, shared_key: bytes | None) -> LinkConfig | None:
        where = f"links[{position}]."
        if not isinstance(tree, dict):
            self.faults.append(f"{where[:-1]}: must be a mapping")
            return None
        kinds: dict[str, Callable[[Any], Any]] = {
            "link": str,
            "address": str,
            "peer": str,
            "region": str,
            "ports": lambda v: frozenset(int(one) for one in _list(v)),
            "bandwidth_kind": lambda v: BandwidthKind[str(v).upper()],
            "congestion_control": lambda v: CongestionControl[str(v).upper()],
            "max_streams": int,
            "max_buffer": size_bytes,
        }
        values = self._values(
            tree, where, kinds, also={"key_file", "probe", "train"}, named={"max_buffer": "max_buffer_bytes"}
        )
        probe = self._values(
            self._part(tree, "probe"),
            f"{where}probe.",
            {"port": int, "rate": float, "busy_rate": float, "timeout": seconds},
            named={"rate": "rate_hz", "busy_rate": "busy_rate_hz", "timeout": "timeout_s"},
        )
        train = self._values(
            self._part(tree, "train"),
            f"{where}train.",
            {"bytes_per_hour": size_bytes, "packet_bytes": int, "most_packets": int, "duration": seconds},
            named={"duration": "seconds"},
        )
        for name in ("link", "address"):
            if name not in values:
                self.faults.append(f"{where}{name}: is required")
                return None
        values["probe"] = self._made(ProbeConfig, where, probe) or ProbeConfig()
        values["train"] = self._made(TrainConfig, where, train) or TrainConfig()
        values["key"] = self._key(tree.get("key_file"), f"{where}key_file") or shared_key
        return self._made(LinkConfig, where, values)

    def _respond(self, tree: object, shared_key: bytes | None) -> ReflectorConfig | None:
        if not isinstance(tree, dict):
            self.faults.append("respond: must be a mapping")
            return None
        values = self._values(
            tree,
            "respond.",
            {"host": str, "port": int, "packets_per_s": float, "allow": lambda v: tuple(str(one) for one in _list(v))},
            also={"key_file"},
        )
        values["key"] = self._key(tree.get("key_file"), "respond.key_file") or shared_key
        return self._made(ReflectorConfig, "respond.", values)

    def _part(self, tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        part = tree.get(name)
        if part is not None and not isinstance(part, dict):
            self.faults.append(f"{name}: must be a mapping")
        return part if isinstance(part, dict) else {}

    def _values(
        self,
        tree: Mapping[str, Any],
        where: str,
        kinds: Mapping[str, Callable[[Any], Any]],
        *,
        also: set[str] | None = None,
        named: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The values of a mapping by their field's name; unknown names and what cannot be read are faults."""
        found: dict[str, Any] = {}
        for name, raw in tree.items():
            if name in kinds:
                try:
                    found[(named or {}).get(name, name)] = kinds[name](raw)
                except (ValueError, KeyError, TypeError, OverflowError):
                    self.faults.append(f"{where}{name}: cannot be {raw!r}")
            elif name not in (also or set()):
                self.faults.append(f"{where}{name}: there is no such setting")
        return found

    def _made(self, kind: type[T], where: str, values: Mapping[str, Any]) -> T | None:
        known = {one.name for one in fields(kind)}  # type: ignore[arg-type] # all of them are dataclasses
        try:
            return kind(**{name: value for name, value in values.items() if name in known})
        except ValueError as error:
            self.faults.append(f"{where}{error}" if where else str(error))
            return None

    def _path(self, raw: object) -> Path:
        return self._folder / str(raw)

    def _file(self, raw: object, where: str) -> bytes | None:
        if raw is None:
            return None
        try:
            return self._path(raw).read_bytes()
        except OSError as error:
            self.faults.append(f"{where}: {error.strerror}: {self._path(raw)}")
            return None

    def _key(self, raw: object, where: str) -> bytes | None:
        """A key of any bytes; white space around it, which editors leave, does not count."""
        content = self._file(raw, where)
        return None if content is None else content.strip()


def _list(raw: object) -> list[Any]:
    """A list; a text, whose characters would pass for its entries, is none."""
    if not isinstance(raw, list):
        raise TypeError(raw)
    return raw


def seconds(raw: object) -> float:
    """A span such as 60s, 500ms, 15m or 2h, or a number of seconds."""
    found = _SPAN.fullmatch(str(raw).strip())
    if found is None:
        raise ValueError(raw)
    return float(found[1]) * _SPAN_S[found[2]]


def size_bytes(raw: object) -> int:
    """A size such as 64MiB, 10MB or 500KB, or a number of bytes."""
    found = _SIZE.fullmatch(str(raw).strip())
    if found is None:
        raise ValueError(raw)
    step: int = 1024 if found[3] else 1000
    return round(float(found[1]) * float(step ** _POWER[found[2]]))
