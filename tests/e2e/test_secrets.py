"""The service as a process, guarded: what it shows, what it never says, and what it warns of."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from pba_client import Client, NotPermittedError, Options, Sample, TemporaryError, Timeouts, TlsFiles
from tests.identities import AUDIENCE, ISSUER, Authority, Issuer
from tests.process import ROOT, ServiceProcess

PASSWORD = "hunter2-of-redis"
TOKEN = "hunter2-of-a-caller"


class GuardedProcess(ServiceProcess):
    """A `ServiceProcess` that is asked by a caller it knows."""

    def __init__(self, *args, options, **kwargs):
        super().__init__(*args, **kwargs)
        self._options = options

    def client(self, options=None):
        return Client(self.target, options or self._options)


@pytest.fixture
def secrets(tmp_path):
    authority, issuer = Authority(), Issuer()
    pair = authority.pair()
    certificate, key = pair.write(tmp_path)
    callers = tmp_path / "callers.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    callers.write_text(f'[[caller]]\nname = "ops"\nroles = ["admin"]\ntoken_sha256 = "{digest}"\n')
    callers.chmod(0o600)
    environment = {
        "PBA_TLS_CERT": str(certificate),
        "PBA_TLS_KEY": str(key),
        "PBA_CALLERS": str(callers),
        "PBA_JWKS": str(issuer.write(tmp_path)),
        "PBA_JWT_ISSUER": ISSUER,
        "PBA_JWT_AUDIENCE": AUDIENCE,
        "PBA_LOG_LEVEL": "debug",
    }
    signed = issuer.token("fra-1")
    tls = TlsFiles(authority.write(tmp_path))
    return environment, tls, signed, [PASSWORD, TOKEN, signed, signed.rpartition(".")[2], digest, _body(pair.key)]


def _body(pem):
    return pem.decode().split("\n")[1]


def test_secrets_are_said_nowhere(secrets, tmp_path, redis_server):
    environment, tls, signed, never = secrets
    redis_server.client.execute_command("ACL", "SETUSER", "pba", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = redis_server.url.replace("unix://", f"unix://pba:{PASSWORD}@")
    told = []
    patient = Timeouts(call_s=30, bulk_s=60)
    options = Options(tls=tls, token=TOKEN, timeouts=patient)
    with GuardedProcess(tmp_path / "run", redis_url=url, environment=environment, options=options) as service:
        with service.client() as ops, service.client(Options(tls=tls, token=signed, timeouts=patient)) as node:
            assert ops.models()
            node.push(Sample("fra-1/a", bandwidth_mbps=1))
            for client, link in ((node, "lon-1/a"), (node, "fra-1/none"), (ops, "none")):
                with pytest.raises(Exception) as caught:
                    client.predict(link)
                told.append(str(caught.value) + repr(caught.value.__cause__))
            for wrong in (f"{TOKEN}x", f"{signed}x", "x.y.z"):
                with service.client(Options(tls=tls, token=wrong, timeouts=patient)) as stranger:
                    with pytest.raises(NotPermittedError) as caught:
                        stranger.models()
                    told.append(str(caught.value) + repr(caught.value.__cause__))
            told.append(_raw(service, signed))
            # a broken change, and the store away
            Path(environment["PBA_TLS_KEY"]).write_text("broken " + TOKEN)
            Path(environment["PBA_CALLERS"]).write_text(f'x = "{TOKEN}')
            service.wait_until(lambda: service.log.read_text().count("file_refused") >= 2, "refuse the files")
            assert ops.models()
            redis_server.client.execute_command("ACL", "SETUSER", "pba", "off")
            redis_server.client.execute_command("CLIENT", "KILL", "USER", "pba")
            with pytest.raises(TemporaryError) as caught:
                ops.predict("fra-1/a")
            told.append(str(caught.value))
        told += [Path(f"/proc/{service.process.pid}/cmdline").read_text()]
        assert service.stop() == 0
    redis_server.client.execute_command("ACL", "DELUSER", "pba")
    told.append(service.log.read_text())
    for secret in never:
        for text in told:
            assert secret not in text


def _raw(service, token):
    """What a caller in plain text is told: nothing."""
    with grpc.insecure_channel(service.target) as channel:
        call = channel.unary_unary("/pba.v1.ModelService/ListModels")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5, metadata=(("authorization", f"Bearer {token}"),))
        return str(caught.value)


def _start(environment):
    """The end of a service that cannot start, or of a check of its settings."""
    return subprocess.run(
        [sys.executable, "-m", "pba_service", "check-config"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PBA_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_start_that_fails_says_why_and_no_secret(secrets):
    environment, _, _, never = secrets
    good = _start({**environment, "PBA_REDIS_URL": f"redis://pba:{PASSWORD}@127.0.0.1"})
    assert good.returncode == 0
    Path(environment["PBA_CALLERS"]).chmod(0o644)
    wide = _start(environment)
    assert wide.returncode == 2
    assert "callers.toml: can be read by everybody" in wide.stderr
    Path(environment["PBA_CALLERS"]).chmod(0o600)
    Path(environment["PBA_CALLERS"]).write_text(f'[[caller]]\nname="x"\nroles=["node"]\ntoken_sha256="{TOKEN}"\n')
    broken = _start(environment)
    assert broken.returncode == 2
    assert "token_sha256 is 64 hexadecimal digits" in broken.stderr
    for secret in never:
        for run in (good, wide, broken):
            assert secret not in run.stdout + run.stderr


def test_being_open_is_warned_of_at_every_start(tmp_path):
    everywhere = {"PBA_GRPC_HOST": "0.0.0.0", "PBA_METRICS_HOST": "0.0.0.0"}  # noqa: S104 - refused, then warned of
    assert _start(everywhere).returncode == 2
    with ServiceProcess(tmp_path / "run", environment={**everywhere, "PBA_INSECURE": "true"}) as service:
        lines = [json.loads(line) for line in service.log.read_text().splitlines() if "insecure" in line]
    assert [(line["what"], line["host"], line["level"]) for line in lines] == [
        ("calls", "0.0.0.0", "warning"),  # noqa: S104 - likewise
        ("metrics", "0.0.0.0", "warning"),  # noqa: S104 - likewise
    ]
