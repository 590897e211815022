"""What an agent is told: frozen values with their bounds. `config_file` reads them from YAML."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pba_client.advice import BandwidthKind, CongestionControl
from pba_client.options import Options

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8620
"""Where reflectors listen unless told otherwise."""

LEAST_KEY_BYTES = 16
_MOST_PORT = 65_535
_MOST_TEXT_BYTES = 128
_MEBIBYTE = 1 << 20


class ConfigError(ValueError):
    """The configuration cannot be used; the text lists every fault, one a line."""


def _within(value: float, low: float, high: float, name: str) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must be {low:g} to {high:g}")


def _text(value: str, name: str) -> None:
    if not value or len(value.encode()) > _MOST_TEXT_BYTES or not value.isprintable():
        raise ConfigError(f"{name} must be 1 to {_MOST_TEXT_BYTES} bytes that can be printed")


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Probes of one link.

    Attributes:
        port: Of the peer's reflector.
        rate_hz: Probes a second while the link is idle; 0: none.
        busy_rate_hz: Probes a second while the transport's own connections tell most of it; for jitter.
        timeout_s: After this an unanswered probe is lost.
    """

    port: int = PORT
    rate_hz: float = 10.0
    busy_rate_hz: float = 1.0
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        _within(self.port, 1, _MOST_PORT, "probe.port")
        _within(self.rate_hz, 0, 100, "probe.rate")
        _within(self.busy_rate_hz, 0, 100, "probe.busy_rate")
        _within(self.timeout_s, 0.05, 30, "probe.timeout")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Packet trains of one link.

    Attributes:
        bytes_per_hour: At most this in any hour, headers counted; 0: none are sent.
        packet_bytes: Payload of a packet: with 28 bytes of headers it must fit the path unfragmented.
        most_packets: Longest train.
        seconds: How long a train should take on the path; short ones are measured badly.
    """

    bytes_per_hour: int = 64 * _MEBIBYTE
    packet_bytes: int = 1400
    most_packets: int = 512
    seconds: float = 0.03

    def __post_init__(self) -> None:
        _within(self.bytes_per_hour, 0, 1 << 40, "train.bytes_per_hour")
        _within(self.packet_bytes, 256, 1472, "train.packet_bytes")
        _within(self.most_packets, 16, 4096, "train.most_packets")
        _within(self.seconds, 0.005, 0.2, "train.seconds")


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """One link of this node.

    Attributes:
        link: Its id, as the service knows it.
        address: The peer's IP address.
        peer: The peer's name, for people.
        region: The region that it belongs to.
        ports: Ports of the transport, on either side; empty: every TCP connection to the peer counts.
        key: Shared with the peer's reflector; None: no probes and no trains.
        probe: Its probes.
        train: Its trains.
        bandwidth_kind: What the service should take measured bandwidth for.
        congestion_control: Of the transport's sockets.
        max_streams: The most that the transport can open.
        max_buffer_bytes: The largest socket buffer that it can set.
    """

    link: str
    address: str
    peer: str = ""
    region: str = ""
    ports: frozenset[int] = frozenset()
    key: bytes | None = field(default=None, repr=False)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    bandwidth_kind: BandwidthKind = BandwidthKind.CAPACITY
    congestion_control: CongestionControl = CongestionControl.UNSPECIFIED
    max_streams: int | None = None
    max_buffer_bytes: int | None = None

    def __post_init__(self) -> None:
        _text(self.link, "link")
        for value, name in ((self.peer, "peer"), (self.region, "region")):
            if value:
                _text(value, f"{name} of link {self.link}")
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ConfigError(f"address of link {self.link} must be an IP address, not {self.address!r}") from None
        if self.key is not None and len(self.key) < LEAST_KEY_BYTES:
            raise ConfigError(f"the key of link {self.link} must have at least {LEAST_KEY_BYTES} bytes")
        if self.max_streams is not None:
            _within(self.max_streams, 1, 1 << 31, "max_streams")
        if self.max_buffer_bytes is not None:
            _within(self.max_buffer_bytes, 4096, 1 << 31, "max_buffer")

    @property
    def packed(self) -> bytes:
        """The peer's address as the kernel has it."""
        return ipaddress.ip_address(self.address).packed

    @property
    def family(self) -> socket.AddressFamily:
        """The peer's address family."""
        return socket.AF_INET if len(self.packed) == 4 else socket.AF_INET6  # noqa: PLR2004 - bytes of IPv4


@dataclass(frozen=True, slots=True)
class ReflectorConfig:
    """A reflector.

    Attributes:
        key: Shared with those who may ask; None: it answers anyone in `allow`, which only laboratories want.
        host: Address to listen on.
        port: Port to listen on; 0: any.
        allow: Networks whose packets are looked at at all; empty: any, where there is a key.
        packets_per_s: Answers a second to each source.
        most_unwanted_per_s: Packets without a right to be here that are looked at within a second.
    """

    key: bytes | None = field(repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - a reflector is there for other nodes
    port: int = PORT
    allow: tuple[str, ...] = ()
    packets_per_s: float = 200.0
    most_unwanted_per_s: int = 2_000

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) < LEAST_KEY_BYTES:
            raise ConfigError(f"the reflector's key must have at least {LEAST_KEY_BYTES} bytes")
        if self.key is None and not self.allow:
            raise ConfigError("a reflector without a key must say in allow whom it answers")
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise ConfigError(f"respond.host must be an IP address, not {self.host!r}") from None
        _within(self.port, 0, _MOST_PORT, "respond.port")
        _within(self.packets_per_s, 1, 1e6, "respond.packets_per_s")
        for one in self.allow:
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError:
                raise ConfigError(f"respond.allow: {one!r} is no network") from None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """An agent.

    Attributes:
        links: The links it measures.
        state_dir: Where its buffer lies; one agent may use it.
        target: The service.
        options: How to connect to it.
        node: This node's name.
        interval_s: A sample of each link in this time: the service's PBA_COLLECT_INTERVAL.
        poll_s: How often the transport's connections are looked at.
        probes_per_s: Probes of all idle links together; with many links each is probed less often.
        buffer_samples: Samples kept while the service is away; the oldest go first.
        interface: The interface whose traffic is told beside the samples; empty: none.
        metrics_file: Metrics for Prometheus' node exporter, written anew with each sample; None: none.
        parameters_dir: A file for each link with the parameters in force; None: none.
        command: Run with the parameters as JSON on its standard input when they change; empty: none.
        respond: The reflector to run beside it; None: none.
    """

    links: tuple[LinkConfig, ...]
    state_dir: Path
    target: str = "127.0.0.1:50051"
    options: Options = field(default_factory=Options)
    node: str = field(default_factory=socket.gethostname)
    interval_s: float = 60.0
    poll_s: float = 2.0
    probes_per_s: float = 20.0
    buffer_samples: int = 65_536
    interface: str = ""
    metrics_file: Path | None = None
    parameters_dir: Path | None = None
    command: tuple[str, ...] = ()
    respond: ReflectorConfig | None = None

    def __post_init__(self) -> None:
        _text(self.node, "node")
        _within(self.interval_s, 1, 3600, "interval")
        _within(self.poll_s, 0.1, self.interval_s, "poll")
        _within(self.probes_per_s, 0.1, 1e5, "probes_per_s")
        _within(self.buffer_samples, 16, 1 << 24, "buffer_samples")
        names = [one.link for one in self.links]
        if len(set(names)) != len(names):
            raise ConfigError("each link may be named once")
