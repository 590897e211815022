"""How the gRPC server listens, and the channel options that make it so."""

from __future__ import annotations

from dataclasses import dataclass, field

from pba_service.serving.admission import AdmissionOptions
from pba_service.serving.health import MonitorOptions

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server listens, watches itself and stops.

    Attributes:
        host: Address to listen on; '0.0.0.0' and '[::]' are every one.
        port: TCP port; 0 takes a free one.
        share_port: Lets several processes listen on one port; otherwise a port in use is an error.
        max_message_bytes: Largest request. 8 MiB hold the 10,000 samples of a batch whatever their texts, see the
            tests: 5.6 MB as rows with all texts at their longest.
        max_connection_age_s: After this time a connection is closed, so that clients spread again over replicas; its
            calls have `connection_grace_s` to end. None: never. Streams live at most as long as their connection.
        connection_grace_s: See there.
        keepalive_s: An idle connection is asked for a sign of life this often.
        keepalive_timeout_s: Without one for this long it is closed.
        min_ping_interval_s: Clients may ask for signs of life this often.
        max_pending_calls: Calls that gRPC holds until the event loop takes them; more are cancelled by gRPC's core.
        drain_wait_s: Between telling NOT_SERVING and ending streams, so that clients and load balancers turn away.
        drain_grace_s: After that, what calls have to end.
        admission: How many calls are let in; None: all.
        monitor: How quickly dependencies are given up.
    """

    host: str
    port: int
    share_port: bool = False
    max_message_bytes: int = 8 * MEBIBYTE
    max_connection_age_s: float | None = None
    connection_grace_s: float = 30.0
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    min_ping_interval_s: float = 10.0
    max_pending_calls: int = 20_000
    drain_wait_s: float = 2.0
    drain_grace_s: float = 10.0
    admission: AdmissionOptions | None = field(default_factory=AdmissionOptions)
    monitor: MonitorOptions = field(default_factory=MonitorOptions)

    @property
    def address(self) -> str:
        """host:port as gRPC reads it."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{host}:{self.port}"

    def channel_options(self) -> list[tuple[str, int]]:
        """The options of the C core, which ignores names it does not know: a test looks each of them up in it."""
        options = [
            ("grpc.so_reuseport", int(self.share_port)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.min_ping_interval_s)),
            ("grpc.server.max_pending_requests", self.max_pending_calls),
            ("grpc.server.max_pending_requests_hard_limit", self.max_pending_calls),
        ]
        if self.max_connection_age_s is not None:
            options += [
                ("grpc.max_connection_age_ms", _ms(self.max_connection_age_s)),
                ("grpc.max_connection_age_grace_ms", _ms(self.connection_grace_s)),
            ]
        return options


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
