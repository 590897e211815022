import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from pba_service.storage.address import Topology, parse


def test_one_server():
    address = parse("redis://user:p%40ss@db.example:6380/3")

    assert address.topology is Topology.SINGLE
    assert address.options == {"username": "user", "password": "p@ss", "host": "db.example", "port": 6380, "db": 3}
    assert not address.tls


def test_one_server_over_tls():
    address = parse("rediss://db.example?ssl_ca_certs=/etc/ca.pem")

    assert address.tls
    assert address.options["connection_class"] is SSLConnection
    assert address.options["ssl_ca_certs"] == "/etc/ca.pem"


def test_a_unix_socket():
    options = parse("unix:///var/lib/a%20b/s.sock?db=2").options

    assert options == {"path": "/var/lib/a b/s.sock", "db": 2, "connection_class": UnixDomainSocketConnection}


def test_sentinels():
    address = parse("redis+sentinel://user:secret@one:26380,two,[::1]:26381/main/4?sentinel_password=other")

    assert address.topology is Topology.SENTINEL
    assert address.hosts == (("one", 26380), ("two", 26379), ("::1", 26381))
    assert address.service == "main"
    assert address.options == {"username": "user", "password": "secret", "db": 4}
    assert address.sentinel_options == {"password": "other"}


def test_sentinels_over_tls_are_asked_over_tls():
    address = parse("rediss+sentinel://one/main?ssl_ca_certs=/etc/ca.pem")

    assert address.tls
    assert address.sentinel_options == {"connection_class": SSLConnection, "ssl_ca_certs": "/etc/ca.pem"}


def test_a_cluster():
    address = parse("rediss+cluster://:open@one:7000,two:7001")

    assert address.topology is Topology.CLUSTER
    assert address.hosts == (("one", 7000), ("two", 7001))
    assert address.options == {"password": "open", "db": 0, "connection_class": SSLConnection}
    assert address.tls


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "must begin with"),
        ("localhost:6379", "must begin with"),
        ("http://localhost", "must begin with"),
        ("redis+ring://localhost", "must begin with"),
        ("redis://", "no host"),
        ("redis://localhost:port", "no host and port"),
        ("redis://localhost:99999", "no host and port"),
        ("redis://localhost/zero", "no number of a database"),
        ("unix://", "path of a socket"),
        ("unix+cluster:///run/s.sock", "not reached over unix sockets"),
        ("redis+sentinel://one,two", "names the service"),
        ("redis+sentinel://one,,two/main", "no host"),
        ("redis+sentinel://one/main/x", "no number of a database"),
        ("redis+cluster://one/1", "no databases"),
        ("redis+cluster://one:x", "no host and port"),
    ],
)
def test_a_wrong_url_is_refused_in_plain_words(url, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(url)


def test_a_complaint_does_not_repeat_the_password():
    with pytest.raises(ValueError, match="port") as refused:
        parse("redis+cluster://user:hunter2@one:x")

    assert "hunter2" not in str(refused.value)
