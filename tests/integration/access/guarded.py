"""A real server behind a gate, and callers of every role."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import grpc
from prometheus_client import CollectorRegistry

from pba_client import AsyncClient, Options
from pba_service.access.authenticator import Authenticator
from pba_service.access.certificates import read_certificates
from pba_service.access.directory import read_directory
from pba_service.access.tokens import read_verifier
from pba_service.access.watched import Watched
from pba_service.observability.access import AccessMetrics
from pba_service.serving.gate import Gate
from pba_service.serving.server import Server
from tests.identities import AUDIENCE, ISSUER
from tests.integration.serving.harness import FAST, FakeModels, FakeRetraining, FakeService, FakeTrials


@dataclass
class Guarded:
    """A started server, and its gate."""

    port: int
    service: FakeService
    gate: Gate
    registry: CollectorRegistry

    def channel(self, credentials=None, options=()):
        target = f"127.0.0.1:{self.port}"
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, credentials, options=options)

    def client(self, token_file):
        return AsyncClient(f"127.0.0.1:{self.port}", Options(token_file=token_file))

    def count(self, name, **labels):
        return self.registry.get_sample_value(name, labels) or 0


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


def verifier_of(path):
    return Watched("jwks", [path], partial(read_verifier, path, ISSUER, AUDIENCE))


def directory_of(path):
    return Watched("callers", [path], partial(read_directory, path))


def certificates_of(*paths):
    return Watched("certificates", list(paths), partial(read_certificates, *paths))


@asynccontextmanager
async def guarded(*, verifier=None, directory=None, tls=None, service=None, known=True, **gate):
    service = service or FakeService()
    registry = CollectorRegistry()
    authenticator = Authenticator(verifier=verifier, directory=directory) if known else None
    made = Gate(authenticator, AccessMetrics(registry), regions=service.subscriptions.regions, **gate)
    models = FakeModels(service)
    server = Server(
        service,
        models=models,
        trials=FakeTrials(service),
        retraining=FakeRetraining(service),
        options=FAST,
        checks={},
        registry=registry,
        gate=made,
        tls=tls,
    )
    port = await server.start()
    try:
        yield Guarded(port, service, made, registry)
    finally:
        await server.stop()
