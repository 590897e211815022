"""What is desired, what models and replicas say of themselves, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pba_service.domain.errors import NOT_OURS
from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.engine.model_ports import ReplicaReport
from pba_service.engine.ports import ModelInfo, TrainingData
from pba_service.storage.codec import StoredDataError


def encode_desired(desired: Desired) -> bytes:
    """A desired state as JSON."""
    fields = asdict(desired)
    for pin in fields["pins"]:
        pin["scope"] = pin["scope"].value
    return _encode(fields)


def decode_desired(blob: bytes) -> Desired:
    """The state that `encode_desired` was given. Raises `StoredDataError`.

    Fields that a newer version of PBA added are left out of account, so that replicas can be replaced one by one.
    """
    try:
        fields = json.loads(blob)
        return Desired(
            revision=int(fields["revision"]),
            active=str(fields["active"]),
            previous=tuple(map(str, fields["previous"])),
            held=bool(fields["held"]),
            pins=tuple(
                Pin(Scope(pin["scope"]), str(pin["value"]), tuple(map(str, pin["versions"]))) for pin in fields["pins"]
            ),
            experiments=tuple(_experiment(one) for one in fields["experiments"]),
            configured=str(fields["configured"]),
            offers=tuple(map(str, fields["offers"])),
        )
    except NOT_OURS as error:
        raise StoredDataError(f"no desired state: {error}") from error


def _experiment(fields: dict[str, Any]) -> Experiment:
    return Experiment(
        name=str(fields["name"]),
        champion=str(fields["champion"]),
        challenger=str(fields["challenger"]),
        share=float(fields["share"]),
        started_at_ms=int(fields["started_at_ms"]),
    )


def encode_info(info: ModelInfo) -> bytes:
    """What a model says of itself as JSON."""
    return _encode(asdict(info))


def decode_info(blob: bytes) -> ModelInfo:
    """What `encode_info` was given. Raises `StoredDataError`."""
    try:
        fields = json.loads(blob)
        training = fields["training"]
        return ModelInfo(
            name=str(fields["name"]),
            version=str(fields["version"]),
            checksum_sha256=str(fields["checksum_sha256"]),
            created_at_ms=int(fields["created_at_ms"]),
            features=tuple(map(str, fields["features"])),
            window_slots=int(fields["window_slots"]),
            horizons_ms=tuple(map(int, fields["horizons_ms"])),
            quantile_levels=tuple(map(float, fields["quantile_levels"])),
            parameter_count=int(fields["parameter_count"]),
            scores=tuple((str(metric), str(name), float(score)) for metric, name, score in fields["scores"]),
            parent=str(fields["parent"]),
            training=TrainingData(**training) if training else None,
        )
    except NOT_OURS as error:
        raise StoredDataError(f"no description of a model: {error}") from error


def encode_report(report: ReplicaReport) -> bytes:
    """A replica's report as JSON."""
    return _encode(asdict(report))


def decode_report(blob: bytes) -> ReplicaReport:
    """The report that `encode_report` was given. Raises `StoredDataError`."""
    try:
        fields = json.loads(blob)
        return ReplicaReport(
            replica=str(fields["replica"]),
            serving=str(fields["serving"]),
            loaded=tuple(map(str, fields["loaded"])),
            refused={str(version): str(reason) for version, reason in fields["refused"].items()},
            revision=int(fields["revision"]),
            started_at_ms=int(fields["started_at_ms"]),
        )
    except NOT_OURS as error:
        raise StoredDataError(f"no report of a replica: {error}") from error


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
