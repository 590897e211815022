"""The short form of fuzzing the wire: seconds of hostile messages against the real service. `make fuzz` goes on."""

import asyncio
import json
import urllib.error
import urllib.request

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import wire
from tests.process import ServiceProcess

SECONDS = 4.0
MAX_GROWTH_BYTES = 300 * 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("fuzzed")) as started:
        yield started


def resident_bytes(service):
    with open(f"/proc/{service.process.pid}/statm") as file:  # noqa: PTH123 - of the kernel
        return int(file.read().split()[1]) * 4096


def assert_sound(service, before):
    """It still answers, has not grown, and its log tells of no failure of its own."""
    with service.client() as client:
        assert client.models()
    assert resident_bytes(service) - before < MAX_GROWTH_BYTES
    failed = [
        json.loads(line)
        for line in service.log.read_text().splitlines()
        if '"rpc_failed"' in line or '"level": "critical"' in line
    ]
    assert failed == []


def test_hostile_messages_to_every_call(service):
    before = resident_bytes(service)
    report = asyncio.run(wire.fuzz(service.target, SECONDS, seed="short"))
    assert report.findings == []
    assert {method.name for method in wire.methods()} == set(report.inputs)
    assert_sound(service, before)


def ended(channel, method, data):
    """The code and text of a call; of a stream that has no end, once it has begun."""
    kind = channel.unary_stream if method.streams_out else channel.unary_unary
    try:
        answer = kind(method.path)(data, timeout=wire.PATIENCE_S)
        if method.streams_out:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_messages_that_hypothesis_makes(service):
    before = resident_bytes(service)
    every = wire.methods()
    with grpc.insecure_channel(service.target) as channel:

        @settings(max_examples=120, suppress_health_check=list(HealthCheck))
        @given(method=st.sampled_from([one for one in every if not one.streams_in]), chance=st.randoms())
        def try_one(method, chance):
            [data] = wire.inputs(method, chance)
            code, text = ended(channel, method, data)
            assert code in wire.GOOD, text
            assert not wire.INSIDES.search(text), text

        try_one()
    assert_sound(service, before)


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%00", "/%ff", "/metrics?name[]=%ff&name[]=x", "/" + "a" * 5_000]
)
def test_the_metrics_port_gives_away_nothing_else(service, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}{path}", timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    assert "Traceback" not in text
    assert "root:" not in text
    assert "passwd" not in text
