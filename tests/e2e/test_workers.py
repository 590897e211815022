"""Several processes on one port are one service."""

import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import prediction_service_pb2_grpc

from tests.process import ROOT, ServiceProcess
from tests.servers import free_ports, wait_until

WORKERS = 2
CONNECTIONS = 16
LINKS = 2
ROUNDS = (60, 115)  # so many minutes, and more until two processes have met at one link
TIMEOUT_S = 30
AHEAD = {"PBA_MAX_CLOCK_SKEW": "1h"}


@pytest.fixture
def two(tmp_path):
    file = tmp_path / "history.jsonl"
    time = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    file.write_text(json.dumps({"link_id": "from-file", "measured_at": time.isoformat(), "latency_ms": 20.5}) + "\n")
    with ServiceProcess(
        tmp_path, environment=AHEAD | {"PBA_WORKERS": str(WORKERS), "PBA_DATA_PATH": str(file)}
    ) as service:
        yield service


class Connections:
    """Stubs with a TCP connection each; the kernel gives each to one of the processes."""

    def __init__(self, target, count=CONNECTIONS):
        alone = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(target, options=alone) for _ in range(count)]
        self.stubs = [prediction_service_pb2_grpc.PredictionServiceStub(channel) for channel in self._channels]

    def __enter__(self):
        return self.stubs

    def __exit__(self, *_):
        for channel in self._channels:
            channel.close()


def value_of(service, name, **labels):
    wanted = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else "")
    return sum(float(line.split()[-1]) for line in service.metrics().splitlines() if line.split(" ")[0] == wanted)


def workers_of(service):
    pid = service.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if is_worker(int(child))}


def is_worker(pid):
    try:
        return b"workers.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def sample(link, minute, start):
    time = Timestamp()
    time.FromDatetime(start + timedelta(minutes=minute))
    request = pb.PushSamplesRequest()
    request.samples.add(
        link_id=f"link-{link}",
        measured_at=time,
        bandwidth_mbps=50 + (minute * 7 + link * 13) % 11,
        latency_ms=20 + minute % 3,
    )
    return request


def push_round(stubs, minute, start):
    for link in range(LINKS):
        answer = next(stubs).PushSamples(sample(link, minute, start), timeout=TIMEOUT_S)
        assert (answer.stored, answer.refused) == (1, 0)


def newest(stubs, made_at):
    """The prediction of each link, from every process, once it knows the newest sample."""
    found = []
    for link in range(LINKS):
        answers = [stub.Predict(pb.PredictRequest(link_id=f"link-{link}"), timeout=TIMEOUT_S) for stub in stubs]
        assert all(answer == answers[0] for answer in answers)
        assert answers[0].prediction.made_at.ToDatetime(UTC) == made_at
        ledger = stubs[0].GetLedger(pb.GetLedgerRequest(link_id=f"link-{link}"), timeout=TIMEOUT_S)
        found.append((answers[0], [entry for page in ledger for entry in page.entries]))
    return found


def test_links_split_over_processes_are_what_one_process_would_make_of_them(two, tmp_path):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=ROUNDS[0])
    done = threading.Event()

    def meddle(stub):
        while not done.is_set():
            for link in range(LINKS):
                try:
                    stub.Predict(pb.PredictRequest(link_id=f"link-{link}"), timeout=TIMEOUT_S)
                except grpc.RpcError as error:
                    # before the first ten samples, or while the newest one lies too far back
                    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error  # noqa: PT017 - in a thread

    with Connections(two.target) as stubs:
        first = itertools.cycle(stubs)
        push_round(first, 0, start)
        meddlers = [threading.Thread(target=meddle, args=(stub,)) for stub in stubs[:4]]
        for meddler in meddlers:
            meddler.start()
        try:
            for minute in range(1, ROUNDS[1]):
                push_round(first, minute, start)
                enough = minute >= ROUNDS[0] and minute % 10 == 0
                if enough and value_of(two, "dwcp_pba_commit_conflicts_total") > 0:
                    break
        finally:
            done.set()
            for meddler in meddlers:
                meddler.join()
        split = newest(stubs, start + timedelta(minutes=minute))
        calls = [value_of(two, "dwcp_pba_worker_calls_total", worker=place) for place in range(WORKERS)]
        assert all(calls), f"connections did not spread: {calls}"
        assert value_of(two, "dwcp_pba_commit_conflicts_total") > 0, "the processes never met: nothing was tested"
        history = [row for page in stubs[0].GetHistory(pb.GetHistoryRequest(link_id="link-1")) for row in page.samples]
        times = [row.measured_at.ToMilliseconds() for row in history]
        assert len(times) == len(set(times)) == minute + 1
        assert times == sorted(times)

    with ServiceProcess(tmp_path / "one", environment=AHEAD) as one, Connections(one.target, 1) as stubs:
        for again in range(minute + 1):
            push_round(itertools.cycle(stubs), again, start)
        alone = newest(stubs, start + timedelta(minutes=minute))
    assert split == alone


def test_a_worker_that_dies_is_replaced_and_the_service_goes_on(two, tmp_path):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    with Connections(two.target) as stubs:
        push_round(itertools.cycle(stubs), 0, start)
    assert value_of(two, "dwcp_pba_samples_total", outcome="stored") == LINKS + 1  # and the one from the file, once
    before = workers_of(two)
    os.kill(min(before), 9)
    wait_until(lambda: not Path(f"/proc/{min(before)}").exists(), what="the end of its connections")
    with Connections(two.target) as stubs:  # new connections come to those that listen
        for minute in range(1, 5):
            push_round(itertools.cycle(stubs), minute, start)
    two.wait_until(lambda: len(workers_of(two) - before) == 1, "replace the worker")
    two.wait_until(lambda: value_of(two, "dwcp_pba_samples_total", outcome="stored") >= LINKS * 4, "count")

    assert two.stop() == 0
    log = two.log.read_text()
    assert "worker_ended" in log
    assert "Traceback" not in log
    exported = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(exported) == LINKS * 5 + 1
    assert not list(tmp_path.glob("*.kept"))


def test_a_second_service_is_refused_the_port_and_no_worker_outlives_its_supervisor(two, tmp_path):
    own = {"PBA_GRPC_PORT": str(two.grpc_port), "PBA_METRICS_PORT": "0", "PBA_DATA_DIR": str(tmp_path / "d")}
    found = subprocess.run(
        [sys.executable, "-m", "pba_service", "serve"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]), "PBA_WORKERS": "2", **own},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert f"cannot listen on 127.0.0.1:{two.grpc_port}" in found.stderr
    assert "Traceback" not in found.stderr

    left = workers_of(two)
    assert len(left) == WORKERS
    two.kill()
    wait_until(lambda: not any(is_worker(pid) for pid in left), 30, "the workers' end")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_is_told_to_stop_while_its_redis_is_not_there_yet_stops(tmp_path, workers):
    [port] = free_ports(1)
    own = {"PBA_GRPC_PORT": "0", "PBA_METRICS_PORT": str(port), "PBA_DATA_DIR": str(tmp_path), "PBA_WORKERS": workers}
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another service does whose server does not answer
        with subprocess.Popen(
            [sys.executable, "-m", "pba_service", "serve"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]), **own},
            stderr=subprocess.PIPE,
            text=True,
        ) as service:
            wait_until(lambda: _listens(port), what="the metrics endpoint")
            service.terminate()
            said = service.communicate(timeout=60)[1]
    assert service.returncode == 0, said
    assert "Traceback" not in said


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
