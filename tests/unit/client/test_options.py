"""Channel options do something, and what is retried may be retried."""

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc._cython import cygrpc
from pba.v1 import model_service_pb2, prediction_service_pb2

from pba_client import Backoff, Keepalive, Options, Timeouts, Tls, rpcs
from pba_client.options import channel_options, service_config

SERVICES = (
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
)
HEALTH_CHECK = ("grpc.health.v1.Health", "Check")


def test_every_channel_option_is_known_to_the_library():
    # grpc ignores unknown options silently, so a misspelt one would go unnoticed
    library = Path(cygrpc.__file__).read_bytes()
    options = channel_options(Options(tls=Tls(server_name="pba.example")))
    assert [key for key, _ in options if key.encode() not in library] == []
    assert len({key for key, _ in options}) == len(options)


def test_exactly_the_idempotent_calls_are_tried_again():
    idempotent = {
        (service.full_name, method.name)
        for service in SERVICES
        for method in service.methods
        if method.GetOptions().idempotency_level != descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
    }
    retried = [
        (name["service"], name["method"])
        for method in json.loads(service_config())["methodConfig"]
        if "retryPolicy" in method
        for name in method["name"]
    ]
    assert sorted(retried) == sorted({*idempotent, HEALTH_CHECK})


def test_only_what_the_service_was_too_busy_for_is_tried_again():
    for method in json.loads(service_config())["methodConfig"]:
        # a health check wants to know who is not there: it is made again only where gRPC turned it away
        health = [tuple(name.values()) for name in method["name"]] == [HEALTH_CHECK]
        busy = ["CANCELLED"] if health else ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"]
        assert method["retryPolicy"]["retryableStatusCodes"] == busy
        assert 2 <= method["retryPolicy"]["maxAttempts"] <= 5  # more than 5 the library does not do


def test_calls_are_balanced_over_healthy_servers():
    config = json.loads(service_config())
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"]["serviceName"] == "pba.v1.PredictionService"
    assert "healthCheckConfig" not in json.loads(service_config(health_checked=False))


def test_the_client_knows_every_call_of_the_contract():
    contract = {
        f"/{service.full_name}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
        for service in SERVICES
        for method in service.methods
    }
    known = {rpc.path: (rpc.request.DESCRIPTOR.full_name, rpc.response.DESCRIPTOR.full_name) for rpc in rpcs.CONTRACT}
    assert known == contract


@pytest.mark.parametrize(
    "make",
    [
        lambda: Timeouts(call_s=0),
        lambda: Timeouts(bulk_s=-1),
        lambda: Backoff(initial_s=0),
        lambda: Backoff(initial_s=2, maximum_s=1),
        lambda: Backoff(multiplier=0.5),
        lambda: Keepalive(time_s=9.9),
        lambda: Keepalive(timeout_s=0),
        lambda: Tls(private_key=b"key"),
        lambda: Options(max_message_bytes=0),
        lambda: Options(max_unacknowledged=0),
        lambda: Options(patience_s=-1),
        lambda: Options(metadata=(("X-Tenant", "a"),)),
        lambda: Options(metadata=(("tenant", "ä"),)),
    ],
)
def test_options_that_cannot_be_are_refused(make):
    with pytest.raises(ValueError, match=r"must be|come together|no key"):
        make()


def test_secrets_are_not_shown():
    options = Options(tls=Tls(private_key=b"hush", certificate_chain=b"chain"), metadata=(("authorization", "hush"),))
    assert "hush" not in repr(options)


def test_a_backoff_grows_to_its_maximum_and_no_further():
    backoff = Backoff(initial_s=0.5, maximum_s=4)
    assert [backoff.bound_s(attempt) for attempt in (0, 1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 4, 4, 4]
