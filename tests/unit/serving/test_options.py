"""The C core ignores option names that it does not know, so that each must be looked up in it."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from pba_service.serving.options import ServerOptions

WITH_ALL = ServerOptions("127.0.0.1", 50051, max_connection_age_s=60)


@pytest.fixture(scope="module")
def core():
    return Path(cygrpc.__file__).read_bytes()


def test_the_core_knows_every_option(core):
    for key, _ in WITH_ALL.channel_options():
        assert key.encode() + b"\0" in core, key  # linkers let strings share their ends, never their beginnings


def test_the_core_does_not_know_the_name_that_most_advice_gives(core):
    """The reason for the test above."""
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in core


def test_connections_live_for_ever_unless_told_otherwise():
    keys = {key for key, _ in ServerOptions("127.0.0.1", 50051).channel_options()}
    assert {key for key, _ in WITH_ALL.channel_options()} - keys == {
        "grpc.max_connection_age_ms",
        "grpc.max_connection_age_grace_ms",
    }


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:50051"),
        ("::1", "[::1]:50051"),
        ("[::]", "[::]:50051"),
        ("node.example", "node.example:50051"),
    ],
)
def test_addresses(host, address):
    assert ServerOptions(host, 50051).address == address
