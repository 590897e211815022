"""What a worker was telling when it died does not count for all it had to tell."""

import asyncio
import contextlib
import socket
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter

from pba_service.observability.told import tell_on_socket
from pba_service.workers.scrape import Workers


def heard(where):
    """All bytes that come over a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(where))
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@contextlib.contextmanager
def telling(where, *answers):
    """Gives each who connects to a unix socket the next of some answers, and hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(where))
        listening.listen()

        def tell():
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(answer)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        yield
        thread.join(10)


@pytest.mark.parametrize("after", [b"# TYPE reads_total counter\n", b"\nreads_total"])
async def test_a_worker_that_dies_in_the_midst_of_telling_counts_with_what_it_told_before(tmp_path, after):
    told = CollectorRegistry()
    for name in ("pushes", "reads"):
        Counter(name, "Some.", registry=told).inc(100)
    async with tell_on_socket(told, tmp_path / "whole"):
        whole = await asyncio.to_thread(heard, tmp_path / "whole")
    half = whole[: whole.index(after) + len(after)]
    workers, registry = Workers([tmp_path / "0"], 10), CollectorRegistry()
    registry.register(workers)

    def reads():
        return registry.get_sample_value("reads_total")

    with telling(tmp_path / "0", whole, half):
        assert reads() == 100
        assert reads() == 100  # it is killed meanwhile
    workers.ended(0)
    assert reads() == 100
