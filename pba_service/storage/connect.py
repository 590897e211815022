"""The server that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.storage import address
from pba_service.storage.address import Topology
from pba_service.storage.cluster import ClusterServer
from pba_service.storage.sentinel import SentinelServer
from pba_service.storage.server import StandaloneServer

if TYPE_CHECKING:
    from pba_service.storage.server import Server


def open_server(url: str, timeout_s: float) -> Server:
    """The server at a URL; connections are made when they are needed.

    Raises:
        ValueError: The URL has none of the forms that `address` lists.
    """
    parsed = address.parse(url)
    match parsed.topology:
        case Topology.SINGLE:
            return StandaloneServer(parsed.options, timeout_s)
        case Topology.SENTINEL:
            return SentinelServer(parsed, timeout_s)
        case Topology.CLUSTER:
            return ClusterServer(parsed, timeout_s)
