"""What is counted of calls reads as if prometheus_client had counted it."""

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from pba_service.serving.counted import RpcMetrics

NAMES = ("grpc_type", "grpc_service", "grpc_method")
OK, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND


def test_it_reads_as_the_clients_own():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    now_s = 64.0
    metrics = RpcMetrics(ours, lambda: now_s)
    started = Counter("grpc_server_started", "Calls started.", NAMES, registry=theirs)
    handled = Counter("grpc_server_handled", "Calls finished, by status code.", (*NAMES, "grpc_code"), registry=theirs)
    handling_s = Histogram(
        "grpc_server_handling_seconds",
        "Time from the start of a call to its end.",
        NAMES,
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
        registry=theirs,
    )
    for name, code, seconds in (("B", OK, 0.125), ("B", OK, 0.25), ("C", NOT_FOUND, 64.0), ("B", NOT_FOUND, 0.0)):
        method = metrics.method(f"/a.S/{name}", "unary")
        started_s = method.begin()
        now_s += seconds
        assert method.end(started_s, code) == seconds
        labels = ("unary", "a.S", name)
        started.labels(*labels).inc()
        for each in grpc.StatusCode:
            handled.labels(*labels, each.name).inc(each is code)
        handling_s.labels(*labels).observe(seconds)
    told = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == told


def test_a_method_that_is_guarded_anew_goes_on_counting():
    registry = CollectorRegistry()
    metrics = RpcMetrics(registry)
    for _ in range(2):
        metrics.method("/a.S/B", "unary").begin()
    labels = {"grpc_type": "unary", "grpc_service": "a.S", "grpc_method": "B"}
    assert registry.get_sample_value("grpc_server_started_total", labels) == 2
