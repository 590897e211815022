"""Counting many values at once is counting each."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from pba_service.observability.bulk import BulkHistogram


def test_it_reads_as_the_clients_own():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk, plain = (
        BulkHistogram("x", "text", (1, 2.5, 10), ours),
        Histogram("x", "text", buckets=(1, 2.5, 10), registry=theirs),
    )
    for value, count in ((0.5, 3), (1, 1), (2.6, 2), (100, 4), (10, 1)):
        bulk.observe(value, count)
        for _ in range(count):
            plain.observe(value)
    told = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == told
