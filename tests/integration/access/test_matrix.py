"""The authorization matrix: every call, every role, the caller's own link and another's, over a real server.

What is expected is written here and not taken from the policy's table.
"""

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from pba.v1 import model_service_pb2 as model_pb
from pba.v1 import model_service_pb2_grpc, prediction_service_pb2_grpc
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.access.policy import TABLE, Links, rule_of
from pba_service.observability.access import DENIALS
from pba_service.serving.named import NAMED
from tests.identities import Issuer
from tests.integration.access.guarded import bearer, guarded, verifier_of
from tests.integration.serving.harness import NOW_MS, FakeService, eventually, ledger_entry, prediction, row

OWN, OTHER, UNKNOWN = "fra-1/ams", "lon-1/par", "lon-1/nowhere"
LINKS = {"own": OWN, "other": OTHER, "another's that does not exist": UNKNOWN}

ROLES = {
    "nobody": None,
    "forged": None,
    "without a role": {"roles": []},
    "node": {"roles": ["node"]},
    "subscriber": {"roles": ["subscriber"], "pba_reads": ["fra-1/*"]},
    "subscriber of a region": {"roles": ["subscriber"], "pba_regions": ["eu"]},
    "subscriber of all": {"roles": ["subscriber"], "pba_reads": ["*"]},
    "admin": {"roles": ["admin"]},
}
KNOWN = [role for role in ROLES if role not in {"nobody", "forged", "without a role"}]
OF_ALL = ["subscriber of all", "admin"]


def _outcome(link):
    began, ended = Timestamp(seconds=NOW_MS // 1000), Timestamp(seconds=NOW_MS // 1000 + 10)
    used = types.TransportParameters(streams=1, buffer_bytes=65_536)
    return pb.TransferOutcome(
        link_id=link, started_at=began, ended_at=ended, parameters=used, achieved_goodput_mbps=1.0
    )


def _columns(link):
    return pb.PushSamplesRequest(
        columns=types.SampleColumns(
            links=[types.LinkRef(link_id=link)], link_index=[0], measured_at_ms=[NOW_MS], bandwidth_mbps=[1.0]
        )
    )


PREDICTION, MODEL = "/pba.v1.PredictionService/", "/pba.v1.ModelService/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REQUESTS = {
    PREDICTION + "PushSamples": lambda link: pb.PushSamplesRequest(samples=[row(link_id=link)]),
    PREDICTION + "StreamSamples": _columns,
    PREDICTION + "ReportOutcome": lambda link: pb.ReportOutcomeRequest(outcome=_outcome(link)),
    PREDICTION + "Predict": lambda link: pb.PredictRequest(link_id=link),
    PREDICTION + "BatchPredict": lambda link: pb.BatchPredictRequest(link_ids=[OWN, link]),
    PREDICTION + "GetOptimalParameters": lambda link: pb.GetOptimalParametersRequest(link_id=link),
    PREDICTION + "EstimateTransfer": lambda link: pb.EstimateTransferRequest(transfer_bytes=1, link_ids=[link]),
    PREDICTION + "GetOutcomes": lambda link: pb.GetOutcomesRequest(link_id=link),
    PREDICTION + "GetHistory": lambda link: pb.GetHistoryRequest(link_id=link),
    PREDICTION + "GetLedger": lambda link: pb.GetLedgerRequest(link_id=link),
    PREDICTION + "GetLink": lambda link: pb.GetLinkRequest(link_id=link),
    PREDICTION + "ExplainPrediction": lambda link: pb.ExplainPredictionRequest(link_id=link),
    PREDICTION + "StreamPredictions": lambda link: pb.StreamPredictionsRequest(selector={"link_ids": [link]}),
    PREDICTION + "ListLinks": lambda link: pb.ListLinksRequest(prefix=link),
    MODEL + "ListModels": lambda _: model_pb.ListModelsRequest(),
    MODEL + "GetModel": lambda _: model_pb.GetModelRequest(),
    MODEL + "GetModelState": lambda _: model_pb.GetModelStateRequest(),
    MODEL + "ListReplicas": lambda _: model_pb.ListReplicasRequest(),
    MODEL + "ActivateModel": lambda _: model_pb.ActivateModelRequest(),
    MODEL + "RollbackModel": lambda _: model_pb.RollbackModelRequest(),
    MODEL + "PinModel": lambda _: model_pb.PinModelRequest(),
    MODEL + "UnpinModel": lambda _: model_pb.UnpinModelRequest(),
    MODEL + "ListExperiments": lambda _: model_pb.ListExperimentsRequest(),
    MODEL + "GetExperiment": lambda _: model_pb.GetExperimentRequest(),
    MODEL + "StartExperiment": lambda _: model_pb.StartExperimentRequest(),
    MODEL + "StopExperiment": lambda _: model_pb.StopExperimentRequest(),
    MODEL + "GetRetraining": lambda _: model_pb.GetRetrainingRequest(),
    MODEL + "StartRetraining": lambda _: model_pb.StartRetrainingRequest(),
    REFLECTION: lambda _: reflection_pb2.ServerReflectionRequest(list_services=""),
    "/grpc.health.v1.Health/Check": lambda _: health_pb2.HealthCheckRequest(),
    "/grpc.health.v1.Health/List": lambda _: health_pb2.HealthListRequest(),
    "/grpc.health.v1.Health/Watch": lambda _: health_pb2.HealthCheckRequest(),
}
WRITES = {PREDICTION + name for name in ("PushSamples", "StreamSamples", "ReportOutcome")}
WITHOUT_LINKS = {PREDICTION + "ListLinks", MODEL + "ListModels", REFLECTION}
MANAGES = {method for method in REQUESTS if method.startswith(MODEL)} - WITHOUT_LINKS
OPEN = {method for method in REQUESTS if method.startswith("/grpc.health")}


