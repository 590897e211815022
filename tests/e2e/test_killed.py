"""What was acknowledged survives the death of the service, once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import Client, PbaClientError, Sample
from tests.process import ServiceProcess

WRITERS = 4
ACKNOWLEDGED_BEFORE_KILL = 60


class Writer(threading.Thread):
    """Pushes batches of its own link, and remembers what was acknowledged."""

    def __init__(self, target, link_id, start, enough):
        super().__init__(daemon=True)
        self.link_id, self.sent, self.acknowledged, self.enough = link_id, {}, {}, enough
        self._target, self._start_time = target, start
        self.start()

    def run(self):
        with Client(self._target) as client:
            for batch in range(5000):
                rows = {
                    self._start_time + timedelta(seconds=7 * (3 * batch + i)): float(3 * batch + i) for i in range(3)
                }
                self.sent |= rows
                try:
                    result = client.push(
                        [Sample(self.link_id, measured_at=time, bandwidth_mbps=value) for time, value in rows.items()]
                    )
                except PbaClientError:
                    return
                assert result.stored + result.duplicates == len(rows)
                self.acknowledged |= rows
                if len(self.acknowledged) >= ACKNOWLEDGED_BEFORE_KILL:
                    self.enough.set()


@pytest.mark.parametrize("seed", range(2))
def test_what_was_acknowledged_is_there_once_after_a_kill(tmp_path, seed):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    enough = threading.Event()
    with ServiceProcess(tmp_path) as service:
        writers = [Writer(service.target, f"link-{i}", start, enough) for i in range(WRITERS)]
        assert enough.wait(30)
        service.kill()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        assert sum(len(writer.acknowledged) for writer in writers) >= ACKNOWLEDGED_BEFORE_KILL

        service.start()
        with service.client() as client:
            _check(client, writers)


def _check(client, writers):
    for writer in writers:
        history = [(row.measured_at, row.bandwidth_mbps) for row in client.history(writer.link_id)]
        assert len(history) == len(dict(history)), "a sample is there twice"
        missing = writer.acknowledged.items() - dict(history).items()
        assert not missing, f"{len(missing)} acknowledged samples are missing"
        assert dict(history).items() <= writer.sent.items(), "a sample is there that was never sent"
    # and sending everything again stores nothing twice
    writer = writers[0]
    again = client.push(
        [Sample(writer.link_id, measured_at=time, bandwidth_mbps=value) for time, value in writer.acknowledged.items()]
    )
    assert (again.stored, again.duplicates) == (0, len(writer.acknowledged))


def test_a_service_that_is_told_to_stop_stops_in_order(tmp_path):
    with ServiceProcess(tmp_path) as service, service.client() as client:
        client.push(Sample("a", bandwidth_mbps=1.0))
        assert service.stop() == 0
        log = service.log.read_text()
        assert '"event": "stopped"' in log
        assert "Traceback" not in log
