"""Reflector and measurer on the loopback: who is answered, what is found, what the kernel tells of connections."""

import ipaddress
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from pba_client.agent import (
    AgentConfig,
    LinkConfig,
    ProbeConfig,
    Reflector,
    ReflectorConfig,
    Source,
    TrainConfig,
    stamp,
)
from pba_client.agent.measurer import Measurer
from pba_client.agent.sock_diag import SockDiag
from tests.servers import wait_until

KEY = b"a key that both sides hold"
LOCAL = socket.inet_aton("127.0.0.1")


@contextmanager
def reflecting(**settings):
    reflector = Reflector(ReflectorConfig(**{"key": KEY, "host": "127.0.0.1", "port": 0, **settings}))
    stopped = threading.Event()
    thread = threading.Thread(target=reflector.run, args=(stopped.is_set,))
    thread.start()
    try:
        yield reflector
    finally:
        stopped.set()
        thread.join()
        reflector.close()


@contextmanager
def peer(reflector):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.connect(("127.0.0.1", reflector.port))
        yield udp


def probe(number, key=KEY, session=1):
    return stamp.pack_probe(stamp.Probe(number, time.time_ns(), session), key)


def test_who_has_the_key_is_answered_once_and_not_more_than_asked():
    with reflecting() as reflector, peer(reflector) as udp:
        packet = probe(0)
        for one in (packet, packet, probe(1)):
            udp.send(one)
        answers = [stamp.parse_reply(udp.recv(2000), KEY) for _ in range(2)]
        assert [(one.sequence, one.probe_sequence) for one in answers] == [(0, 0), (1, 1)]
        assert all(0 <= one.sent_ns - one.received_ns < 10**9 for one in answers)
        assert reflector.counts.replayed == 1


def test_strangers_hear_nothing():
    with reflecting() as reflector, peer(reflector) as udp:
        for one in (b"", b"hello", probe(0, b"another key, as long"), probe(0, None), bytes(1472)):
            udp.send(one)
        wait_until(lambda: reflector.counts.strangers == 5)
        udp.settimeout(0.05)
        with pytest.raises(TimeoutError):
            udp.recv(2000)
        assert reflector.counts.answered == 0


def test_who_is_not_allowed_hears_nothing_though_it_has_the_key():
    with reflecting(allow=("192.0.2.0/24",)) as reflector, peer(reflector) as udp:
        udp.send(probe(0))
        wait_until(lambda: reflector.counts.strangers == 1)


def test_on_all_addresses_of_both_families_those_of_ipv4_are_allowed_by_their_own():
    with reflecting(host="::", allow=("127.0.0.0/8",)) as reflector, peer(reflector) as udp:
        udp.send(probe(0))
        assert stamp.parse_reply(udp.recv(2000), KEY).probe_sequence == 0


def test_a_source_has_its_rate():
    with reflecting(packets_per_s=20) as reflector, peer(reflector) as udp:
        for number in range(100):
            udp.send(probe(number))
        wait_until(lambda: reflector.counts.answered + reflector.counts.limited == 100)
        assert reflector.counts.limited >= 70


def measured(links, enough=lambda found: False, seconds=2.2):
    """What a measurer finds on some links, in intervals of a second, until it is enough or the time is over."""
    found, end = [], time.monotonic() + seconds
    config = AgentConfig(tuple(links), None, interval_s=1.0, poll_s=0.1, probes_per_s=1000)
    Measurer(config, found.extend).run(lambda: enough(found) or time.monotonic() > end)
    return found


def link(port, **settings):
    fast = ProbeConfig(port=port, rate_hz=50, timeout_s=0.2)
    # a port that nothing uses: other tests talk over the loopback as well
    return LinkConfig("loop", "127.0.0.1", key=KEY, ports=frozenset({1}), probe=fast, **settings)


def test_an_idle_link_is_measured_and_says_how():
    wanted = (Source.PROBE_TWO_WAY, Source.PROBE, Source.PROBE)

    def whole(found):
        return [one for one in found if one.sources[1:] == wanted]

    trains = TrainConfig(bytes_per_hour=1 << 40)
    with reflecting(packets_per_s=10_000) as reflector:
        found = measured([link(reflector.port, train=trains)], whole, seconds=60)
    newest = whole(found)[-1]
    assert 0 < newest.latency_ms < 50
    assert 0 <= newest.jitter_ms < 50
    assert newest.packet_loss_ratio <= 0.2
    assert newest.loss.trials >= 10


def test_trains_keep_to_their_budget():
    with reflecting(packets_per_s=10_000) as reflector:
        found = measured([link(reflector.port, train=TrainConfig(bytes_per_hour=100_000))])
    # an hour has 3,600 intervals of a second here: a share of 28 bytes buys no train
    assert all(one.bandwidth_mbps is None for one in found)
    assert reflector.counts.cars == 0


def test_where_nobody_listens_nothing_is_measured():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert measured([link(port)]) == []


def test_the_kernel_tells_of_connections_to_the_peer_and_of_no_others():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
        server.accept()[0] as far,
    ):
        near.sendall(bytes(100_000))
        got = 0
        while got < 100_000:
            got += len(far.recv(65_536))
        diag = SockDiag()
        (mine,) = [one for one in diag.connections(frozenset({LOCAL})) if one.remote_port == server.getsockname()[1]]
        others = diag.connections(frozenset({ipaddress.ip_address("192.0.2.1").packed}))
        diag.close()
    assert mine.bytes_acked >= 100_000
    assert mine.data_segments > 0
    assert mine.rtt_us > 0
    assert mine.max_pacing_bps is None
    assert others == []


def test_the_kernel_tells_of_ipv4_connections_of_sockets_for_both_families():
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as near,
        server.accept()[0],
    ):
        port = near.getsockname()[1]
        diag = SockDiag()
        (accepted,) = [one for one in diag.connections(frozenset({LOCAL})) if one.remote_port == port]
        diag.close()
    assert accepted.remote == LOCAL
