"""`pba serve --demo`: links that move, a table, and an end in good order."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading

import pytest

from tests.process import ServiceProcess

ARGUMENTS = ("serve", "--demo", "--links", "3")
LINKS = {"demo/wan-1", "demo/metro-1", "demo/transcontinental-1"}


def predicted(service):
    with service.client() as client:
        return {link.link_id for link in client.links(prefix="demo/") if link.newest_prediction is not None}


def test_links_are_predicted_at_once_and_shown_without_a_terminal(tmp_path):
    with ServiceProcess(tmp_path, arguments=ARGUMENTS) as service:
        service.wait_until(lambda: predicted(service) == LINKS, "predict its links")
        with service.client() as client:
            for link in client.links():
                assert 330 <= link.sample_count <= 361
                parameters = client.parameters(link.link_id)
                assert parameters.streams >= 1
                assert parameters.prediction is not None
        service.wait_until(lambda: "now → in 15 min" in service.log.read_text(), "print a table")
        assert f"predict demo/wan-1 --target {service.target}" in service.log.read_text()
        assert service.stop(kind=signal.SIGINT) == 0
        log = service.log.read_text()
    assert "stopped; what was measured is kept" in log
    assert "Traceback" not in log


@pytest.fixture
def terminal():
    """The slave end of a terminal, and what was written to it so far."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 140, 0, 0))
    written = bytearray()

    def read():
        with contextlib.suppress(OSError):  # the other end was closed
            while piece := os.read(master, 65_536):
                written.extend(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield slave, lambda: re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode(errors="replace"))
    os.close(slave)
    reader.join(5)
    os.close(master)


def test_in_a_terminal_there_is_a_live_table_and_nothing_else(tmp_path, terminal):
    slave, screen = terminal
    environment = {"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50", "PBA_DATA_DIR": str(tmp_path)}
    with ServiceProcess(tmp_path, arguments=ARGUMENTS, stdout=slave, environment=environment) as service:
        row = re.compile(r"demo/metro-1 .*\d → \d.*\d+%.*\d+ x ")
        service.wait_until(lambda: row.search(screen()), "draw the table")
        assert service.stop(kind=signal.SIGINT) == 0
    assert "Traceback" not in service.log.read_text()
    assert screen().rstrip().endswith("stopped; what was measured is kept")
    assert '"event"' not in screen()
    assert "grpc_listening" in (tmp_path / "demo.log").read_text()


def test_started_again_it_goes_on_with_what_it_had(tmp_path):
    with ServiceProcess(tmp_path, arguments=ARGUMENTS) as service:
        service.wait_until(lambda: predicted(service) == LINKS, "predict its links")
        service.kill()
        service.start()
        service.wait_until(lambda: predicted(service) == LINKS, "predict its links")
        with service.client() as client:
            # the same past, pushed again, is the same samples
            assert all(330 <= link.sample_count <= 362 for link in client.links())
