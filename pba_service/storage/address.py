"""What `PBA_REDIS_URL` may say.

    redis://[user:password@]host[:port][/database]                one server
    rediss://...                                                  the same over TLS
    unix:///path/to/socket[?db=database]                          the same over a unix socket
    redis+sentinel://[user:password@]host[:port],.../service[/database]
                                                                  the primary that these Sentinels know by that name
    redis+cluster://[user:password@]host[:port],...               a Cluster, found through these nodes
    rediss+sentinel://, rediss+cluster://                         the same over TLS

The options of redis-py may follow as a query: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`; for
Sentinels that want their own credentials `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_SENTINEL_OWN = ("sentinel_username", "sentinel_password")


class Topology(Enum):
    """How the servers work together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL.

    Attributes:
        topology: How the servers work together.
        hosts: Sentinels or Cluster nodes; empty for a single server.
        service: The name of the primary at the Sentinels.
        options: Arguments of a redis-py connection; for a single server they say where it is.
        sentinel_options: Arguments of the connections to Sentinels.
    """

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sentinel_options: dict[str, Any] = field(default_factory=dict)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.options.get("connection_class") is SSLConnection


def parse(url: str) -> Address:
    """Reads a URL.

    Raises:
        ValueError: It is none of the forms above; the text says what is wrong and repeats no password.
    """
    parts = urlsplit(url)
    scheme, _, topology = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss", "unix"} or topology not in {"", "sentinel", "cluster"}:
        raise ValueError(
            "the URL must begin with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
            "redis+cluster:// or rediss+cluster://"
        )
    if not topology:
        return Address(Topology.SINGLE, options=_single(url, scheme, parts))
    if scheme == "unix":
        raise ValueError("Sentinels and Clusters are not reached over unix sockets")
    if topology == "sentinel":
        return _sentinel(scheme, parts)
    if parts.path.strip("/"):
        raise ValueError("a Cluster has no databases: nothing may follow its hosts")
    hosts = _hosts(parts, _REDIS_PORT)
    return Address(Topology.CLUSTER, hosts, options=_options(scheme, parts, dict(parse_qsl(parts.query)), "0"))


def _single(url: str, scheme: str, parts: SplitResult) -> dict[str, Any]:
    if scheme == "unix" and not parts.path:
        raise ValueError("unix:// needs the path of a socket, as in unix:///run/redis.sock")
    if scheme != "unix":
        _hosts(parts, _REDIS_PORT)
        _database(parts.path.strip("/"))
    return dict(parse_url(url))


def _sentinel(scheme: str, parts: SplitResult) -> Address:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError(
            "a Sentinel URL names the service after its hosts, as in redis+sentinel://a:26379,b:26379/primary"
        )
    query = dict(parse_qsl(parts.query))
    own = {name.removeprefix("sentinel_"): query.pop(name) for name in _SENTINEL_OWN if name in query}
    options = _options(scheme, parts, query, database or "0")
    encryption = {name: value for name, value in options.items() if name == "connection_class" or name[:4] == "ssl_"}
    return Address(Topology.SENTINEL, _hosts(parts, _SENTINEL_PORT), unquote(service), options, encryption | own)


def _options(scheme: str, parts: SplitResult, query: dict[str, str], database: str) -> dict[str, Any]:
    """The options that one server's URL of the same credentials, database and query would give."""
    credentials, at, _ = parts.netloc.rpartition("@")
    _database(database)
    options = dict(parse_url(f"{scheme}://{credentials}{at}host/{database}?{urlencode(query)}"))
    del options["host"]
    return options


def _hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{text}")
            host, port = one.hostname, one.port
        except ValueError as error:
            raise ValueError(f"{text!r} is no host and port") from error
        if not host:
            raise ValueError("the URL names no host")
        hosts.append((host, port or default_port))
    return tuple(hosts)


def _database(text: str) -> None:
    if text and not text.isdecimal():
        raise ValueError(f"{text!r} is no number of a database")
