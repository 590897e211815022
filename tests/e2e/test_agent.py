"""The agent against the real service: a day of faults in a few seconds, and a process that is killed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import Backoff, Client, Options, UnavailableError
from pba_client.agent import AgentConfig, LinkConfig, Measurement
from pba_client.agent.clock import Clock
from pba_client.agent.courier import ClientService, Courier
from pba_client.agent.depot import Depot
from pba_client.agent.guide import Guide
from pba_client.resume import Retry
from tests.process import PATIENT, ROOT, ServiceProcess
from tests.servers import free_ports, wait_until

LINKS = (LinkConfig("day/a", "192.0.2.7"), LinkConfig("day/b", "192.0.2.8"))
TURNS = 288
TURN_S = 300.0
SPARE_TURNS = 12
"""Time that is left before the real present, which the last deliveries take."""

RECORDS = 40
"""Of the ring: twenty turns, so that long outages overrun it."""


class Times:
    """Clocks of a node that tests move; a day begins so that it is over shortly before the real present."""

    def __init__(self):
        self.true_s, self.boot_s, self.error_s = time.time() - (TURNS + SPARE_TURNS) * TURN_S, 10_000.0, 0.0
        self.clock = Clock(lambda: self.true_s + self.error_s, lambda: self.boot_s, lambda: self.boot_s)

    def pass_s(self, seconds):
        self.true_s += seconds
        self.boot_s += seconds


class Unsteady:
    """The real service over a network that cuts calls off, before or after they have taken effect."""

    def __init__(self, client, chance):
        self.service, self.chance, self.away = ClientService(client), chance, False

    def push(self, samples):
        if self.away or self.chance.random() < 0.05:
            raise UnavailableError("cut off", code="UNAVAILABLE")
        result = self.service.push(samples)
        if self.chance.random() < 0.05:
            raise UnavailableError("cut off after it was stored", code="UNAVAILABLE")
        return result

    def parameters(self, link, guide):
        if self.away:
            raise UnavailableError("cut off", code="UNAVAILABLE")
        return self.service.parameters(link, guide)


class Day:
    def __init__(self, folder, client):
        self.folder, self.times, self.chance = folder, Times(), random.Random(7)  # noqa: S311 - no secret
        self.service = Unsteady(client, self.chance)
        self.measured = self.dropped_in_memory = 0
        self.start()

    def start(self):
        """The agent starts, with what lies on the disk."""
        self.depot = Depot(self.folder / "samples.ring", RECORDS, self.times.clock, most_in_memory=10)
        guide = Guide(LINKS, TURN_S, lambda decision: None, self.times.boot_s)
        retry = Retry(Backoff(initial_s=1.0, maximum_s=60.0), self.chance.uniform)
        config = AgentConfig(LINKS, self.folder, interval_s=TURN_S)
        self.courier = Courier(config, self.depot, guide, service=self.service, clock=self.times.clock, retry=retry)

    def crash(self):
        """The process dies: the kernel closes its files, and nobody does anything in good order."""
        os.close(self.depot._ring._descriptor)
        self.start()

    def disk_fails(self):
        """After the next start the state folder cannot be used."""
        self.folder.rename(self.folder.with_suffix(".aside"))
        self.folder.write_text("no folder")

    def disk_is_back(self):
        self.folder.unlink()
        self.folder.with_suffix(".aside").rename(self.folder)

    def turn(self):
        """A turn of all links; each sample's latency is its number, by which it is known again."""
        found = []
        for link in LINKS:
            self.measured += 1
            found.append(Measurement(link.link, round(self.times.clock.wall() * 1000), latency_ms=float(self.measured)))
        self.depot.add(found)
        self.courier.measured()
        self.work(TURN_S)

    def work(self, seconds):
        end_s = self.times.boot_s + seconds
        while (left_s := end_s - self.times.boot_s) > 0:
            self.times.pass_s(min(max(self.courier.work(), 0.05), left_s))

    def service_goes(self):
        self.service.away = True

    def service_comes(self):
        self.service.away = False

    def clock_is_wrong_by(self, seconds):
        self.times.error_s = seconds

    def run(self):
        happens = {
            20: self.service_goes,  # for an hour
            32: self.service_comes,
            60: self.crash,
            61: self.crash,
            80: lambda: self.clock_is_wrong_by(-5400.0),
            90: lambda: self.clock_is_wrong_by(0.0),
            99: self.disk_fails,
            100: self.crash,
            104: self.disk_is_back,
            130: self.service_goes,  # for more than the ring holds
            140: self.crash,
            170: self.service_comes,
            200: self.crash,
            220: lambda: self.clock_is_wrong_by(40.0),
            230: lambda: self.clock_is_wrong_by(0.0),
            270: lambda: self.clock_is_wrong_by(7200.0),  # beyond the real present: the service refuses
            280: lambda: self.clock_is_wrong_by(0.0),
        }
        for turn in range(TURNS):
            happens.get(turn, lambda: None)()
            self.turn()


