"""Metrics of several processes become those of one."""

from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pba_service.observability.metrics import Metrics, service_registry
from pba_service.workers.scrape import Workers


class Process:
    """What one worker tells."""

    def __init__(self, max_links=10):
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, max_links)
        self.calls = Counter("grpc_server_started", "Calls.", ["grpc_method"], registry=self.registry)

    def text(self):
        return generate_latest(self.registry).decode()


class Stage:
    """Some processes, and the one answer that is made of theirs."""

    def __init__(self, count=2, max_links=10):
        self.processes = [Process(max_links) for _ in range(count)]
        self.silent = set()
        self.workers = Workers([Path(str(i)) for i in range(count)], max_links, self._ask)
        self.registry = CollectorRegistry()
        self.registry.register(self.workers)

    def _ask(self, where):
        if int(where.name) in self.silent:
            raise ConnectionRefusedError
        return self.processes[int(where.name)].text()

    def value(self, name, /, **labels):
        return self.registry.get_sample_value(name, labels)


def push(process, link, measured_at_ms, bandwidth):
    process.metrics.samples_pushed(stored=1, duplicates=0, replaced=0)
    process.metrics.link_current(link, measured_at_ms, _values(bandwidth))


def _values(bandwidth):

    return np.array([bandwidth, 1, 0, 1], np.float32)


def test_counters_and_histograms_are_added_up():
    stage = Stage()
    for process in stage.processes:
        push(process, "a", 1000, 5)
        process.metrics.ingest_batch(3)
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 2
    assert stage.value("dwcp_pba_ingest_batch_samples_count") == 2
    assert stage.value("dwcp_pba_ingest_batch_samples_bucket", le="4.0") == 2
    assert stage.value("dwcp_pba_ingest_batch_samples_bucket", le="2.0") == 0


def test_gauges_are_the_greatest_and_open_streams_a_sum():
    stage = Stage()
    stage.processes[0].metrics.subscribers(3)
    stage.processes[1].metrics.subscribers(4)
    for process in stage.processes:
        process.metrics.model_serving("m", "v1")
    assert stage.value("dwcp_pba_subscribers") == 7
    assert stage.value("dwcp_pba_model_version", name="m", version="v1") == 1


def test_a_link_is_shown_as_the_process_knows_it_that_has_its_newest_sample():
    stage = Stage()
    push(stage.processes[0], "a", 1000, 5)
    push(stage.processes[1], "a", 2000, 6)
    assert stage.value("dwcp_pba_current_bandwidth_mbps", link="a") == 6
    push(stage.processes[0], "a", 3000, 7)
    assert stage.value("dwcp_pba_current_bandwidth_mbps", link="a") == 7


def test_no_more_links_are_shown_than_one_process_would_show():
    stage = Stage(max_links=3)
    for place, process in enumerate(stage.processes):
        for i in range(3):
            push(process, f"{place}-{i}", 1000, 5)
    shown = [
        line for line in generate_latest(stage.registry).decode().splitlines() if "current_bandwidth_mbps{" in line
    ]
    assert len(shown) == 3
    assert all('link="0-' in line for line in shown)  # those that the first process goes through again and again


def test_what_a_process_counted_is_not_lost_when_it_ends():
    stage = Stage()
    push(stage.processes[0], "a", 1000, 5)
    push(stage.processes[1], "a", 1000, 5)
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 2
    for _ in range(2):  # twice: what ended first is kept as well
        stage.workers.ended(1)
        stage.processes[1] = Process()
        push(stage.processes[1], "a", 1000, 5)
        stage.value("dwcp_pba_samples_total", outcome="stored")
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 4
    assert stage.value("dwcp_pba_samples_total", outcome="refused") == 0


def test_a_process_that_does_not_answer_counts_with_what_it_said_last():
    stage = Stage()
    push(stage.processes[1], "a", 1000, 5)
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 1
    stage.silent = {1}
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 1
    stage.workers.ended(1)
    assert stage.value("dwcp_pba_samples_total", outcome="stored") == 1


def test_how_calls_spread_is_told():
    stage = Stage()
    stage.processes[0].calls.labels("Predict").inc(2)
    stage.processes[1].calls.labels("Predict").inc(3)
    stage.processes[1].calls.labels("PushSamples").inc(4)
    assert stage.value("dwcp_pba_worker_calls_total", worker="0") == 2
    assert stage.value("dwcp_pba_worker_calls_total", worker="1") == 7
    assert stage.value("grpc_server_started_total", grpc_method="Predict") == 5


def test_one_process_is_shown_as_it_is():
    registry = service_registry()
    Metrics(registry, 10).samples_pushed(stored=5, duplicates=1, replaced=0)
    Gauge("more", "More.", ["of"], registry=registry).labels("what").set(3)
    Histogram("lag_seconds", "Lag.", registry=registry).observe(0.1)
    text = generate_latest(registry).decode()
    merged = Workers([Path("0")], 10, lambda _: text).collect()
    shown = {metric.name: sorted(metric.samples, key=str) for metric in merged}
    expected = {metric.name: sorted(metric.samples, key=str) for metric in text_string_to_metric_families(text)}
    assert expected.items() <= shown.items()
