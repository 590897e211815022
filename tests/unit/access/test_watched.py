"""Files that are read anew, and kept when the new ones are broken."""

import asyncio
import os

import pytest

from pba_service.access.certificates import read_certificates
from pba_service.access.watched import MAX_FILE_BYTES, FileRefusedError, Watched, poll_all, read_bytes
from tests.identities import Authority


@pytest.fixture(scope="module")
def authority():
    return Authority()


def watched(path, told):
    def load():
        content = read_bytes(path)
        if content == b"broken":
            raise FileRefusedError("it is broken")
        return content

    return Watched("thing", [path], load, lambda name, good: told.append((name, good)))


def test_a_changed_file_is_taken_and_a_broken_one_is_not(tmp_path):
    path, told = tmp_path / "file", []
    path.write_bytes(b"one")
    value = watched(path, told)
    assert not value.poll()
    path.write_bytes(b"two")
    assert value.poll()
    assert (value.value, value.generation) == (b"two", 1)
    path.write_bytes(b"broken")
    assert not value.poll()
    assert not value.poll()
    path.unlink()
    assert not value.poll()
    assert (value.value, value.generation) == (b"two", 1)
    path.write_bytes(b"three")
    assert value.poll()
    assert value.value == b"three"
    assert told == [("thing", True), ("thing", False), ("thing", False), ("thing", True)]


def test_a_link_to_another_file_is_a_change(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    path = tmp_path / "current"
    path.symlink_to("a")
    value = watched(path, [])
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").replace(path)
    assert value.poll()
    assert value.value == b"b"


def test_a_broken_file_at_the_start_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"broken")
    with pytest.raises(FileRefusedError):
        watched(path, [])


def test_what_is_no_plain_small_file(tmp_path):
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(FileRefusedError, match="no file of at most"):
        read_bytes(big)
    with pytest.raises(FileRefusedError):
        read_bytes(tmp_path)
    with pytest.raises(FileRefusedError, match="No such file"):
        read_bytes(tmp_path / "none")


def test_certificates_that_fit_each_other(authority, tmp_path):
    files = authority.pair().write(tmp_path)
    found = read_certificates(*files, authority.write(tmp_path))
    assert found.client_ca == authority.certificate
    assert "PRIVATE" not in repr(found)


def test_certificates_that_do_not(authority, tmp_path):
    certificate, key = authority.pair().write(tmp_path)
    _, other_key = authority.pair().write(tmp_path, "other")
    with pytest.raises(FileRefusedError, match="is not the key of"):
        read_certificates(certificate, other_key)
    with pytest.raises(FileRefusedError, match="expired"):
        read_certificates(*authority.pair(days=-1).write(tmp_path, "old"))
    with pytest.raises(FileRefusedError, match="no certificate"):
        read_certificates(key, key)
    with pytest.raises(FileRefusedError, match="no private key"):
        read_certificates(certificate, certificate)
    os.chmod(key, 0o644)  # noqa: PTH101 - the same
    with pytest.raises(FileRefusedError, match="by everybody"):
        read_certificates(certificate, key)


async def test_all_that_changed_between_two_looks_is_taken_at_the_first(tmp_path):
    paths = [tmp_path / name for name in ("certificates", "callers")]
    for path in paths:
        path.write_bytes(b"one")
    values = [Watched(path.name, [path], lambda path=path: read_bytes(path)) for path in paths]
    seen, changed = [], asyncio.Event()

    def told():
        seen.append([value.value for value in values])
        changed.set()

    for path in paths:
        path.write_bytes(b"other")
    looking = asyncio.create_task(poll_all(values, told, every_s=0.0))
    async with asyncio.timeout(5):
        await changed.wait()
    looking.cancel()
    assert seen[0] == [b"other", b"other"]
