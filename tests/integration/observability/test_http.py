"""The metrics endpoint over real HTTP."""

import contextlib
import errno
import socket
import time
import urllib.request

import pytest

from pba_service.observability.http import MetricsServer
from pba_service.observability.metrics import Metrics, service_registry


def test_it_serves_metrics_on_a_free_port_until_closed():
    registry = service_registry()
    Metrics(registry, 10).store_failed()
    with MetricsServer(registry, "127.0.0.1", 0) as server:
        port = server.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            body = response.read().decode()
            assert response.headers["Content-Type"].startswith("text/plain")
        assert "dwcp_pba_store_errors_total 1.0" in body
        assert "process_resident_memory_bytes" in body
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


def test_a_taken_port_is_an_error_at_once():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            MetricsServer(service_registry(), "127.0.0.1", port)


def test_who_sends_a_byte_now_and_then_holds_a_thread_no_longer_than_others():
    with (
        MetricsServer(service_registry(), "127.0.0.1", 0, timeout_s=0.5) as server,
        socket.create_connection(("127.0.0.1", server.port)) as slow,
    ):
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        slow.settimeout(0.05)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                slow.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert 0.4 < time.monotonic() - began < 5


def test_without_descriptors_it_waits_until_there_are_some_again(monkeypatch):
    tries, accept = [], socket.socket.accept

    def few(listening):
        tries.append(time.monotonic())
        if len(tries) <= 4:
            raise OSError(errno.EMFILE, "too many open files")
        return accept(listening)

    with MetricsServer(service_registry(), "127.0.0.1", 0) as server:
        monkeypatch.setattr(socket.socket, "accept", few)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as response:
            assert response.status == 200
    assert tries[4] - tries[0] > 0.2, "it asked again without a pause"
