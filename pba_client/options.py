"""How a client connects and how long it waits: small values with finite defaults."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "0.1.0"

ChannelOptions = list[tuple[str, str | int]]

_MIN_KEEPALIVE_S = 10.0
_METADATA_KEY = re.compile(r"[a-z0-9._-]+")


def _require(holds: bool, text: str) -> None:  # noqa: FBT001 - a condition is what this is about
    if not holds:
        raise ValueError(text)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of calls, their retries included.

    Attributes:
        call_s: One prediction, one set of parameters, a page of links.
        bulk_s: A batch of samples or predictions, a whole history or ledger.
    """

    call_s: float = 5.0
    bulk_s: float = 30.0

    def __post_init__(self) -> None:
        _require(self.call_s > 0, "call_s must be above 0")
        _require(self.bulk_s > 0, "bulk_s must be above 0")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting before a lost stream is opened again: random between 0 and a bound that grows with each attempt.

    Attributes:
        initial_s: The bound before the first attempt.
        maximum_s: The largest bound.
        multiplier: Growth of the bound per attempt.
    """

    initial_s: float = 0.25
    maximum_s: float = 10.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        _require(0 < self.initial_s <= self.maximum_s, "initial_s must be above 0 and at most maximum_s")
        _require(self.multiplier >= 1, "multiplier must be at least 1")

    def bound_s(self, attempt: int) -> float:
        """The bound before an attempt, counted from 0."""
        # beyond 64 doublings the power itself would overflow, long after the maximum was reached
        return min(self.maximum_s, self.initial_s * self.multiplier ** min(attempt, 64))


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Pings on a connection that has calls, so that a dead peer is noticed.

    Attributes:
        time_s: Silence before a ping, at least 10 s: the service closes connections that ping more often.
        timeout_s: Wait for its answer.
    """

    time_s: float = 30.0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        _require(self.time_s >= _MIN_KEEPALIVE_S, f"time_s must be at least {_MIN_KEEPALIVE_S:g}")
        _require(self.timeout_s > 0, "timeout_s must be above 0")


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption, and with a certificate of one's own mutual authentication. All in PEM.

    Attributes:
        root_certificates: Whom to trust; None: the system's certificates.
        private_key: The client's own key, with `certificate_chain`.
        certificate_chain: The client's own certificate, with `private_key`.
        server_name: The name to expect in the server's certificate; empty: the target's.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        both = (self.private_key is None) == (self.certificate_chain is None)
        _require(both, "private_key and certificate_chain come together")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The same from PEM files. When they change, new connections use the new ones; broken ones change nothing.

    Attributes:
        ca: Whom to trust; None: the system's certificates.
        certificate: The client's own certificate, with `key`.
        key: The client's own key, with `certificate`.
        server_name: The name to expect in the server's certificate; empty: the target's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        _require((self.key is None) == (self.certificate is None), "key and certificate come together")


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that may be said of a connection.

    Attributes:
        timeouts: Deadlines.
        backoff: Waiting before streams are opened again.
        keepalive: Pings.
        tls: Encryption; None: plain text.
        token: Says who is calling; sent with every call, and in plain text only within this machine.
        token_file: The same from a file, which is read again when it changes.
        metadata: Sent with every call: keys in lower case, values of printable ASCII.
        max_message_bytes: Largest message taken.
        max_unacknowledged: Batches that a push stream sends ahead of their acknowledgements.
        patience_s: How long a push stream goes on trying to reach the service before it fails.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    backoff: Backoff = field(default_factory=Backoff)
    keepalive: Keepalive = field(default_factory=Keepalive)
    tls: Tls | TlsFiles | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    max_message_bytes: int = 16 * 1024 * 1024
    max_unacknowledged: int = 64
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        _require(self.max_message_bytes > 0, "max_message_bytes must be above 0")
        _require(self.max_unacknowledged > 0, "max_unacknowledged must be above 0")
        _require(self.patience_s >= 0, "patience_s must be at least 0")
        _require(not (self.token and self.token_file), "token and token_file exclude each other")
        for key, value in self.metadata:  # gRPC itself would tell only when it calls, and not what is wrong
            _require(_METADATA_KEY.fullmatch(key) is not None, f"metadata: no key can be {key!r}")
            fits = key.endswith("-bin") or (value.isascii() and value.isprintable())
            _require(fits, f"metadata: the value of {key} must be printable ASCII")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Options for the service that an environment describes; what is set to nothing counts as not set.

        Args:
            environment: `PBA_CA`, `PBA_CERT`, `PBA_KEY`, `PBA_SERVER_NAME` and `PBA_TOKEN_FILE`. Any of the first four
                turns TLS on.

        Raises:
            ValueError: They contradict each other.
        """
        ca, certificate, key, name, token = (
            environment.get(f"PBA_{text}", "").strip() for text in ("CA", "CERT", "KEY", "SERVER_NAME", "TOKEN_FILE")
        )
        tls = TlsFiles(_path(ca), _path(certificate), _path(key), name) if ca or certificate or key or name else None
        return cls(tls=tls, token_file=_path(token))


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


@cache
def service_config(*, health_checked: bool = True) -> str:
    """The service config (JSON) that ships with the client: balancing, health and retries of idempotent calls.

    Args:
        health_checked: False for calls that a service answers even while it says that it is not serving.
    """
    text = resources.files("pba_client").joinpath("service_config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    if not health_checked:
        del config["healthCheckConfig"]
    return json.dumps(config)


def channel_options(options: Options, *, health_checked: bool = True) -> ChannelOptions:
    """The channel arguments that stand for some options."""
    channel: ChannelOptions = [
        ("grpc.service_config", service_config(health_checked=health_checked)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.primary_user_agent", f"pba-client/{VERSION}"),
        ("grpc.keepalive_time_ms", round(options.keepalive.time_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive.timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        # a subscription to quiet links must be able to ping for ever
        ("grpc.http2.max_pings_without_data", 0),
        # the default of two minutes would keep nodes away long after a restart
        ("grpc.initial_reconnect_backoff_ms", 250),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
    ]
    if options.tls and options.tls.server_name:
        channel.append(("grpc.ssl_target_name_override", options.tls.server_name))
    return channel
