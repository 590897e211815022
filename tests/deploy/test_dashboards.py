"""Every panel of every dashboard, asked of a real Prometheus that scraped a real PBA: each must return data."""

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event

import pytest

from pba_client import PbaClientError, Sample
from tests.deploy.tools import tool
from tests.process import ROOT, ServiceProcess

BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
LINK = "fra-ams"
VARIABLES = {"link": LINK}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """The address of a Prometheus that has scraped a service which did some of everything."""
    program = tool("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    stop = Event()
    with ServiceProcess(folder / "service") as service, ThreadPoolExecutor(1) as pool:
        using = pool.submit(use, service, stop)
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "- job_name: pba\n"
            f"  static_configs: [{{targets: ['127.0.0.1:{service.metrics_port}']}}]\n"
        )
        port = free_port()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: len(ask(address, "dwcp_pba_sample_count[1m]", "matrix", samples=3)))
            yield address
        finally:
            stop.set()
            process.terminate()
            process.wait(30)
        using.result()


def use(service, stop):
    """Feeds a link minute after minute of its past, quickly, and asks what callers ask, until told to stop."""
    minutes = count()
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=20)
    with service.client() as client:
        serving = client.model_state().active_version
        client.start_experiment(next(model.version for model in client.models() if model.version != serving))
        while not stop.wait(0.05):
            minute = next(minutes)
            client.push(
                Sample(
                    LINK,
                    start + timedelta(minutes=minute),
                    bandwidth_mbps=900 + minute % 7,
                    latency_ms=8 + minute % 3,
                    packet_loss_ratio=0.001,
                    jitter_ms=0.5,
                )
            )
            client.parameters(LINK)
            with suppress(PbaClientError):
                client.predict(LINK)  # which says that the past is past: an answer like any other


def queries():
    for path in BOARDS:
        board = json.loads(path.read_text())["dashboard"]
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield pytest.param(target["expr"], id=f"{path.stem}-{panel['title']}-{target['refId']}")


@pytest.mark.parametrize("expr", list(queries()))
def test_every_panel_returns_data(prometheus, expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(f"${name}", value)
    # the run is younger than the windows and the horizon that a person looks over
    expr = re.sub(r"\[\w+\]", "[30s]", expr).replace("offset 15m", "offset 1s")
    wait_for(lambda: ask(prometheus, expr, "vector"))


def test_the_choices_of_a_dashboard_have_values(prometheus):
    for path in BOARDS:
        for variable in json.loads(path.read_text())["dashboard"].get("templating", {}).get("list", ()):
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
                assert LINK in {one["metric"][label] for one in ask(prometheus, series, "vector")}


def ask(address, expr, kind, samples=0):
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a loopback address
            data = json.load(answer)["data"]
    except OSError:
        return []
    assert data["resultType"] == kind, expr
    return [one for one in data["result"] if len(one.get("values", ())) >= samples]


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "no data"
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
