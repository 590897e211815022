"""`pba export --from-prometheus` against a real Prometheus that scraped a real PBA."""

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import Sample
from pba_service.cli.prometheus import Prometheus
from pba_service.cli.told import CommandError, ExitCode
from pba_service.files import read_links
from tests.deploy.tools import tool
from tests.process import ROOT, ServiceProcess
from tests.servers import free_ports, wait_until

SAMPLES = 5
LINKS = ("fra-ams", 'odd "link", with commas')
LIMIT_S = 60
STEP = "250ms"


@contextmanager
def prometheus(program, folder, target_port):
    """The address of a server that scrapes a port often."""
    [port] = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: pba, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}]\n"
    )
    where = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, f"--config.file={config}", *where], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def steadily_told(address, expr, seconds):
    """Whether an expression has held at every point of the last seconds, so that no point in time can miss it."""
    span = f"({expr})[{seconds}s:100ms]"
    asked = urllib.parse.urlencode(
        {"query": f"min_over_time({span}) * (count_over_time({span}) >= bool {9 * seconds})"}
    )
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{asked}", timeout=5) as answer:  # noqa: S310 - loopback
            found = json.load(answer)["data"]["result"]
    except OSError:
        return False
    return len(found) == len(LINKS) and all(one["value"][1] == "1" for one in found)


def pba(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pba_service", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def samples_of(file):
    found = {}
    for one in read_links(file):
        rows = zip(one.series.times_ms.tolist(), one.series.values.tolist(), strict=True)
        found[one.info.link_id] = [(time, [None if value != value else value for value in row]) for time, row in rows]  # noqa: PLR0124 - NaN
    return found


def test_what_was_pushed_is_what_is_exported(tmp_path, redis_server):
    program = tool("prometheus")
    start = datetime.now(UTC).replace(microsecond=250_000) - timedelta(hours=3)
    pushed = {link: [] for link in LINKS}
    with ServiceProcess(tmp_path / "service") as service, service.client() as client:
        with prometheus(program, tmp_path, service.metrics_port) as address:
            for minute in (*range(SAMPLES - 1), 60):  # the last after a silence
                time = start + timedelta(minutes=minute)
                for place, link in enumerate(LINKS):
                    sample = Sample(link, time, bandwidth_mbps=90.1 + minute, latency_ms=8.5 + place)
                    client.push(sample)
                    row = [sample.bandwidth_mbps, sample.latency_ms, None, None]
                    pushed[link].append((round(time.timestamp() * 1000), pytest.approx(row)))
                told = f"dwcp_pba_newest_sample_timestamp_seconds == bool {time.timestamp():.3f}"
                wait_until(lambda told=told: steadily_told(address, told, 1), LIMIT_S, "the scrapes")
            for name in ("out.csv", "out.parquet"):
                wanted = {"PROMETHEUS_URL": address, "OUTPUT_FILE": str(tmp_path / name), "DAYS_BACK": "0.01"}
                done = pba("export", "--from-prometheus", "--step", STEP, **wanted)
                assert done.returncode == 0, done.stderr
                assert f"{SAMPLES * len(LINKS)} samples of {len(LINKS)} links" in done.stdout + done.stderr
        for name in ("out.csv", "out.parquet"):
            assert samples_of(tmp_path / name) == pushed
            again = pba("push", str(tmp_path / name), "--target", service.target)
            assert again.returncode == 0, again.stderr
        # the way to training is the same file: here of links that are too young to learn from
        learnt = pba("retrain", "--data", str(tmp_path / "out.csv"), PBA_REDIS_URL=redis_server.url)
        assert (learnt.returncode, learnt.stdout) == (ExitCode.NOT_YET, ""), learnt.stderr
        assert "too_little_data" in learnt.stderr
        [stored] = [len(list(client.history(link))) for link in LINKS[:1]]
        assert stored == SAMPLES


def test_a_prometheus_that_is_away_is_said_without_its_password():
    [port] = free_ports(1)
    waits_s = []
    source = Prometheus(f"http://me:secret@127.0.0.1:{port}", sleep=waits_s.append)
    with pytest.raises(CommandError, match="does not answer") as failure:
        source.range("up", 0, 60, 30)
    assert failure.value.code is ExitCode.UNAVAILABLE
    assert "secret" not in str(failure.value)
    assert len(waits_s) == 3
