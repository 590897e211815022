"""Traces, as a collector receives them: one tree from the caller's span to Redis and to inference."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Lock

import grpc
import pytest
from structlog.testing import capture_logs

from pba_client import LinkUnknownError, Sample
from pba_service.observability.tracing import open_tracing
from tests.process import ServiceProcess
from tests.servers import wait_until

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra tracing is not installed")
collector = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
collector_grpc = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")

LIMIT_S = 60


class Collector(collector_grpc.TraceServiceServicer):
    """A collector that keeps what it is sent."""

    def __init__(self):
        self._lock, self._spans, self.services = Lock(), [], set()

    def Export(self, request, context):  # noqa: N802 - the collector's protocol calls it so
        with self._lock:
            for resource in request.resource_spans:
                named = {one.key: one.value.string_value for one in resource.resource.attributes}
                self.services.add(named["service.name"])
                self._spans += [span for scope in resource.scope_spans for span in scope.spans]
        return collector.ExportTraceServiceResponse()

    def of(self, trace_id):
        with self._lock:
            return {span.span_id: span for span in self._spans if span.trace_id == trace_id}


@pytest.fixture
def receiver():
    server, received = grpc.server(ThreadPoolExecutor(2)), Collector()
    collector_grpc.add_TraceServiceServicer_to_server(received, server)
    received.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield received
    server.stop(None).wait()


@pytest.fixture
def service(tmp_path, receiver):
    where = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "PBA_LOG_LEVEL": "debug",
    }
    with ServiceProcess(tmp_path, environment=where) as running:
        yield running


def path_of(span, spans):
    """The names from the top of a trace to a span."""
    names = []
    while span is not None:
        names.insert(0, span.name)
        span = spans.get(span.parent_span_id)
    return names


def history(link_id):
    now = datetime.now(UTC)
    return [
        Sample(link_id, measured_at=now - timedelta(minutes=40 - i), bandwidth_mbps=50.0 + i % 7, latency_ms=20.0)
        for i in range(40)
    ]


def test_a_push_is_one_trace_from_its_caller_to_redis_and_inference(service, receiver):
    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("a node")
    with service.client() as client, tracer.start_as_current_span("measure") as asked:
        client.push(history("traced"))
        client.predict("traced")
    with service.client() as client:
        client.push(history("not-traced-by-its-caller"))
    context = asked.get_span_context()
    trace_id, top = context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")

    call = "pba.v1.PredictionService/PushSamples"
    wanted = [[call, "ingest", "redis put"], [call, "ingest", "refresh", "inference"]]

    def paths():
        spans = receiver.of(trace_id)
        return [path_of(span, spans) for span in spans.values()]

    wait_until(lambda: all(path in paths() for path in wanted), LIMIT_S, f"the trace: {paths()}")
    assert [call, "ingest", "refresh", "redis commit"] in paths()
    spans = receiver.of(trace_id)
    calls = {span.name: span for span in spans.values() if span.parent_span_id == top}
    assert calls.keys() == {call, "pba.v1.PredictionService/Predict"}
    said = {one.key: one.value for one in calls[call].attributes}
    assert said["rpc.method"].string_value == "PushSamples"
    assert said["rpc.grpc.status_code"].string_value == "OK"
    assert receiver.services == {"pba"}

    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert ["trace_id" in line for line in lines if line["event"] == "grpc_listening"] == [False]
    assert service.stop() == 0


def test_a_call_that_fails_says_so_in_its_span_and_its_log_line_names_the_trace(service, receiver):
    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("a node")
    with service.client() as client, tracer.start_as_current_span("ask") as asked, pytest.raises(LinkUnknownError):
        client.predict("nobody-knows-it")
    trace = asked.get_span_context().trace_id
    [span] = wait_until(
        lambda: [one for one in receiver.of(trace.to_bytes(16, "big")).values() if one.name.endswith("/Predict")],
        LIMIT_S,
        "the span",
    )
    assert {one.key: one.value.string_value for one in span.attributes}["rpc.grpc.status_code"] == "NOT_FOUND"
    assert span.status.code == span.status.STATUS_CODE_UNSET  # the caller's fault
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert [line["code"] for line in lines if line.get("trace_id") == f"{trace:032x}" and line["event"] == "rpc"] == [
        "NOT_FOUND"
    ]


def test_a_collector_that_is_away_harms_no_call(tmp_path):
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with ServiceProcess(tmp_path, environment=where) as service, service.client() as client:
        assert client.push(history("a")).stored == 40
        assert client.predict("a").link_id == "a"
        assert service.stop() == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
    ],
)
def test_without_a_collector_there_are_no_spans(environment):
    assert open_tracing(environment, "1") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),  # less than a batch
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_a_variable_that_cannot_be_read_costs_the_spans_and_a_warning_not_the_start(monkeypatch, name, text):
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", name: text}
    for variable in environment.items():
        monkeypatch.setenv(*variable)
    with capture_logs() as logs:
        assert open_tracing(environment, "1") is None
    assert [line["event"] for line in logs] == ["tracing_unavailable"]
    assert logs[0]["why"]


@pytest.mark.parametrize(
    ("attributes", "name", "service"),
    [("", "", "pba"), ("service.name=mine", "", "mine"), ("service.name=mine", "yours", "yours")],
)
def test_a_service_is_called_what_the_variables_say(monkeypatch, receiver, attributes, name, service):
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_RESOURCE_ATTRIBUTES": attributes,
        "OTEL_SERVICE_NAME": name,
    }
    for variable in environment.items():
        monkeypatch.setenv(*variable)
    tracing = open_tracing(environment, "1")
    with tracing.call("/pba.v1.PredictionService/Predict", {}):
        pass
    tracing.close()
    assert receiver.services == {service}
