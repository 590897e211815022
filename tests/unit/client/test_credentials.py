"""What a client shows, from files that change and break."""

import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pba_client import Options, Tls, TlsFiles
from pba_client.credentials import LOOK_EVERY_S, Credentials, is_local
from pba_client.errors import AbortedError, NotPermittedError
from tests.identities import Authority

TARGET = "127.0.0.1:50051"


class Clock:
    now = 0.0

    def __call__(self):
        self.now += LOOK_EVERY_S
        return self.now


@pytest.fixture(scope="module")
def authority():
    return Authority()


def test_a_token_is_shown_and_read_again(tmp_path):
    file = tmp_path / "token"
    file.write_text("one\n")
    credentials = Credentials(TARGET, Options(token_file=file, metadata=(("x", "y"),)), Clock())
    assert credentials.metadata() == (("x", "y"), ("authorization", "Bearer one"))
    file.write_text("another")
    assert credentials.metadata()[1] == ("authorization", "Bearer another")
    file.write_text("")
    assert credentials.metadata()[1] == ("authorization", "Bearer another")
    file.unlink()
    assert credentials.metadata()[1] == ("authorization", "Bearer another")


def test_files_are_looked_at_once_in_a_while(tmp_path):
    file, clock = tmp_path / "token", [0.0]
    file.write_text("one")
    credentials = Credentials(TARGET, Options(token_file=file), lambda: clock[0])
    file.write_text("another")
    assert credentials.metadata() == (("authorization", "Bearer one"),)
    clock[0] = LOOK_EVERY_S
    assert credentials.metadata() == (("authorization", "Bearer another"),)


def test_certificates_change_together_or_not_at_all(authority, tmp_path):
    certificate, key = authority.pair().write(tmp_path)
    credentials = Credentials(TARGET, Options(tls=TlsFiles(authority.write(tmp_path), certificate, key)), Clock())
    first, tls = credentials.tls()
    assert isinstance(tls, Tls)
    new = authority.pair()
    certificate.write_bytes(new.certificate)  # its key is still the old one
    assert credentials.tls() == (first, tls)
    key.write_bytes(new.key)
    second, changed = credentials.tls()
    assert second != first
    assert (changed.certificate_chain, changed.private_key) == (new.certificate, new.key)
    certificate.write_bytes(b"broken")
    assert credentials.tls() == (second, changed)


def test_broken_files_at_the_start_are_errors(authority, tmp_path):
    certificate, _ = authority.pair().write(tmp_path)
    _, key = authority.pair().write(tmp_path, "other")
    with pytest.raises(ValueError, match="broken"):
        Credentials(TARGET, Options(tls=TlsFiles(None, certificate, key)))
    with pytest.raises(OSError):
        Credentials(TARGET, Options(token_file=tmp_path / "none"))
    (tmp_path / "two").write_text("a\nb")
    with pytest.raises(ValueError, match="no token"):
        Credentials(TARGET, Options(token_file=tmp_path / "two"))


ASKS = """
from pathlib import Path
from pba_client.credentials import read_tls
from pba_client.options import TlsFiles
read_tls(TlsFiles(certificate=Path("own.pem"), key=Path("locked.pem")))
"""


def test_a_key_with_a_password_is_refused_and_nobody_asked_for_it(authority, tmp_path):
    pair = authority.pair()
    (tmp_path / "own.pem").write_bytes(pair.certificate)
    locked = BestAvailableEncryption(b"secret")
    key = load_pem_private_key(pair.key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    (tmp_path / "locked.pem").write_bytes(key)
    ran = subprocess.run(
        [sys.executable, "-c", ASKS],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # without the terminal that tests may run in, which it would ask on
        check=False,
    )
    assert "the certificates are broken" in ran.stderr
    assert "pass phrase" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:1",
        "localhost:1",
        "[::1]:1",
        "dns:///localhost:1",
        "unix:/run/x.sock",
        "unix-abstract:x",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
    ],
)
def test_on_this_machine_a_token_may_go_in_plain_text(target):
    assert is_local(target)
    assert Credentials(target, Options(token="x")).metadata()


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:1",
        "pba.example:1",
        "dns:///pba.example:1",
        "127.0.0.1.example:1",
        "[::2]:1",
        "ipv4:127.0.0.1:1,10.0.0.1:2",
        "unix.example:1",
        "dns:///unix:1",
    ],
)
def test_beyond_it_it_may_not(target):
    assert not is_local(target)
    with pytest.raises(ValueError, match="plain text"):
        Credentials(target, Options(token="x"))
    assert Credentials(target, Options(token="x", tls=Tls())).metadata()


def test_an_outdated_token_is_worth_another_try_when_there_is_a_newer_one(tmp_path):
    file = tmp_path / "token"
    file.write_text("one")
    credentials = Credentials(TARGET, Options(token_file=file), lambda: 0.0)  # it would not look by itself
    shown = credentials.metadata()
    refused = NotPermittedError("authentication is required", code="UNAUTHENTICATED")
    denied = NotPermittedError("permission denied", code="PERMISSION_DENIED")
    assert credentials.of_stream(refused, shown) is refused
    file.write_text("another")
    assert isinstance(credentials.of_stream(refused, shown), AbortedError)
    assert credentials.of_stream(denied, shown) is denied


def test_options_from_an_environment(tmp_path):
    assert Options.from_environment({"PBA_CA": "", "PBA_TARGET": "x"}) == Options()
    found = Options.from_environment({"PBA_CA": "/ca", "PBA_TOKEN_FILE": "/token", "PBA_SERVER_NAME": "pba"})
    assert found.tls == TlsFiles(tmp_path.__class__("/ca"), server_name="pba")
    assert str(found.token_file) == "/token"
    with pytest.raises(ValueError, match="together"):
        Options.from_environment({"PBA_CERT": "/crt"})


def test_secrets_are_not_in_what_options_look_like():
    assert "hunter2" not in repr(
        Options(token="hunter2", metadata=(("a", "hunter2"),), tls=Tls(private_key=b"hunter2", certificate_chain=b""))
    )
