"""TLS and mutual TLS over real connections, certificates that change, and the client that follows them."""

import asyncio
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from pba.v1 import model_service_pb2 as model_pb
from pba.v1 import model_service_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from pba_client import AsyncClient, Client, NotPermittedError, Options, Sample, TemporaryError, Timeouts, TlsFiles
from pba_service.access.tokens import LEEWAY_S
from pba_service.observability.http import MetricsServer, server_context
from tests.identities import Authority, Issuer
from tests.integration.access.guarded import bearer, certificates_of, directory_of, guarded, verifier_of
from tests.integration.serving.harness import NOW_MS, eventually

CALLERS = """
[[caller]]
certificate = "ops.example"
name = "ops"
roles = ["admin"]

[[caller]]
certificate = "spiffe://pba.example/node/*"
roles = ["node"]
"""


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@pytest.fixture
def callers(tmp_path):
    path = tmp_path / "callers.toml"
    path.write_text(CALLERS)
    path.chmod(0o600)
    return directory_of(path)


async def models(server, credentials, metadata=()):
    async with server.channel(credentials) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        return (await stub.ListModels(model_pb.ListModelsRequest(), metadata=metadata, timeout=10)).models


async def fails(server, credentials):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await models(server, credentials)
    return caught.value.code()


def shown(authority, pair=None):
    return grpc.ssl_channel_credentials(authority.certificate, pair and pair.key, pair and pair.certificate)


async def test_tokens_over_tls_and_nothing_in_plain_text(authority, issuer, tmp_path):
    tls = certificates_of(*authority.pair().write(tmp_path))
    async with guarded(verifier=verifier_of(issuer.write(tmp_path)), tls=tls) as server:
        assert await models(server, shown(authority), bearer(issuer.token()))
        assert await fails(server, shown(authority)) is grpc.StatusCode.UNAUTHENTICATED
        assert await fails(server, None) is grpc.StatusCode.UNAVAILABLE
        assert await fails(server, shown(Authority())) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_says_who_calls(authority, callers, tmp_path):
    tls = certificates_of(*authority.pair().write(tmp_path), authority.write(tmp_path))
    async with guarded(directory=callers, tls=tls) as server:
        for pair in (
            authority.pair("x", dns=["ops.example"]),
            authority.pair("ops.example", ips=()),
            authority.pair("x", uris=["spiffe://pba.example/node/fra-1"]),
        ):
            assert await models(server, shown(authority, pair))
        for pair in (
            authority.pair("x", dns=["other.example"]),
            # a common name beside alternative names is for people
            authority.pair("ops.example", dns=["other.example"]),
            authority.pair("x", uris=["spiffe://pba.example/node/a/b"]),
        ):
            assert await fails(server, shown(authority, pair)) is grpc.StatusCode.UNAUTHENTICATED
        for pair in (None, Authority().pair("x", dns=["ops.example"]), authority.pair(dns=["ops.example"], days=-1)):
            assert await fails(server, shown(authority, pair)) is grpc.StatusCode.UNAVAILABLE


async def test_a_wrong_token_is_not_made_up_for_by_a_certificate(authority, callers, issuer, tmp_path):
    tls = certificates_of(*authority.pair().write(tmp_path), authority.write(tmp_path))
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(directory=callers, verifier=verifier, tls=tls) as server:
        ops = shown(authority, authority.pair("x", dns=["ops.example"]))
        assert await models(server, ops, bearer(issuer.token()))
        with pytest.raises(grpc.aio.AioRpcError, match="authentication is required"):
            await models(server, ops, bearer("a.b.c"))


async def test_new_certificates_are_taken_up_and_broken_ones_are_not(authority, issuer, tmp_path):
    files = authority.pair().write(tmp_path)
    tls = certificates_of(*files)
    token = bearer(issuer.token())
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier, tls=tls) as server, server.channel(shown(authority)) as old:
        stub = model_service_pb2_grpc.ModelServiceStub(old)
        await stub.ListModels(model_pb.ListModelsRequest(), metadata=token)

        files[0].write_bytes(b"broken")
        assert not tls.poll()
        assert await models(server, shown(authority), token)

        other = Authority("another authority")
        other.pair().write(tmp_path)
        assert tls.poll()
        assert await models(server, shown(other), token)
        assert await fails(server, shown(authority)) is grpc.StatusCode.UNAVAILABLE
        # who was connected stays connected
        assert (await stub.ListModels(model_pb.ListModelsRequest(), metadata=token)).models