def allowed(method, role, link):
    """Who may, in plain words."""
    if method in OPEN:
        return True
    if role not in KNOWN:
        return False
    if method in MANAGES:
        return role == "admin"
    if method in WRITES:
        return role == "admin" or (role == "node" and link == OWN)
    return method in WITHOUT_LINKS or link == OWN or role in OF_ALL


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


def _service():
    service = FakeService()
    service.add(OWN, region="eu")
    service.add(OTHER, region="us")
    for link in (OWN, OTHER):
        service.histories[link] = [service.history_of(NOW_MS, 3)]
        service.ledgers[link] = [ledger_entry(NOW_MS, [1, 1, 0, 1], [1, 1, 0, 1])]
    return service


def _metadata(issuer, role):
    if role == "nobody":
        return ()
    if role == "forged":
        return bearer(Issuer().token("fra-1", ["admin"]))
    claims = dict(ROLES[role])
    return bearer(issuer.token("fra-1" if role == "node" else role, **claims))


async def _status(channel, method, request, metadata):
    """The code of a call, its text and details; OK once its first answer is there."""
    serializer = type(request).SerializeToString
    both_stream = method in {PREDICTION + "StreamSamples", REFLECTION}
    one_way = method.rpartition("/")[2] in {"StreamPredictions", "GetHistory", "GetLedger", "Watch"}
    try:
        if both_stream:
            call = channel.stream_stream(method, serializer, bytes)(iter([request]), metadata=metadata)
            await call.read()
            if not call.done():
                call.cancel()
        elif one_way:
            call = channel.unary_stream(method, serializer, bytes)(request, metadata=metadata)
            await call.read()
            if not call.done():
                call.cancel()
        else:
            await channel.unary_unary(method, serializer, bytes)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details(), rpc_status.from_call(error)
    return grpc.StatusCode.OK, "", None


def test_every_call_of_the_server_has_a_row_and_names_its_links():
    served = set()
    for module, service in (
        (pb, "PredictionService"),
        (model_pb, "ModelService"),
        (health_pb2, "Health"),
        (reflection_pb2, "ServerReflection"),
    ):
        described = module.DESCRIPTOR.services_by_name[service]
        served |= {f"/{described.full_name}/{method.name}" for method in described.methods}
    assert served == set(TABLE)
    assert served == set(REQUESTS), "the matrix tries every call"
    assert {method for method, rule in TABLE.items() if rule.links is not Links.NONE} == set(NAMED)


def test_a_call_without_a_row_is_for_admins_alone():
    assert [role.value for role in rule_of("/pba.v1.ModelService/DropEverything").roles] == ["admin"]


@pytest.mark.parametrize("role", ROLES)
async def test_every_call_with_a_role(issuer, tmp_path, role):
    async with guarded(verifier=verifier_of(issuer.write(tmp_path)), service=_service()) as server:
        metadata = _metadata(issuer, role)
        refusals = {}
        async with server.channel() as channel:
            for method, request in REQUESTS.items():
                for name, link in LINKS.items():
                    code, text, details = await _status(channel, method, request(link), metadata)
                    where = f"{method} as {role} for {name}"
                    if allowed(method, role, link) and method.startswith(MODEL):
                        assert code not in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}, where
                    elif allowed(method, role, link):
                        expected = {grpc.StatusCode.OK, *([grpc.StatusCode.NOT_FOUND] if link == UNKNOWN else [])}
                        assert code in expected, f"{where}: {text}"
                    else:
                        unknown = role in {"nobody", "forged"}
                        expected = grpc.StatusCode.UNAUTHENTICATED if unknown else grpc.StatusCode.PERMISSION_DENIED
                        assert code is expected, f"{where}: {text}"
                        refusals[where] = (text, details)
        # one text and one set of details: nothing tells an existing link from another, nor one reason from another
        assert len({(text, str(details)) for text, details in refusals.values()}) <= 1
        denied = sum(server.count("dwcp_pba_denied_total", reason=reason) for reason in DENIALS)
        assert denied == len(refusals)
        if role not in {"node", "admin"}:
            assert not server.service.pushes