def test_a_day_of_faults_every_sample_is_in_the_history_once_or_counted(tmp_path):
    port = str(free_ports(1)[0])
    with (
        ServiceProcess(tmp_path / "service", environment={"PBA_GRPC_PORT": port}) as service,
        Client(service.target, Options(timeouts=PATIENT.timeouts, patience_s=0)) as client,
    ):
        day = Day(tmp_path / "state", client)
        day.run()
        assert day.measured == TURNS * len(LINKS)
        service.kill()
        service.start()
        for _ in range(3):
            day.turn()
        wait_until(lambda: day.work(60) or not day.depot.waiting, timeout_s=60, what="the last delivery")
        start, end = (datetime.now(UTC) + timedelta(days=days) for days in (-3, 3))
        with service.client() as reader:
            stored = [int(one.latency_ms) for link in LINKS for one in reader.history(link.link, start, end)]
        dropped = day.depot.dropped
    assert len(stored) == len(set(stored))
    assert len(stored) + dropped == day.measured
    assert day.courier.counts.restamped > 0
    # only what the long outage overran is missing: the oldest of it
    missing = sorted(set(range(1, day.measured + 1)) - set(stored))
    assert 0 < len(missing) == dropped < 2 * 40
    assert 2 * 130 < missing[0] < missing[-1] < 2 * 170


AGENT = """
node: here
interval: 1s
poll: 200ms
probes_per_s: 100
state_dir: state
key_file: key
service: {{target: "127.0.0.1:{service}"}}
parameters_dir: parameters
metrics_file: metrics.prom
links:
  - {{link: here-there, address: 127.0.0.1, ports: [1], probe: {{port: {port}, rate: 40, timeout: 200ms}}}}
respond: {{host: 127.0.0.1, port: {port}}}
"""


@pytest.fixture
def agent(tmp_path):
    """Starts an agent process; its log is appended to a file."""
    started = []
    log = tmp_path / "agent.log"

    def start():
        with log.open("ab") as file:
            one = subprocess.Popen(
                [sys.executable, "-m", "pba_client.agent", "run", "--config", str(tmp_path / "agent.yaml")],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
                stderr=file,
            )
        started.append(one)
        return one

    yield start, log
    for one in started:
        one.kill()
        one.wait()


def test_a_process_that_is_killed_again_and_again_loses_nothing_it_has_told(agent, tmp_path):
    start, log = agent
    (tmp_path / "key").write_text("a key that both sides hold")
    udp_port, grpc_port = free_ports(2)
    (tmp_path / "agent.yaml").write_text(AGENT.format(service=grpc_port, port=udp_port))

    def told():
        lines = log.read_text().splitlines() if log.exists() else []
        whole = [line for line in lines if '"event": "sample"' in line and line.endswith("}")]
        return [json.loads(line)["measured_at_ms"] for line in whole]

    with ServiceProcess(tmp_path / "service", environment={"PBA_GRPC_PORT": str(grpc_port)}) as service:
        for count in (2, 4):
            one = start()
            wait_until(lambda count=count: len(told()) >= count, timeout_s=60, what="samples")
            one.kill()
            one.wait()
        service.kill()
        one = start()
        wait_until(lambda: len(told()) >= 6, timeout_s=60, what="samples while the service is away")
        one.kill()
        one.wait()
        service.start()
        one = start()
        with service.client() as client:

            def history():
                start_time = datetime.now(UTC) - timedelta(hours=1)
                found = client.history("here-there", start_time)
                return [round(sample.measured_at.timestamp() * 1000) for sample in found]

            before = set(told())
            wait_until(lambda: before <= set(history()), timeout_s=60, what="the samples of all lives")
            wait_until((tmp_path / "parameters" / "here-there.json").exists, timeout_s=30)
            stored = history()
            # the first turn of this life may be over before enough probes were answered
            metrics_file = tmp_path / "metrics.prom"
            wait_until(lambda: 'metric="latency_ms"' in metrics_file.read_text(), timeout_s=30, what="a latency")
        one.send_signal(signal.SIGTERM)
        assert one.wait(20) == 0
    assert len(stored) == len(set(stored))
    decision = json.loads((tmp_path / "parameters" / "here-there.json").read_text())
    assert decision["streams"] >= 1
    metrics = (tmp_path / "metrics.prom").read_text()
    assert "pba_agent_samples_delivered_total" in metrics
    assert 'metric="latency_ms",source="probe_two_way"' in metrics


def test_a_reflector_whose_port_is_taken_ends_the_start(agent, tmp_path):
    start, log = agent
    (tmp_path / "key").write_text("a key that both sides hold")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (tmp_path / "agent.yaml").write_text(f"key_file: key\nrespond: {{host: 127.0.0.1, port: {port}}}\n")
        assert start().wait(30) == 1
    assert "Address already in use" in log.read_text()
    assert "Traceback" not in log.read_text()