@pytest.fixture
def options(authority, tmp_path):
    folder = tmp_path / "client"
    folder.mkdir()
    certificate, key = authority.pair("x", dns=["ops.example"]).write(folder)
    ca = authority.write(folder)
    return Options(tls=TlsFiles(ca, certificate, key), timeouts=Timeouts(call_s=10))


async def until(call, kind):
    """Calls until it ends in an exception of a kind, or for None until it succeeds."""
    async with asyncio.timeout(10):
        while True:
            try:
                await call()
                got = type(None)
            except NotPermittedError as error:
                got = type(error)
            if got is kind:
                return
            await asyncio.sleep(0.05)


async def test_the_clients_show_their_certificates_and_follow_changed_files(authority, callers, options, tmp_path):
    tls = certificates_of(*authority.pair().write(tmp_path), authority.write(tmp_path))
    folder = options.tls.certificate.parent
    async with guarded(directory=callers, tls=tls) as server:
        target = f"127.0.0.1:{server.port}"
        async with AsyncClient(target, options) as client:
            with Client(target, options) as threaded:
                for call in (client.models, lambda: asyncio.to_thread(threaded.models)):
                    assert await call()
                    authority.pair("x", dns=["other.example"]).write(folder)  # a certificate that nobody knows
                    await until(call, NotPermittedError)
                    authority.pair("x", dns=["ops.example"]).write(folder)
                    await until(call, type(None))


async def test_a_client_that_trusts_another_authority_reaches_nobody(authority, issuer, options, tmp_path):
    tls = certificates_of(*authority.pair().write(tmp_path))
    Authority().write(options.tls.ca.parent)
    async with guarded(verifier=verifier_of(issuer.write(tmp_path)), tls=tls) as server:
        impatient = replace(options, timeouts=Timeouts(call_s=1))
        async with AsyncClient(f"127.0.0.1:{server.port}", impatient) as client:
            with pytest.raises(TemporaryError):
                await client.models()


async def test_a_token_file_is_read_again(issuer, tmp_path):
    token = tmp_path / "token"
    token.write_text("not.a.token\n")
    async with guarded(verifier=verifier_of(issuer.write(tmp_path))) as server, server.client(token) as client:
        with pytest.raises(NotPermittedError):
            await client.models()
        token.write_text(issuer.token())
        await until(client.models, type(None))


async def test_a_push_stream_outlives_its_token_when_there_is_a_newer_one(issuer, tmp_path):
    token = tmp_path / "token"
    token.write_text(issuer.token(lasts_s=1.0 - LEEWAY_S))
    sample = Sample("node-1/a", bandwidth_mbps=1, measured_at=datetime.fromtimestamp(NOW_MS / 1000, UTC))
    verifier = verifier_of(issuer.write(tmp_path))
    async with guarded(verifier=verifier) as server, server.client(token) as client, client.stream() as push:
        await (await push.push(sample))
        token.write_text(issuer.token())
        await eventually(lambda: server.count("dwcp_pba_denied_total", reason="expired") == 1)
        await (await push.push(sample))


SECRET = "open sesame"


def read(url, context=None, headers=()):
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - of this machine
    with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310 - likewise
        return answer.read().decode()


def client_context(authority, pair_files=None):
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if pair_files:
        context.load_cert_chain(*pair_files)
    return context


def test_metrics_over_tls_for_those_who_may(authority, tmp_path):
    registry = CollectorRegistry()
    Counter("seen", "Something.", registry=registry)
    certificate, key = authority.pair().write(tmp_path)
    tls = server_context(str(certificate), str(key), str(authority.write(tmp_path)))

    def admits(token, names):
        return token == SECRET or "ops.example" in names

    with MetricsServer(registry, "127.0.0.1", 0, tls=tls, admits=admits) as server:
        url = f"https://127.0.0.1:{server.port}/metrics"
        assert "seen_total" in read(url, client_context(authority), {"Authorization": f"Bearer {SECRET}"})
        ops = authority.pair("x", dns=["ops.example"]).write(tmp_path, "ops")
        assert "seen_total" in read(url, client_context(authority, ops))
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                read(url, client_context(authority), headers)
        with pytest.raises(OSError):
            read(url.replace("https", "http"))
        # who begins a handshake and says nothing holds up nobody
        stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        assert "seen_total" in read(url, client_context(authority, ops))
        for one in stalled:
            one.close()
        other = Authority("another")
        server.use(server_context(*map(str, other.pair().write(tmp_path, "new")), None))
        assert "seen_total" in read(url, client_context(other), {"Authorization": f"Bearer {SECRET}"})
        with pytest.raises(OSError):
            read(url, client_context(authority), {"Authorization": f"Bearer {SECRET}"})
