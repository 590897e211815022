"""What training commands train on: the last days of what a service holds, and files."""

import csv
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import numpy as np
import pytest

from pba_client import Sample
from pba_service.cli.train import service_history
from pba_service.training.dataset import read_traces
from tests.process import ROOT, ServiceProcess


def test_the_last_days_of_every_link(tmp_path):
    now = datetime.now(UTC).replace(microsecond=0)
    times = {
        "a": [now - timedelta(days=days) for days in (0, 1, 3)],
        "b": [now - timedelta(days=1.5)],
        "old": [now - timedelta(days=9)],
    }
    with ServiceProcess(tmp_path) as service, service.client() as client:
        client.push(
            [Sample(link, measured_at=time, latency_ms=20.0) for link, of_link in times.items() for time in of_link]
        )
        with service_history(service.target, days=2) as file:
            found = {trace.link_id: len(trace.series) for trace in read_traces(file)}
        assert found == {"a": 2, "b": 1}
        assert not file.exists()


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="retraining needs the extra named train")
def test_retraining_from_a_file_gives_a_model_that_waits_to_be_tried(tmp_path, redis_server):
    file, samples = tmp_path / "metrics.csv", 900
    start, noise = datetime.now(UTC).replace(microsecond=0) - timedelta(days=5), np.random.default_rng(1)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["link_id", "measured_at", "bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms"])
        for minute in range(samples):
            late = timedelta(hours=3 * (minute > samples / 2))  # the gap of a night in which nobody scraped
            time = (start + timedelta(minutes=minute) + late).isoformat()
            writer.writerow(["fra-ams", time, round(900 + 30 * noise.normal(), 1), 8.5, "", ""])
    done = subprocess.run(
        [sys.executable, "-m", "pba_service", "retrain", "--data", str(file)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
            "PBA_REDIS_URL": redis_server.url,
            "PBA_DATA_DIR": str(tmp_path / "data"),
            "PBA_RETRAIN_EFFORT": "0.02",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version = done.stdout.split()[-1]
    with ServiceProcess(tmp_path, redis_url=redis_server.url) as service, service.client() as client:
        [run, model] = [client.retraining().run, next(one for one in client.models() if one.version == version)]
        assert (run.version, run.experiment) == (version, "")
        assert (model.training.rows, model.training.links) == (samples, 1)
        assert client.model_state().active_version != version
