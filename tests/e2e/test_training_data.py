"""What `pba train --from-service` trains on: the last days of what the service holds."""

from datetime import UTC, datetime, timedelta

from pba_client import Sample
from pba_service.cli.train import service_history
from pba_service.files import read_links
from tests.process import ServiceProcess


def test_the_last_days_of_every_link(tmp_path):
    now = datetime.now(UTC).replace(microsecond=0)
    times = {
        "a": [now - timedelta(days=days) for days in (0, 1, 3)],
        "b": [now - timedelta(days=1.5)],
        "old": [now - timedelta(days=9)],
    }
    with ServiceProcess(tmp_path) as service, service.client() as client:
        client.push(
            [Sample(link, measured_at=time, latency_ms=20.0) for link, of_link in times.items() for time in of_link]
        )
        with service_history(service.target, days=2) as file:
            found = {link.info.link_id: len(link.series) for link in read_links(file)}
        assert found == {"a": 2, "b": 1}
        assert not file.exists()
