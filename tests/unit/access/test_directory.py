"""The callers' file."""

import hashlib

import pytest

from pba_service.access.callers import Role
from pba_service.access.directory import read_directory
from pba_service.access.watched import FileRefusedError

HASH = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture
def write(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "callers.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_callers_by_token_and_by_certificate(write):
    directory = read_directory(
        write(f"""
[[caller]]
name = "ops"
roles = ["admin"]
token_sha256 = "{HASH}"

[[caller]]
certificate = "board.example"
name = "board"
roles = ["subscriber"]
reads = ["*"]

[[caller]]
certificate = "*.nodes.example"
roles = ["node"]
""")
    )
    assert directory.by_token("secret").name == "ops"
    assert directory.by_token("Secret") is None
    assert directory.by_token(HASH) is None
    assert directory.by_certificate(("other", "board.example")).name == "board"
    node = directory.by_certificate(("fra-1.nodes.example",))
    assert node.roles == {Role.NODE}
    assert node.owns("fra-1.nodes.example/ams")
    for name in ("nodes.example", ".nodes.example", "a.b.nodes.example", "x/y.nodes.example", "a.nodes.example.evil"):
        assert directory.by_certificate((name,)) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no \\[\\[caller"),
        ("x = [", "no TOML"),
        ('[[caller]]\nname="a"\nroles=["admin"]', "needs either"),
        (f'[[caller]]\nname="a"\nroles=["admin"]\ncertificate="c"\ntoken_sha256="{HASH}"', "needs either"),
        ('[[caller]]\nname="a"\nroles=["admin"]\ntoken_sha256="hunter2"', "64 hexadecimal"),
        (f'[[caller]]\nname="a"\nroles=["root"]\ntoken_sha256="{HASH}"', "needs roles"),
        (f'[[caller]]\nroles=["admin"]\ntoken_sha256="{HASH}"', "name"),
        (f'[[caller]]\nname="a"\nrole="admin"\ntoken_sha256="{HASH}"', "may have only"),
        ('[[caller]]\ncertificate="*.*"\nroles=["node"]', "one \\*"),
        ('[[caller]]\ncertificate="*.a"\nroles=["node"]\nlinks=["*"]', "with a pattern"),
        (f'[[caller]]\nname="a"\nroles=["node"]\ntoken_sha256="{HASH}"\n' * 2, "the same token"),
        ("caller = 5", "no \\[\\[caller"),
        ("caller = [5]", "may have only"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_secrets(write, text, told):
    with pytest.raises(FileRefusedError, match=told) as caught:
        read_directory(write(text))
    assert "hunter2" not in str(caught.value)
    assert HASH not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_file_that_everybody_reads_or_writes_is_refused(write, mode):
    text = f'[[caller]]\nname="a"\nroles=["admin"]\ntoken_sha256="{HASH}"'
    with pytest.raises(FileRefusedError, match="by everybody"):
        read_directory(write(text, mode))
    assert read_directory(write(text, 0o640)).by_token("secret")