@pytest.mark.parametrize("role", KNOWN)
async def test_lists_and_subscriptions_hold_only_what_may_be_seen(issuer, tmp_path, role):
    seen = {OWN, OTHER} if role in OF_ALL else {OWN}
    async with guarded(verifier=verifier_of(issuer.write(tmp_path)), service=_service()) as server:
        metadata = _metadata(issuer, role)
        async with server.channel() as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for request in (pb.ListLinksRequest(), pb.ListLinksRequest(page_size=1), pb.ListLinksRequest(region="us")):
                found, token = set(), ""
                while True:
                    request.page_token = token
                    page = await stub.ListLinks(request, metadata=metadata)
                    found |= {link.link_id for link in page.links}
                    token = page.next_page_token
                    if not token:
                        break
                assert found == (seen if not request.region else seen & {OTHER})
            for selector in ({"all": True}, {"prefix": "l"}, {"region": "us"}, {"prefix": "f", "region": "us"}):
                call = stub.StreamPredictions(pb.StreamPredictionsRequest(selector=selector), metadata=metadata)
                first = await call.read()
                assert first.snapshot_complete
                got = {prediction.link_id for prediction in first.predictions}
                chosen = (
                    {OWN, OTHER}
                    if selector.get("all")
                    else {OTHER} | ({OWN} if selector.get("prefix") == "f" else set())
                )
                assert got == seen & chosen, selector
                call.cancel()


async def test_updates_of_foreign_links_never_reach_a_subscriber(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier, service=_service()) as server, server.channel() as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).StreamPredictions(
            pb.StreamPredictionsRequest(selector={"all": True}), metadata=_metadata(issuer, "subscriber of a region")
        )
        await call.read()
        hub = server.service.subscriptions
        for number in range(1, 4):
            hub.publish([prediction(OTHER, NOW_MS + number)])
            await eventually(lambda: not next(iter(hub._subscribers))._slots)
        hub.publish([prediction(OWN, NOW_MS + 5)])
        message = await call.read()
        assert [one.link_id for one in message.predictions] == [OWN]
        call.cancel()


async def test_a_node_cannot_take_over_a_link_nor_pass_for_another_node(issuer, tmp_path):
    async with guarded(verifier=verifier_of(issuer.write(tmp_path)), service=_service()) as server:
        metadata = _metadata(issuer, "node")
        async with server.channel() as channel:
            push = prediction_service_pb2_grpc.PredictionServiceStub(channel).PushSamples
            mine = row(link_id=OWN, node="fra-1")
            for samples in (
                [row(link_id=OTHER, node="fra-1")],
                [mine, row(link_id=OTHER)],
                [row(link_id=OWN, node="lon-1")],
                [mine, row(link_id="fra-1")],
                [mine, row(link_id="fra-10/x")],
            ):
                with pytest.raises(grpc.aio.AioRpcError, match="permission denied"):
                    await push(pb.PushSamplesRequest(samples=samples), metadata=metadata)
            hidden = _columns(OWN)
            hidden.columns.links.add(link_id=OTHER)
            with pytest.raises(grpc.aio.AioRpcError, match="permission denied"):
                await push(hidden, metadata=metadata)
            assert not server.service.pushes
            await push(pb.PushSamplesRequest(samples=[mine]), metadata=metadata)
            assert len(server.service.pushes) == 1


async def test_each_message_of_a_stream_is_judged(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier, service=_service()) as server, server.channel() as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).StreamSamples(
            metadata=_metadata(issuer, "node")
        )
        await call.write(_columns(OWN))
        assert (await call.read()).stored == 1
        await call.write(_columns(OTHER))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert [batch.links[0].link_id for batch in server.service.pushes] == [OWN]


async def test_health_asks_nobody_and_reflection_everybody(issuer, tmp_path):
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier, service=_service()) as server, server.channel() as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        with pytest.raises(grpc.aio.AioRpcError, match="authentication is required"):
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError, match="authentication is required"):
            await model_service_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb.ListModelsRequest())
