"""What a service of several processes tells of Redis, of its queues, and of what it had to read."""

from datetime import UTC, datetime, timedelta

from pba_client import Sample
from tests.process import ServiceProcess


def values(service, name):
    found = {}
    for line in service.metrics().splitlines():
        if line.startswith(name):
            labels, _, value = line.rpartition(" ")
            found[labels.removeprefix(name).strip("{}")] = float(value)
    return found


def test_redis_queues_and_misses_are_told_by_several_processes_as_by_one(tmp_path):
    now = datetime.now(UTC)
    rows = [
        Sample("a", measured_at=now - timedelta(minutes=30 - i), bandwidth_mbps=50.0 + i, latency_ms=20.0)
        for i in range(30)
    ]
    with ServiceProcess(tmp_path, environment={"PBA_WORKERS": "2"}) as service:
        with service.client() as client:
            client.push(rows)
            assert client.batch_predict(["a", "nobody-knows-it"])[0].error is None

        def told():
            trips = values(service, "dwcp_pba_redis_round_trip_seconds_count")
            return (
                trips.get('operation="put"', 0) >= 1
                and trips.get('operation="commit"', 0) >= 1
                and values(service, "dwcp_pba_queue_length").keys()
                == {'queue="samples"', 'queue="links"', 'queue="updates"'}
                and values(service, "dwcp_pba_memory_misses_total")[""] >= 2
            )

        service.wait_until(told, "tell what it did")
        assert 'operation="XREAD"' not in values(service, "dwcp_pba_redis_round_trip_seconds_count")
        assert values(service, "dwcp_pba_redis_round_trips")[""] >= 0
