"""A history file outlives a start that fails or is broken off."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from pba_service.access.watched import FileRefusedError
from pba_service.app import read_settings, running
from pba_service.app import run as app_run
from pba_service.domain.errors import ModelRefusedError
from pba_service.workers import run as workers
from pba_service.workers.fleet import WorkerStartError
from tests.process import ROOT
from tests.servers import wait_until

TIMEOUT_S = 60


def rows(count, links=1):
    end = datetime.now(UTC).replace(microsecond=0)
    times = [(end - timedelta(minutes=k)).isoformat() for k in range(count)]
    return "".join(
        json.dumps({"link_id": f"l{link}", "measured_at": time, "latency_ms": 20.5}) + "\n"
        for link in range(links)
        for time in times
    )


@pytest.fixture
def environment(redis_server, tmp_path):
    return {
        "PBA_REDIS_URL": redis_server.url,
        "PBA_GRPC_PORT": "0",
        "PBA_METRICS_PORT": "0",
        "PBA_DATA_PATH": str(tmp_path / "history.jsonl"),
        "PBA_LOG_FORMAT": "json",
        "HOME": str(tmp_path),
    }


@pytest.fixture
def no_model(environment, tmp_path):
    (tmp_path / "models").mkdir()
    return environment | {"PBA_MODEL_PATH": str(tmp_path / "models")}


async def test_a_model_that_is_refused_leaves_the_history_file_alone(no_model, tmp_path):
    file, content = tmp_path / "history.jsonl", rows(100)
    file.write_text(content)
    with pytest.raises(ModelRefusedError):
        async with running(read_settings(no_model)):
            pass
    assert file.read_text() == content


async def test_workers_that_cannot_start_leave_the_history_file_alone(no_model, tmp_path):
    file, content = tmp_path / "history.jsonl", rows(100)
    file.write_text(content)
    with pytest.raises(WorkerStartError):
        await workers.run(read_settings(no_model | {"PBA_WORKERS": "2"}))
    assert file.read_text() == content


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"PBA_REDIS_URL": "redis://127.0.0.1:1"}, "the store is unavailable"),
        ({"PBA_MAX_LINKS": "1"}, "links of this service: at most 1"),
    ],
)
def test_a_history_that_cannot_be_stored_is_told_in_one_line(environment, tmp_path, changed, why, count):
    file, content = tmp_path / "history.jsonl", rows(3, links=2)
    file.write_text(content)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]), "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "-m", "pba_service", "serve"],
        check=False,
        env=environment | paths | changed | {"PBA_WORKERS": count},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"pba: PBA_DATA_PATH={file} cannot be taken in: {why}"
    assert "Traceback" not in ended.stderr
    assert file.read_text() == content


async def test_what_could_not_be_read_stays_through_later_starts(environment, tmp_path):
    file = tmp_path / "history.jsonl"

    def kept():
        return {path.name: path.read_text() for path in tmp_path.glob("history.jsonl.kept*")}

    for content in ("first\n", "second\n", rows(1), "third\n"):
        file.write_text(content)
        async with running(read_settings(environment)):
            pass
    assert kept() == {
        "history.jsonl.kept": "third\n",
        "history.jsonl.kept.1": "second\n",
        "history.jsonl.kept.2": "first\n",
    }
    for age in range(3, 10):
        (tmp_path / f"history.jsonl.kept.{age}").write_text(f"{age}\n")
    file.write_text("fourth\n")
    async with running(read_settings(environment)):
        pass
    assert len(kept()) == 10
    assert kept()["history.jsonl.kept.9"] == "8\n"


async def test_a_ports_file_that_cannot_be_written_is_told(environment, tmp_path):
    wrong = tmp_path / "nowhere" / "ports.json"
    for count, start in (("1", app_run), ("2", workers.run)):
        told = read_settings(environment | {"PBA_PORTS_FILE": str(wrong), "PBA_WORKERS": count})
        with pytest.raises(FileRefusedError, match=r"PBA_PORTS_FILE=.* cannot be written: No such file"):
            await start(told)


@pytest.mark.parametrize("count", ["1", "2"])
def test_who_is_told_to_stop_while_the_history_is_read_stops_and_leaves_the_file_alone(
    environment, redis_server, tmp_path, count
):
    file, content = tmp_path / "history.jsonl", rows(1_500, links=200)
    file.write_text(content)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]), "PATH": os.environ["PATH"]}
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "pba_service", "serve"],
            env=environment | paths | {"PBA_WORKERS": count},
            stdin=subprocess.DEVNULL,
            stderr=said,
        ) as process,
    ):
        wait_until(lambda: redis_server.client.dbsize() > 10, TIMEOUT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    told = log.read_text()
    assert "history_imported" not in told  # it was told early enough
    assert "grpc_listening" not in told
    assert file.read_text() == content
