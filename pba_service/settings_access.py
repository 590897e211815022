# ruff: noqa: RUF009 - `row` makes a dataclasses.field
"""The settings of who may come in: TLS, identities, and what each caller may ask for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pba_service.setting_kinds import FilePath, Switch, Text, Whole, row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WHEN = "Changes are taken up within seconds; a broken file changes nothing."


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """A part of `Settings`; the rows say what each means."""

    tls_cert: Path | None = row(
        "PBA_TLS_CERT",
        "",
        FilePath(),
        f"The service's certificate, PEM, followed by those up to its authority: gRPC and metrics use TLS. {_WHEN}",
        default_text="plain text",
    )
    tls_key: Path | None = row(
        "PBA_TLS_KEY",
        "",
        FilePath(),
        "Its private key, PEM, without a password; not to be readable by everybody.",
        default_text="none",
    )
    tls_client_ca: Path | None = row(
        "PBA_TLS_CLIENT_CA",
        "",
        FilePath(),
        "The authorities, PEM, of callers' certificates: mutual TLS, every caller must show one. `PBA_CALLERS` says "
        "what each may do.",
        default_text="callers show none",
    )
    callers: Path | None = row(
        "PBA_CALLERS",
        "",
        FilePath(),
        f"A TOML file of callers, known by a secret token or by a certificate, and what they may do. {_WHEN}",
        default_text="nobody is asked who they are",
    )
    jwks: Path | None = row(
        "PBA_JWKS",
        "",
        FilePath(),
        f"A JSON Web Key Set: callers are known by tokens that one of its keys has signed (RS256, ES256, EdDSA). "
        f"{_WHEN}",
        default_text="no signed tokens",
    )
    jwt_issuer: str | None = row("PBA_JWT_ISSUER", "", Text(), "The `iss` of signed tokens.", default_text="none")
    jwt_audience: str | None = row("PBA_JWT_AUDIENCE", "", Text(), "Their `aud`.", default_text="none")
    insecure: bool = row(
        "PBA_INSECURE",
        "false",
        Switch(),
        "Lets the service listen beyond this machine without TLS or without asking callers who they are, which it "
        "warns of at every start.",
    )
    metrics_open: bool = row(
        "PBA_METRICS_OPEN",
        "false",
        Switch(),
        "Metrics are in plain text and for everybody who reaches their port, however calls are guarded.",
    )
    caller_calls: int = row(
        "PBA_CALLER_CALLS", "0", Whole(0, 1_000_000, "calls/s"), "What one caller may begin, over 2 s; 0: no bound."
    )
    caller_samples: int = row(
        "PBA_CALLER_SAMPLES",
        "0",
        Whole(0, 1_000_000_000, "samples/s"),
        "What one caller may push, over 2 s; 0: no bound. Streams are slowed down, other pushes refused.",
    )
    caller_streams: int = row(
        "PBA_CALLER_STREAMS",
        "0",
        Whole(0, 1_000_000, "streams"),
        "What one caller may have open at the same time; 0: no bound.",
    )
    caller_links: int = row(
        "PBA_CALLER_LINKS",
        "10000",
        Whole(1, 100_000_000, "links"),
        "Links that one node may make, where callers are known.",
    )


def access_faults(values: Mapping[str, Any]) -> list[str]:
    """What is wrong between these settings."""
    faults = []
    if (values["tls_cert"] is None) != (values["tls_key"] is None):
        faults.append("PBA_TLS_CERT and PBA_TLS_KEY come together")
    if values["tls_client_ca"] and not values["tls_cert"]:
        faults.append("PBA_TLS_CLIENT_CA needs PBA_TLS_CERT and PBA_TLS_KEY")
    if values["tls_client_ca"] and not values["callers"]:
        faults.append("PBA_TLS_CLIENT_CA needs PBA_CALLERS: a certificate alone does not say what its owner may do")
    if len({bool(values[name]) for name in ("jwks", "jwt_issuer", "jwt_audience")}) > 1:
        faults.append("PBA_JWKS, PBA_JWT_ISSUER and PBA_JWT_AUDIENCE come together")
    guarded = values["tls_cert"] and (values["callers"] or values["jwks"])
    for host, name, said in (
        ("grpc_host", "PBA_GRPC_HOST", values["insecure"]),
        ("metrics_host", "PBA_METRICS_HOST", values["insecure"] or values["metrics_open"]),
    ):
        if not (guarded or said or is_loopback(values[host])):
            faults.append(
                f"{name}={values[host]} is reached from other machines: give PBA_TLS_CERT and PBA_TLS_KEY, and "
                "PBA_CALLERS or PBA_JWKS, or say PBA_INSECURE=true"
            )
    return faults


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of a name other than localhost nobody knows."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
